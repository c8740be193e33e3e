"""Longer stories for the rendered shelf: shoppers come for as many minutes as wanted.

The rules it keeps, so that a right agent with the rules' own times can tell everything that it sees:

- nothing changes in the first and last 8 s, nor within 4.6 s of the lens being covered;
- two arms are at least 2.6 s apart, two changes of one slot at least 8 s;
- a change may be hidden again at once by the next arm, but before its slot changes anew, before its product
  goes the other way, and before the lens is covered, it lies in the open for at least 4.5 s without a break;
- no slot changes more often than eight times, and once more for each minute beyond eight.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edge_agent.camera.shelf import arms, layout
from edge_agent.camera.shelf.products import CATALOGUE
from edge_agent.camera.shelf.script import (
    APART_S,
    COVER_S,
    QUIET_S,
    REACH_S,
    SLOT_APART_S,
    Action,
    Change,
    Light,
    Pass,
    Script,
    crossing,
    misplaced,
    taken_and_back,
)
from edge_agent.contracts.identifiers import EMPTY

CLEAR_S = 4.5
"""How long a change lies in the open, at the least: three seconds to be sure, and one to be seen at all."""
_AROUND_COVER_S = 4.6
_SCRIPT = 12
_WAIT_S = 1.8
_COVER_EVERY_S = 120.0
_LIGHT_EVERY_S = 45.0
_BUMP_EVERY_S = 40.0
_STORIES = 4
_PASS_SHARE = 0.25
_MISPLACED_SHARE = 0.3
_CHANGES = 8


def write_long(seed: int, minutes: int) -> Script:
    """Return the story of a seed that goes on for some minutes; the same one each time.

    Args:
        seed: At least 0.
        minutes: At least 1.
    """
    rng = np.random.default_rng([seed, _SCRIPT, minutes])
    duration = 60.0 * minutes
    told = _Telling(rng, duration)
    told.tell()
    return Script(
        seed=seed,
        start={slot: place.product for slot, place in layout.places().items()},
        changes=tuple(told.changes),
        passes=tuple(told.passes),
        covers=tuple(told.covers),
        lights=tuple(_lights(rng, duration)),
        bumps=tuple(_moments(rng, duration, _BUMP_EVERY_S)),
        duration_s=duration,
    )


def _moments(rng: np.random.Generator, duration: float, every_s: float) -> Iterator[float]:
    """Yield one moment in each stretch of time, none near its ends."""
    for begin in np.arange(0.0, duration - every_s / 2, every_s):
        length = min(every_s, duration - begin)
        yield round(float(begin + rng.uniform(0.15, 0.85) * length), 2)


def _lights(rng: np.random.Generator, duration: float) -> Iterator[Light]:
    """Yield visible steps of the light, and after each one a way back, part of the way."""
    for number, at in enumerate(_moments(rng, duration, _LIGHT_EVERY_S)):
        if number % 2:
            yield Light(at, round(float(rng.uniform(0.94, 1.02)), 3), 1.0)
        else:
            gain = rng.choice([rng.uniform(0.76, 0.84), rng.uniform(1.07, 1.11)])
            yield Light(at, round(float(gain), 3), round(float(rng.uniform(0.95, 1.06)), 3))


@dataclass(slots=True)
class _Telling:
    """The story so far.

    Attributes:
        rng: Where chance comes from.
        duration: Of the whole story, s.
        hidden: Until when each slot was last hidden, s.
        open: Slots whose last change did not lie in the open for long enough yet.
    """

    rng: np.random.Generator
    duration: float
    changes: list[Change] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    covers: list[tuple[float, float]] = field(default_factory=list)
    hidden: dict[str, float] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    stories: dict[str, list[Action]] = field(default_factory=dict)
    bag: list[str] = field(default_factory=list)

    def tell(self) -> None:
        """Tell it from its beginning to its end."""
        due = [*_moments(self.rng, self.duration, _COVER_EVERY_S), np.inf]
        at = QUIET_S + REACH_S
        while at <= self.duration - QUIET_S - 0.1:
            if at + _AROUND_COVER_S >= due[0]:
                del due[0]
                at = self._cover(at)
            elif self.rng.random() < _PASS_SHARE:
                self._pass(at)
            else:
                self._change(at)
            at = round(at + APART_S + float(self.rng.exponential(_WAIT_S)), 2)

    def _cover(self, at: float) -> float:
        """Cover the lens once everything has lain in the open; return when arms may come again."""
        begin = round(at - REACH_S + _AROUND_COVER_S, 2)
        end = begin + COVER_S
        if end + QUIET_S + _AROUND_COVER_S > self.duration:
            return at
        self.covers.append((begin, end))
        self._hide(list(layout.places()), begin, end)
        return end + _AROUND_COVER_S

    def _pass(self, at: float) -> None:
        begin, end = round(at - REACH_S, 2), round(at - self.rng.uniform(0, 0.4), 2)
        arm = crossing(self.rng, begin, end)
        self.passes.append(arm)
        poses = [arms.passing(arm, float(moment)) for moment in np.linspace(begin, end, 60)[:-1]]
        self._hide(arms.crossed([pose for pose in poses if pose]), begin, end)

    def _change(self, at: float) -> None:
        self._settle(at - REACH_S)
        ready = [label for label in self._going() if self._may(self.stories[label][0], label, at)]
        if not ready:
            return
        label = str(self.rng.choice(ready))
        slot, content, cause = self.stories[label].pop(0)
        change = Change(at, slot, content, cause)
        held = self._content(slot) if content == EMPTY else content
        self.changes.append(change)
        moments = at - REACH_S + np.linspace(0, REACH_S, 25)[:-1]
        poses = [arms.reach(change, held, float(moment)) for moment in moments]
        self._hide([*arms.crossed([pose for pose in poses if pose]), slot], at - REACH_S, at)
        self.open.add(slot)

    def _hide(self, slots: list[str], begin: float, end: float) -> None:
        self._settle(begin)
        self.hidden |= dict.fromkeys(slots, end)

    def _settle(self, at: float) -> None:
        """Forget which changes have lain in the open for long enough by now."""
        self.open -= {slot for slot in self.open if at - self.hidden[slot] >= CLEAR_S}

    def _going(self) -> list[str]:
        """Return the products with which something goes on; begin anew where there are few."""
        self.stories = {label: story for label, story in self.stories.items() if story}
        if not self.bag:
            self.bag = [str(goods.label) for goods in CATALOGUE]
            self.rng.shuffle(self.bag)
        if len(self.stories) < _STORIES:
            label = self.bag.pop()
            story = self._story(label)
            if label not in self.stories and self._bearable(story):
                self.stories[label] = story
        return list(self.stories)

    def _story(self, label: str) -> list[Action]:
        slots = layout.facings(label)
        if self.rng.random() < _MISPLACED_SHARE:
            return misplaced(self.rng, label, str(self.rng.choice(slots)))
        count = int(self.rng.integers(1, len(slots) + 1))
        return taken_and_back(label, [str(slot) for slot in self.rng.permutation(slots)[:count]])

    def _bearable(self, story: list[Action]) -> bool:
        """Return whether no slot changes more often than shoppers make it."""
        most = _CHANGES + max(int(self.duration / 60) - _CHANGES, 0)
        slots = [change.slot for change in self.changes] + [action[0] for action in story]
        return all(slots.count(action[0]) <= most for action in story)

    def _may(self, action: Action, label: str, at: float) -> bool:
        slot, _, cause = action
        mine = [change for change in self.changes if change.slot in layout.facings(label)]
        last = next((change.at for change in reversed(mine) if change.slot == slot), -np.inf)
        if slot in self.open or at - last < SLOT_APART_S:
            return False
        return not mine or mine[-1].cause == cause or not self.open & set(layout.facings(label))

    def _content(self, slot: str) -> str:
        past = (change.label for change in reversed(self.changes) if change.slot == slot)
        return next(past, layout.places()[slot].product)
