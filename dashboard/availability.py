"""In which state products and slots were, as events and a snapshot tell it: for pages and for kept days.

Pure. Both ask here, so that a page about yesterday says the same as the day that is kept of it. A reading may
begin at any midnight, where it is told what was `before`: it then says the same of the time behind it as one
that read everything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from dashboard.pages import timeline
from dashboard.pages.timeline import UNKNOWN, Change, Span
from edge_agent.contracts.events import Kind, subject
from edge_agent.contracts.times import moment

_COLUMN = {
    "ok": "available_s",
    "low": "low_s",
    "out": "missing_s",
    "present": "available_s",
    "empty": "missing_s",
    "misplaced": "other_s",
    "unknown": "other_s",
}
_LEVELS = {Kind.OUT_OF_STOCK.type: "out", Kind.LOW_STOCK.type: "low", Kind.RESTOCKED.type: "ok"}
_FAULTS = {Kind.CAMERA_FAULT.type: True, Kind.CAMERA_FAULT_CLEARED.type: False}
TYPES = (*_LEVELS, Kind.SLOT_CHANGED.type, *_FAULTS)
"""The events that say in which state something is, or that nobody can see it."""

_INSTANT = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Fault(NamedTuple):
    """A camera begins to see nothing for some reason, or that is over."""

    at: datetime
    name: str
    begins: bool


@dataclass(frozen=True, slots=True)
class Before:
    """What holds when a reading begins: the last change of each subject, and the faults of the camera."""

    changes: Mapping[str, Change] = field(default_factory=dict)
    faults: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What was told of one device's shelf.

    Attributes:
        changes: By subject, in their order.
        faults: Of its camera, in their order.
        blind: When it saw nothing.
        products: Name and GTIN of each product of which an event told, by subject.
    """

    changes: dict[str, list[Change]]
    faults: list[Fault]
    blind: list[Span]
    products: dict[str, tuple[str, str]]

    def spans(self, about: str, since: datetime, until: datetime) -> list[Span]:
        """Return the states of a subject between two moments, without a hole."""
        return timeline.without(timeline.spans(self.changes.get(about, ()), since, until), self.blind)

    def faults_at(self, moment: datetime) -> list[str]:
        """Return the faults that hold at a moment."""
        holding: set[str] = set()
        for fault in self.faults[: _passed(self.faults, moment)]:
            (holding.add if fault.begins else holding.discard)(fault.name)
        return sorted(holding)


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a product or slot: what is kept of it.

    Attributes:
        day: Which one.
        seconds: By column, in whole seconds.
        gaps: How often it was out.
        longest_s: The longest of these times.
        events: How many told of it.
        spans: The states that are known.
        last: What a reading that begins behind this day must know.
    """

    day: date
    seconds: dict[str, int]
    gaps: int
    longest_s: int
    events: int
    spans: list[Span]
    last: Change


def read(
    bodies: Iterable[dict[str, Any]],
    state: dict[str, Any],
    since: datetime,
    until: datetime,
    before: Before | None = None,
) -> Reading:
    """Read what events of one device and its latest snapshot say of a while.

    Args:
        bodies: Events as they came.
        state: The snapshot; it repairs what was lost before it. Empty: there is none.
        since: Where the while begins.
        until: Where it ends.
        before: What held when it began, where that is known.
    """
    held = before or Before()
    changes = {about: [last] for about, last in held.changes.items()}
    faults = [Fault(since - _INSTANT, name, begins=True) for name in held.faults]
    products: dict[str, tuple[str, str]] = {}
    for one in _in_order(bodies):
        if one.at < since and _is_known(one, before, changes, faults):
            continue
        if one.fault is not None:
            faults.append(Fault(one.at, one.fault, one.begins))
            continue
        changes.setdefault(one.about, []).append(Change(one.at, one.state))
        if one.product:
            products[one.about] = one.product
    _end_forgotten(faults, changes, state)
    _mend(changes, state)
    return Reading(changes, faults, timeline.blind_spans(faults, since, until), products)


class _Told(NamedTuple):
    """What one event says."""

    order: tuple[int, str]
    about: str
    at: datetime
    state: str
    fault: str | None
    begins: bool
    product: tuple[str, str] | None


def _is_known(
    one: _Told, before: Before | None, changes: Mapping[str, Sequence[Change]], faults: Sequence[Fault]
) -> bool:
    """Whether what was before tells of this already: it comes before the first that is of this while."""
    if before is None:
        return False
    if one.fault is not None:
        return len(faults) == len(before.faults)
    last = before.changes.get(one.about)
    return last is not None and one.at <= last.at and len(changes[one.about]) == 1


def _in_order(bodies: Iterable[dict[str, Any]]) -> list[_Told]:
    """Return what events say as their device decided it: after a rewind they may come in another order."""
    streams: dict[str, int] = {}
    found = []
    for body in bodies:
        data, at, kind = body.get("data"), _at(body), str(body.get("type"))
        order = (streams.setdefault(str(body.get("streamid")), len(streams)), str(body.get("sequence")))
        if not isinstance(data, dict) or at is None:
            continue
        fault = str(data.get("fault")) if kind in _FAULTS else None
        now = _LEVELS.get(kind) or str(data.get("state"))
        begins = _FAULTS.get(kind, False)
        about = str(body.get("subject"))
        found.append(_Told(order, about, at, now, fault, begins, _product(kind, data)))
    return sorted(found, key=lambda one: one.order)


def _product(kind: str, data: dict[str, Any]) -> tuple[str, str] | None:
    product = data.get("product")
    if kind not in _LEVELS or not isinstance(product, dict):
        return None
    return str(product.get("name") or ""), str(product.get("gtin") or "")


def _at(body: dict[str, Any]) -> datetime | None:
    """Return when a state began; where that is not told, when it was decided."""
    data = body.get("data")
    told = _moment(data.get("since")) if isinstance(data, dict) else None
    return told or _moment(body.get("time"))


def _moment(value: object) -> datetime | None:
    """Read a moment as it is kept: in UTC, in milliseconds."""
    found = moment(str(value))
    return found and _EPOCH + (found - _EPOCH) // _INSTANT * _INSTANT


def day_of(body: dict[str, Any], zone: ZoneInfo) -> date | None:
    """Return the first day of which an event says something."""
    at = _at(body)
    return None if at is None else at.astimezone(zone).date()


def _end_forgotten(
    faults: list[Fault], changes: Mapping[str, Sequence[Change]], state: dict[str, Any]
) -> None:
    """End the faults of whose end no event tells: the snapshot says that they are over.

    They were over when the camera next saw something change, at the latest when the snapshot was made.
    """
    made = _moment(state.get("time"))
    holding = (state.get("camera") or {}).get("faults", [])
    last = {fault.name: fault for fault in faults}
    for name, begun in last.items():
        if made is None or made <= begun.at or not begun.begins or name in holding:
            continue
        later = [change.at for told in changes.values() for change in told if change.at > begun.at]
        end = min([*later, made])
        behind = faults.index(begun) + 1
        place = next((at for at, one in enumerate(faults) if at >= behind and one.at >= end), len(faults))
        faults.insert(place, Fault(end, name, begins=False))


def _mend(changes: dict[str, list[Change]], state: dict[str, Any]) -> None:
    """Add what a snapshot knows and no event tells; of what is not on it any more nobody knows anything."""
    if "slots" not in state:
        return
    there = set()
    for about, now in _snapshot(state):
        there.add(about)
        told = changes.get(about, [])
        if now is not None and (not told or (now.at > told[-1].at and now.state != told[-1].state)):
            changes.setdefault(about, told).append(now)
    for about, told in changes.items():
        if about not in there:
            told.append(Change(told[-1].at, UNKNOWN))


def _snapshot(state: dict[str, Any]) -> Iterator[tuple[str, Change | None]]:
    """Yield each product and slot of a snapshot, and what it says of it."""
    shelf = str(state.get("shelf"))
    products = [("product", str(item.get("label")), item) for item in state.get("products", ())]
    slots = [("slot", name, item) for name, item in state.get("slots", {}).items()]
    for about, name, item in (*products, *slots):
        at, now = _moment(item.get("since")), item.get("state")
        yield subject(shelf, about, name), Change(at, now) if at is not None and now in _COLUMN else None


def _passed(told: Sequence[Change] | Sequence[Fault], moment: datetime, first: int = 0) -> int:
    """Return how many come before the first one that is not before a moment."""
    return next((place for place in range(first, len(told)) if told[place].at >= moment), len(told))


def days(reading: Reading, about: str, pieces: Sequence[tuple[date, datetime, datetime]]) -> Iterator[Day]:
    """Yield the days in which anything is known of a subject, or known to the day behind.

    Args:
        reading: Of its device.
        about: The subject.
        pieces: Days without a hole between: which, where it begins, where it ends.
    """
    told = reading.changes.get(about, [])
    spans = reading.spans(about, pieces[0][1], pieces[-1][2])
    passed = _passed(told, pieces[0][1])
    for day, begin, end in pieces:
        parts = [part for part in timeline.clipped(spans, begin, end) if part.state != UNKNOWN]
        known, passed = passed, _passed(told, end, passed)
        if not passed or (not parts and told[passed - 1].state == UNKNOWN):
            continue
        seconds = dict.fromkeys(("available_s", "low_s", "missing_s", "other_s"), 0.0)
        for part in parts:
            seconds[_COLUMN.get(part.state, "other_s")] += part.seconds
        sums = timeline.figures(parts)
        whole = {name: round(value) for name, value in seconds.items()}
        events = sum(change.state != UNKNOWN for change in told[known:passed])
        yield Day(day, whole, sums.gaps, round(sums.longest), events, parts, told[passed - 1])


def packed(spans: Iterable[Span]) -> list[tuple[int, int, str]]:
    """Return spans as they are kept: in milliseconds since 1970."""
    return [(_ms(span.begin), _ms(span.end), span.state) for span in spans]


def unpacked(kept: Iterable[Sequence[Any]]) -> Iterator[Span]:
    """Yield spans that were kept."""
    for begin, end, state in kept:
        yield Span(_EPOCH + begin * _INSTANT, _EPOCH + end * _INSTANT, state)


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // _INSTANT
