"""Which crops are worth a person's label, found while the agent looks; `hard_folder` keeps them.

Rules
- Only a slot that stands still is judged: what the gate calls moving (a hand, goods on their way, a fault)
  ends whatever was going on in the slot, and crops that waited for what follows are forgotten.
- DOUBT: an answer that counts, having held as long as the rules of events ask, though the model was hardly
  sure: below the threshold of "unknown", just above it, or with a second answer close behind the first.
- FLICKER: an answer other than the confirmed one that gave way to another before it counted, while the slot
  stood still. Found as soon as the next answer comes; the crop is the one that was misjudged.
- TURNED: an answer that came to count in place of the confirmed one, although nothing had moved since the
  model last gave that one: what stands there can hardly have changed, so one of the two is wrong.
- Near copies of what was kept of the same slot are left out, and so is more than one crop of a slot for the
  same reason within `every_s`.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent import crops, rules, slots
from edge_agent.align import Matrix
from edge_agent.camera.base import Frame
from edge_agent.contracts import messages
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image, fit
from edge_agent.contracts.scoring import Floats
from edge_agent.hard_folder import THUMB_PX, Example, Folder, Why

log = logging.getLogger(__name__)

_NEAR = 0.1
"""Just above the threshold: this share of the way from there to certainty."""
_MARGIN = 0.2
"""A second answer this close behind the first leaves the first in doubt."""
_COPY_LEVELS = 3.5
"""Thumbnails in usual light differ by 2 on average in noise, shake and drifting light of rendered slots (by 3
in a real clip), by 4 with another packet of the same product, by 20 with another product."""
_EVERY_S = 60.0
_REMEMBERED = 32
"""Crops of each slot that a new one is compared with."""
_SPARE_BYTES = 256 * 1024 * 1024
"""Left free on the disk: events come first."""
_PAUSE_S = 600.0
_UNSEEN = rules.Track()


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the model said of one slot.

    Attributes:
        answer: What the agent takes it for; None: unknown.
        guess: The likeliest label, with its probability.
        second: The next one; None where there is one label only.
        at: Seconds of the camera.
    """

    answer: str | None
    guess: tuple[str, float]
    second: tuple[str, float] | None
    at: float

    @classmethod
    def of(cls, reading: rules.Reading, chances: Floats, labels: Sequence[str]) -> "Opinion":
        """Make it from a reading and the probabilities behind it, (classes,)."""
        best = [(labels[place], float(chances[place])) for place in np.argsort(-chances)[:2].tolist()]
        return cls(reading.label, best[0], best[1] if len(best) > 1 else None, reading.at)


@dataclass(frozen=True, slots=True)
class Policy:
    """How long an answer must hold to count, and under which confidence it is "unknown"."""

    confirm_s: float
    unknown_below: float


def doubtful(opinion: Opinion, policy: Policy) -> bool:
    """Return whether the model was hardly sure of an answer."""
    _, sure = opinion.guess
    enough = policy.unknown_below + _NEAR * (1 - policy.unknown_below)
    return sure < enough or (opinion.second is not None and sure - opinion.second[1] < _MARGIN)


@dataclass(frozen=True, slots=True)
class Finding:
    """An opinion on a crop that is worth a label; `confirmed`: what counted until then, if it is known."""

    opinion: Opinion
    why: Why
    confirmed: str | None


@dataclass(frozen=True, slots=True)
class Watch:
    """One slot between readings.

    Attributes:
        track: As the rules of events have it.
        counts: The answers that have been confirmed: none, or the last one.
        calm: That answer was given since the slot moved last.
        held: The first of the answers, other than that one, that may yet come to count.
    """

    track: rules.Track = _UNSEEN
    counts: tuple[str | None, ...] = ()
    calm: bool = False
    held: Opinion | None = None

    def moved(self) -> "Watch":
        """Return what is left when the slot is hidden or moves."""
        return Watch(counts=self.counts)


def step(watch: Watch, opinion: Opinion, policy: Policy) -> tuple[Watch, list[Finding]]:
    """Fold one reading into a slot that stands still.

    Returns:
        The new watch, and what is worth a label: `opinion` itself, or the one that was held.
    """
    reading = rules.Reading(opinion.answer, opinion.guess[1], opinion.at)
    track, fact = rules.step(watch.track, reading, policy.confirm_s)
    known, held, found = watch.counts[0] if watch.counts else None, watch.held, []
    if held is not None and held.answer != opinion.answer:
        found.append(Finding(held, Why.FLICKER, known))
        held = None
    if fact is not None:
        if held is not None and watch.calm:
            found.append(Finding(held, Why.TURNED, known))
        if doubtful(opinion, policy):
            found.append(Finding(opinion, Why.DOUBT, known))
        return Watch(track, (opinion.answer,), calm=True), found
    if watch.counts == (opinion.answer,):
        return replace(watch, track=track, calm=True, held=None), found
    return replace(watch, track=track, held=held or opinion), found


