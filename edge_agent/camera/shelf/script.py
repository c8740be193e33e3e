"""What happens in front of the rendered shelf: a story from a seed, without looking at a pixel.

The rules it keeps, so that a right agent can tell everything that it sees:

- nothing changes in the first and last 8 s, nor within 4 s of the lens being covered;
- two changes are at least 2.5 s apart, two of one slot at least 8 s;
- every change is made by an arm that is gone again at the moment that the script names.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edge_agent.camera.shelf import layout
from edge_agent.camera.shelf.products import CATALOGUE
from edge_agent.contracts.identifiers import EMPTY

Cause = Literal["taken", "restocked", "misplaced", "removed"]

DURATION_S = 90.0
QUIET_S = 8.0
APART_S = 2.6
SLOT_APART_S = 8.2
AROUND_COVER_S = 4.2
COVER_S = 7.0
REACH_S = 1.8
"""How long an arm is in the picture to change one slot."""
GRIP_S = 0.9
"""How long before the arm is gone the slot's content changes hands."""

# One number for each use of a seed: what one draws says nothing about the others.
_SCRIPT, STREAM, PHOTOS = 11, 22, 33
_TRIES = 2000
_PASSES = 5


@dataclass(frozen=True, slots=True)
class Change:
    """A slot has new content, and the hand is gone; `at` in seconds of the script."""

    at: float
    slot: str
    label: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Pass:
    """An arm that goes by without touching anything.

    Attributes:
        start: Seconds of the script.
        end: Seconds of the script.
        path: Where its fingertips are, px, at first and at last: both outside the picture.
        lean: How far its elbow is aside, over how far it is below.
    """

    start: float
    end: float
    path: tuple[tuple[float, float], tuple[float, float]]
    lean: float


