"""When a reading becomes a fact, and which events a fact makes. Pure: time is an argument.

Slots
- A reading counts as soon as the same answer has been seen, without a break, for `confirm_s` and at
  least twice. Whatever hides the slot (a hand, a fault) is a break. "Unknown" must hold twice as
  long: hands look unknown.
- `since` is the moment of the first of those readings.
- Time in which nobody looked proves little: a gap of more than 30 s between two pictures counts as half
  of what an answer must hold. Where pictures come in bursts every few minutes, a change is told in the
  burst that first shows it if that is long enough, and else in the next; where they come one by one, at
  the third that shows it at rest.
- A slot that keeps changing is slowed down. Each change that counts adds one to the slot's unrest, which
  fades by half in an hour. From 10 on, each more doubles how long *another* answer must hold, up to five
  minutes; what counts already needs no longer than ever. So a shopper's eleven changes in a row are told
  as they come, as are six in each hour all day long, while a slot that the model cannot make up its mind
  about makes 20 changes and then 12 in an hour instead of hundreds. A restart forgets the unrest.
- The first sight of a slot makes events only where the expected product is not there.

Products
- A product is judged when every facing of it has been; only `present` facings count as filled.
- Out of stock at 0, low at `filled <= low_at`, else ok; an event for each change of level, and at
  first sight for each level that is not ok. From low or out to ok is `restocked`; from out to low is
  `low-stock`.

Camera faults
- A fault counts once it was seen for `confirm_s` without a break, and is over once it was gone for
  `clear_s`; gaps between pictures count as they do for slots.
"""

from dataclasses import dataclass

from edge_agent.contracts.events import Kind, SlotCondition, StockLevel
from edge_agent.contracts.identifiers import EMPTY

_UNKNOWN_HOLDS_LONGER = 2.0
_READINGS = 2
_UNWATCHED_S = 30.0
_UNWATCHED_SHARE = 0.5
_UNREST_FREE = 10.0
_UNREST_HALVES_S = 3600.0
_LONGEST_HOLD_S = 300.0
_MOST_DOUBLINGS = 10.0
_LEAST_S = 1.0
"""What is doubled where nothing has to hold."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one frame says of one slot; `label` None: the model does not know."""

    label: str | None
    confidence: float
    at: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that has not held long enough yet; `unwatched_s`: of that time, what does not count."""

    label: str | None
    first: float
    count: int
    unwatched_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Unrest:
    """How often a slot has changed lately.

    Attributes:
        label: The answer that counts.
        level: Changes, faded by half in each hour since.
        at: When it was so high, seconds of the camera.
    """

    label: str | None
    level: float
    at: float

    def step(self, label: str | None, at: float) -> "Unrest":
        """Fold in an answer that counts."""
        return self if label == self.label else Unrest(label, self.now(at) + 1, at)

    def now(self, at: float) -> float:
        """Return what is left of the level."""
        return float(self.level * 0.5 ** ((at - self.at) / _UNREST_HALVES_S))


@dataclass(frozen=True, slots=True)
class Track:
    """One slot between frames.

    Attributes:
        candidate: What it was seen as last, without a break.
        seen: When, seconds of the camera.
        unrest: How often it has changed; None: no answer has counted yet.
    """

    candidate: Candidate | None = None
    seen: float | None = None
    unrest: Unrest | None = None


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
        return Track(None, track.seen, track.unrest), None
    before, candidate = track.candidate, Candidate(reading.label, reading.at, 1)
    if before is not None and track.seen is not None and before.label == reading.label:
        hold = _hold_s(track.unrest, reading.label, reading.at, confirm_s)
        unwatched = before.unwatched_s + _unwatched_s(reading.at - track.seen, hold)
        candidate = Candidate(before.label, before.first, before.count + 1, unwatched)
    now = Track(candidate, reading.at, track.unrest)
    if not settled(now, confirm_s):
        return now, None
    unrest = track.unrest or Unrest(reading.label, 0.0, reading.at)
    now = Track(candidate, reading.at, unrest.step(reading.label, reading.at))
    return now, Confirmed(reading.label, reading.confidence, candidate.first)


def _hold_s(unrest: Unrest | None, label: str | None, at: float, confirm_s: float) -> float:
    """Return how long an answer must hold in a slot at a moment."""
    hold = confirm_s * (_UNKNOWN_HOLDS_LONGER if label is None else 1.0)
    if unrest is None or unrest.label == label:
        return hold
    doublings = min(max(unrest.now(at) - _UNREST_FREE, 0.0), _MOST_DOUBLINGS)
    longer = float(2.0**doublings - 1) * max(hold, _LEAST_S)
    return max(hold, min(hold + longer, _LONGEST_HOLD_S))


def _unwatched_s(gap: float, hold: float) -> float:
    """Return how much of the time between two pictures does not count towards a hold."""
    return max(gap - _UNWATCHED_SHARE * hold, 0.0) if gap > _UNWATCHED_S else 0.0


def again(track: Track, at: float) -> Track:
    """Return what `step` makes of a slot that shows once more what is settled: nothing else is new.

    Args:
        track: Settled.
        at: Of the frame, seconds of the camera.
    """
    return Track(track.candidate, at, track.unrest)


def settled(track: Track, confirm_s: float) -> bool:
    """Return whether the last reading of a slot was one that counts.

    Args:
        track: As `step` returned it.
        confirm_s: How long an answer must hold.
    """
    candidate = track.candidate
    if candidate is None or track.seen is None or candidate.count < _READINGS:
        return False
    hold = _hold_s(track.unrest, candidate.label, track.seen, confirm_s)
    return track.seen - candidate.first - candidate.unwatched_s >= hold


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
    """One camera fault.

    Attributes:
        active: Whether it counts.
        other_since: Since when the pictures have said otherwise, seconds of the camera.
        seen: When they said so last.
        unwatched_s: Of that time, what does not count.
    """

    active: bool = False
    other_since: float | None = None
    seen: float = 0.0
    unwatched_s: float = 0.0


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
    hold = clear_s if track.active else confirm_s
    since, unwatched = at, 0.0
    if track.other_since is not None:
        since, unwatched = track.other_since, track.unwatched_s + _unwatched_s(at - track.seen, hold)
    if at - since - unwatched < hold:
        return FaultTrack(track.active, since, at, unwatched), None
    return FaultTrack(not track.active), since


def stale(seen: float | None, at: float, refresh_s: float) -> bool:
    """Return whether a slot has not been seen for too long."""
    return seen is None or at - seen > refresh_s