def thumb(picture: Image) -> NDArray[np.uint8]:
    """Return what near copies are told by: uint8, (8, 8, 3)."""
    return fit(picture, THUMB_PX, THUMB_PX)


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Return whether two thumbnails are of near copies, whatever the light."""
    first, second = slots.in_usual_light(np.stack((one, other)))
    return bool(np.abs(first - second).mean() < _COPY_LEVELS)


class HardExamples:
    """Keeps crops of one shelf that are worth a person's label, on this device.

    Whatever the disk does, it is a warning: no method raises for it, and the agent goes on.

    Args:
        folder: Of the crops; made when the first one comes.
        max_bytes: Room that they may take.
        shelf: The planogram.
        labels: Of the model, by number.
        model: Name and version, as every crop carries them.
        policy: As the agent has it.
        wall: Turns a moment of the camera's clock into time.
        every_s: How far apart crops of one slot for the same reason are, at least.
        spare_bytes: Room that others need on the disk.
    """

    def __init__(  # noqa: PLR0913 - what a crop carries comes from many places
        self,
        folder: Path,
        max_bytes: int,
        *,
        shelf: Planogram,
        labels: Sequence[str],
        model: messages.ModelState,
        policy: Policy,
        wall: Callable[[float], datetime],
        every_s: float = _EVERY_S,
        spare_bytes: int = _SPARE_BYTES,
    ) -> None:
        self._folder = Folder(folder, max_bytes, spare_bytes=spare_bytes)
        self._slots, self._corners = [slot.id for slot in shelf.slots], slots.corners(shelf)
        self._labels, self._model, self._policy = labels, model, policy
        self._wall, self._every_s = wall, every_s
        self._watches = [Watch()] * len(self._slots)
        self._held: dict[int, Image] = {}
        self._kept_at: dict[tuple[int, Why], float] = {}
        self._known: dict[str, deque[NDArray[np.uint8]]] | None = None
        self._paused_until = -np.inf

    def see(
        self,
        frame: Frame,
        to_frame: Matrix,
        news: Mapping[int, rules.Reading | None],
        chances: Mapping[int, Floats],
    ) -> None:
        """Look at what a frame says of slots, by their place in the planogram.

        Args:
            frame: The picture.
            to_frame: From px of the reference to px of the frame, (3, 3).
            news: What the model says now; None: the slot moves; absent: it is as it was.
            chances: The probabilities behind each reading, (classes,).
        """
        for row, reading in news.items():
            if reading is None:
                self._watches[row] = self._watches[row].moved()
                self._held.pop(row, None)
            else:
                opinion = Opinion.of(reading, chances[row], self._labels)
                self._read(row, opinion, partial(crops.cut, frame.image, self._corners[row], to_frame))

    def _read(self, row: int, opinion: Opinion, cut: Callable[[], Image]) -> None:
        before = self._watches[row]
        now, found = step(before, opinion, self._policy)
        self._watches[row] = now
        for finding in found:
            if self._wanted(row, finding.why, opinion.at):
                self._keep(row, finding, cut() if finding.opinion is opinion else self._held[row])
        if now.held is opinion:
            # Whether it was wrong will be known when the picture is gone.
            self._held[row] = cut()
        elif now.held is None:
            self._held.pop(row, None)

    def _wanted(self, row: int, why: Why, at: float) -> bool:
        return at >= self._paused_until and at - self._kept_at.get((row, why), -np.inf) >= self._every_s

    def _keep(self, row: int, finding: Finding, picture: Image) -> None:
        slot, small, opinion = self._slots[row], thumb(picture), finding.opinion
        try:
            known = self._remembered(slot)
            if any(alike(small, other) for other in known):
                return
            example = Example(
                slot=slot,
                time=self._wall(opinion.at),
                why=finding.why,
                guess=opinion.guess[0],
                confidence=round(opinion.guess[1], 4),
                second=opinion.second[0] if opinion.second else None,
                second_confidence=round(opinion.second[1], 4) if opinion.second else None,
                confirmed=finding.confirmed,
                model=self._model.name,
                version=self._model.version,
                thumb=small.tobytes(),
            )
            self._folder.keep(example, crops.jpeg(picture))
        except OSError as exc:
            log.warning(
                "hard examples: none is kept for %g s: %s: %s", _PAUSE_S, self._folder.path, exc.strerror
            )
            self._paused_until = opinion.at + _PAUSE_S
            return
        known.append(small)
        self._kept_at[row, finding.why] = opinion.at

    def _remembered(self, slot: str) -> deque[NDArray[np.uint8]]:
        """Return the last thumbnails of a slot: those of the last run as well, and those exported since."""
        if self._known is None:
            self._known = {
                name: deque((_unpacked(example) for example in kept), _REMEMBERED)
                for name, kept in self._folder.latest(_REMEMBERED).items()
            }
        return self._known.setdefault(slot, deque(maxlen=_REMEMBERED))


def _unpacked(example: Example) -> NDArray[np.uint8]:
    return np.frombuffer(example.thumb, np.uint8).reshape(THUMB_PX, THUMB_PX, 3)