@dataclass(frozen=True, slots=True)
class Light:
    """From `at` on the light has another strength, and another colour: red over blue."""

    at: float
    gain: float
    warmth: float


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that happens."""

    seed: int
    start: dict[str, str]
    changes: tuple[Change, ...]
    passes: tuple[Pass, ...]
    covers: tuple[tuple[float, float], ...]
    lights: tuple[Light, ...]
    bumps: tuple[float, ...]
    duration_s: float = field(default=DURATION_S)

    @property
    def cover(self) -> tuple[float, float]:
        """From when until when the lens is covered for the first time, seconds of the script."""
        return self.covers[0]

    def at(self, moment: float, *, lead_s: float = 0.0) -> dict[str, str]:
        """Return the label in each slot at a moment; `lead_s` before the hands are gone."""
        changed = {change.slot: change.label for change in self.changes if change.at - lead_s <= moment}
        return self.start | changed


def write_script(seed: int) -> Script:
    """Return the story of a seed, a minute and a half; the same one each time.

    Args:
        seed: At least 0.
    """
    rng = np.random.default_rng([seed, _SCRIPT])
    begin = round(float(rng.uniform(38, 50)), 2)
    cover = (begin, begin + COVER_S)
    for _ in range(_TRIES):
        changes = _cast(rng, _stories(rng), _moments(rng, cover))
        if changes is not None:
            break
    else:
        msg = f"no order of changes keeps the rules with seed {seed}"
        raise AssertionError(msg)
    return Script(
        seed=seed,
        start={slot: place.product for slot, place in layout.places().items()},
        changes=changes,
        passes=tuple(_passes(rng, changes, cover)),
        covers=(cover,),
        lights=_lights(rng),
        bumps=tuple(sorted(round(float(at), 2) for at in rng.uniform(5, DURATION_S - 5, 2))),
    )


Action = tuple[str, str, Cause]


def _stories(rng: np.random.Generator) -> list[list[Action]]:
    """Return lists of actions that must keep their order; together they hold every kind of event."""
    groups = {product.label: layout.facings(product.label) for product in CATALOGUE}
    single = [label for label, slots in groups.items() if len(slots) == 1]
    several = [label for label, slots in groups.items() if len(slots) > 1]
    rng.shuffle(single)
    rng.shuffle(several)
    sold_out, low, nearly = several[:3]
    return [
        taken_and_back(sold_out, groups[sold_out]),
        taken_and_back(low, groups[low][1:]),
        taken_and_back(nearly, groups[nearly][-1:]),
        misplaced(rng, single[0], groups[single[0]][0]),
        taken_and_back(single[1], groups[single[1]]),
    ]


def taken_and_back(label: str, slots: list[str]) -> list[Action]:
    """Return how slots of one product are emptied and filled again."""
    taken: list[Action] = [(slot, EMPTY, "taken") for slot in slots]
    return taken + [(slot, label, "restocked") for slot in slots]


def misplaced(rng: np.random.Generator, label: str, slot: str) -> list[Action]:
    """Return how another product comes into a slot, and is put right again."""
    place = layout.places()[slot]
    others = [other.label for other in CATALOGUE if other.label != label and layout.fits(other.label, place)]
    stranger = others[int(rng.integers(len(others)))]
    return [
        (slot, EMPTY, "taken"),
        (slot, stranger, "misplaced"),
        (slot, EMPTY, "removed"),
        (slot, label, "restocked"),
    ]


def _moments(rng: np.random.Generator, cover: tuple[float, float]) -> list[float]:
    """Return moments at which something may change, rising."""
    moments, at = [], QUIET_S + REACH_S
    while at <= DURATION_S - QUIET_S - 0.1:
        if not cover[0] - AROUND_COVER_S < at < cover[1] + AROUND_COVER_S:
            moments.append(round(at, 2))
            at += float(APART_S + rng.exponential(0.35))
        else:
            at = cover[1] + AROUND_COVER_S
    return moments


def _cast(
    rng: np.random.Generator, stories: list[list[Action]], moments: list[float]
) -> tuple[Change, ...] | None:
    """Give each action a moment; None when the rules cannot be kept with this draw."""
    changes: list[Change] = []
    touched: dict[str, float] = {}
    for at in moments:
        ready = [story for story in stories if story and at - touched.get(story[0][0], -99) >= SLOT_APART_S]
        if not ready:
            continue
        # A long story must go on when it can; among equals chance decides.
        weight = np.array([len(story) ** 2 for story in ready], dtype=np.float64)
        slot, label, cause = ready[int(rng.choice(len(ready), p=weight / weight.sum()))].pop(0)
        changes.append(Change(at, slot, label, cause))
        touched[slot] = at
    return None if any(stories) else tuple(changes)


def _passes(
    rng: np.random.Generator, changes: tuple[Change, ...], cover: tuple[float, float]
) -> Iterator[Pass]:
    """Let arms go by where there is room: two at the quiet ends, the others between changes."""
    busy = [(change.at - REACH_S - 0.1, change.at + 0.1) for change in changes]
    busy.append((cover[0] - 0.5, cover[1] + 0.5))
    wanted = [rng.uniform(1.5, 3.5), rng.uniform(DURATION_S - 6, DURATION_S - 4)]
    wanted += list(rng.uniform(QUIET_S, DURATION_S - QUIET_S, 60))
    found = 0
    for begin in wanted:
        end = begin + rng.uniform(1.3, 1.9)
        if found < _PASSES and all(end < start or begin > stop for start, stop in busy):
            found += 1
            busy.append((begin - 1, end + 1))
            yield crossing(rng, float(begin), float(end))


def crossing(rng: np.random.Generator, begin: float, end: float) -> Pass:
    """Return an arm that goes by from one side of the picture to the other, in seconds of the script."""
    sides = (-230.0, layout.WIDTH + 230.0)
    first, last = sides if rng.random() < 0.5 else sides[::-1]  # noqa: PLR2004 - a coin
    height, fall, lean = rng.uniform(260, 520), rng.uniform(-60, 60), rng.uniform(-0.2, 0.2)
    path = ((first, round(float(height), 1)), (last, round(float(height + fall), 1)))
    return Pass(round(begin, 2), round(end, 2), path, round(float(lean), 3))


def _lights(rng: np.random.Generator) -> tuple[Light, ...]:
    """Return one visible step of the light, and its way back part of the way."""
    step, back = rng.uniform(22, 34), rng.uniform(62, 76)
    gain = rng.choice([rng.uniform(0.76, 0.84), rng.uniform(1.07, 1.11)])
    return (
        Light(round(float(step), 2), round(float(gain), 3), round(float(rng.uniform(0.95, 1.06)), 3)),
        Light(round(float(back), 2), round(float(rng.uniform(0.94, 1.02)), 3), 1.0),
    )
