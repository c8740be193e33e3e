"""When a reading becomes a fact, and which events a fact makes. Pure: time is an argument.

Slots
- A reading counts as soon as the same answer has been seen, without a break, for `confirm_s` and at
  least twice. Whatever hides the slot (a hand, a fault) is a break. "Unknown" must hold twice as
  long: hands look unknown.
- `since` is the moment of the first of those readings.
- The first sight of a slot makes events only where the expected product is not there.

Products
- A product is judged when every facing of it has been; only `present` facings count as filled.
- Out of stock at 0, low at `filled <= low_at`, else ok; an event for each change of level, and at
  first sight for each level that is not ok. From low or out to ok is `restocked`; from out to low is
  `low-stock`.
"""

from dataclasses import dataclass

from edge_agent.contracts.events import Kind, SlotCondition, StockLevel
from edge_agent.contracts.identifiers import EMPTY

_UNKNOWN_HOLDS_LONGER = 2.0
_READINGS = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """What one frame says of one slot; `label` None: the model does not know."""

    label: str | None
    confidence: float
    at: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that has not held long enough yet."""

    label: str | None
    first: float
    count: int


@dataclass(frozen=True, slots=True)
class Track:
    """One slot between frames: the candidate, and when it was last seen (seconds of the camera)."""

    candidate: Candidate | None = None
    seen: float | None = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """An answer that counts, and since when."""

    label: str | None
    confidence: float
    since: float


def step(track: Track, reading: Reading | None, confirm_s: float) -> tuple[Track, Confirmed | None]:
    """Fold one frame into a slot.

    Args:
        track: As the last call returned it.
        reading: None: the slot is hidden.
        confirm_s: How long an answer must hold.

    Returns:
        The new track, and what is confirmed now (again with each further reading that agrees).
    """
    if reading is None:
        return Track(None, track.seen), None
    before = track.candidate
    same = before is not None and before.label == reading.label
    candidate = (
        Candidate(before.label, before.first, before.count + 1)
        if before is not None and same
        else Candidate(reading.label, reading.at, 1)
    )
    now = Track(candidate, reading.at)
    if not settled(now, confirm_s):
        return now, None
    return now, Confirmed(reading.label, reading.confidence, candidate.first)


def again(track: Track, at: float) -> Track:
    """Return what `step` makes of a slot that shows once more what is settled: nothing else is new.

    Args:
        track: Settled.
        at: Of the frame, seconds of the camera.
    """
    return Track(track.candidate, at)


def settled(track: Track, confirm_s: float) -> bool:
    """Return whether the last reading of a slot was one that counts.

    Args:
        track: As `step` returned it.
        confirm_s: How long an answer must hold.
    """
    candidate = track.candidate
    if candidate is None or track.seen is None or candidate.count < _READINGS:
        return False
    hold = confirm_s * (_UNKNOWN_HOLDS_LONGER if candidate.label is None else 1.0)
    return track.seen - candidate.first >= hold


def condition_of(label: str | None, expected: str) -> SlotCondition:
    """Return what an answer means where a product is expected."""
    if label is None:
        return SlotCondition.UNKNOWN
    if label == EMPTY:
        return SlotCondition.EMPTY
    return SlotCondition.PRESENT if label == expected else SlotCondition.MISPLACED


def slot_events(
    before: tuple[SlotCondition, str | None] | None, now: tuple[SlotCondition, str | None]
) -> list[Kind]:
    """Return the kinds of event of a slot that went from one confirmed answer to another.

    Args:
        before: Condition and label; None: the slot is seen for the first time.
        now: Condition and label.
    """
    condition, previous = now[0], before[0] if before else None
    if before == now or (before is None and condition is SlotCondition.PRESENT):
        return []
    kinds = [Kind.SLOT_CHANGED]
    if previous is SlotCondition.MISPLACED and condition is not SlotCondition.MISPLACED:
        kinds.append(Kind.MISPLACED_CLEARED)
    if condition is SlotCondition.MISPLACED:
        kinds.append(Kind.MISPLACED)
    if condition is SlotCondition.UNKNOWN:
        kinds.append(Kind.UNKNOWN_PRODUCT)
    return kinds


def level_of(filled: int, low_at: int) -> StockLevel:
    """Return how much is left; `low_at` 0: never low."""
    if filled == 0:
        return StockLevel.OUT
    return StockLevel.LOW if filled <= low_at else StockLevel.OK


def product_event(before: StockLevel | None, now: StockLevel) -> Kind | None:
    """Return the kind of event of a product that went from one level to another, if any.

    Args:
        before: None: the product is judged for the first time.
        now: The new level.
    """
    if before == now or (before is None and now is StockLevel.OK):
        return None
    return {
        StockLevel.OUT: Kind.OUT_OF_STOCK,
        StockLevel.LOW: Kind.LOW_STOCK,
        StockLevel.OK: Kind.RESTOCKED,
    }[now]


@dataclass(frozen=True, slots=True)
class FaultTrack:
    """One camera fault: whether it counts, and since when the pictures have said otherwise."""

    active: bool = False
    other_since: float | None = None


def fault_step(
    track: FaultTrack, at: float, *, seen: bool | None, confirm_s: float, clear_s: float
) -> tuple[FaultTrack, float | None]:
    """Fold one frame into a fault.

    Args:
        track: As the last call returned it.
        at: Of the frame, seconds of the camera.
        seen: Whether this frame shows the fault; None: another fault hides whether it does.
        confirm_s: How long it must be seen to count.
        clear_s: How long it must be gone to be over.

    Returns:
        The new track, and the moment at which the change began if it counts from now on.
    """
    if seen is None or seen == track.active:
        return FaultTrack(track.active), None
    since = at if track.other_since is None else track.other_since
    if at - since < (clear_s if track.active else confirm_s):
        return FaultTrack(track.active, since), None
    return FaultTrack(not track.active), since


def stale(seen: float | None, at: float, refresh_s: float) -> bool:
    """Return whether a slot has not been seen for too long."""
    return seen is None or at - seen > refresh_s
