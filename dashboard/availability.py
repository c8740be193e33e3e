"""In which state products and slots were, as events and a snapshot tell it: for pages and for kept days.

Pure. Both ask here, so that a page about yesterday says the same as the day that is kept of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from dashboard.pages import timeline
from dashboard.pages.timeline import Change, Figures, Span
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


@dataclass(frozen=True, slots=True)
class Reading:
    """What was told of one device's shelf.

    Attributes:
        changes: By subject, in their order.
        blind: When its camera saw nothing.
    """

    changes: dict[str, list[Change]]
    blind: list[Span]

    def spans(self, about: str, since: datetime, until: datetime) -> list[Span]:
        """Return the states of a subject between two moments, without a hole."""
        return timeline.without(timeline.spans(self.changes.get(about, ()), since, until), self.blind)


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a product or slot, in whole seconds; `last` is the state in which it ended."""

    day: date
    available_s: int
    low_s: int
    missing_s: int
    other_s: int
    gaps: int
    longest_s: int
    events: int
    last: str

    @property
    def figures(self) -> Figures:
        """Its sums as pages show them."""
        known = self.available_s + self.low_s + self.missing_s + self.other_s
        return Figures(known, self.missing_s, self.longest_s, self.gaps)


def read(
    bodies: Iterable[dict[str, Any]],
    state: dict[str, Any],
    since: datetime,
    until: datetime,
    before: Mapping[str, str] | None = None,
) -> Reading:
    """Read what events of one device and its latest snapshot say of a while.

    Args:
        bodies: Events as they came, those before the while included.
        state: The snapshot; it repairs what was lost before it.
        since: Where the while begins.
        until: Where it ends.
        before: States in which subjects were when it began, where that is known.
    """
    eve = since - timedelta(seconds=1)
    changes = {about: [Change(eve, kept)] for about, kept in (before or {}).items()}
    faults: list[tuple[datetime, str, bool]] = []
    for body in _in_order(bodies):
        data, at = body.get("data"), _at(body)
        if not isinstance(data, dict) or at is None:
            continue
        kind = str(body.get("type"))
        if kind in _FAULTS:
            faults.append((at, str(data.get("fault")), _FAULTS[kind]))
            continue
        about, previous = str(body.get("subject")), data.get("previous")
        if about not in changes and kind not in _LEVELS and isinstance(previous, str):
            # What the first event of a slot tells about the time before it.
            changes[about] = [Change(eve, previous)]
        changes.setdefault(about, []).append(Change(at, _LEVELS.get(kind) or str(data.get("state"))))
    faults += _forgotten(faults, changes, state)
    for about, now in _snapshot(state):
        told = changes.setdefault(about, [])
        if not told or (now.at > told[-1].at and now.state != told[-1].state):
            told.append(now)
    return Reading(changes, timeline.blind_spans(faults, since, until))


def days(reading: Reading, about: str, since: datetime, until: datetime, zone: ZoneInfo) -> list[Day]:
    """Return the days of a zone between two moments in which anything is known of a subject."""
    told = reading.changes.get(about, [])
    seen = timeline.spans(told, since, until)
    spans = timeline.without(seen, reading.blind)
    found = []
    for day, begin, end in timeline.days(since, until, zone):
        last = timeline.clipped(seen, begin, end)[-1].state
        if last == timeline.UNKNOWN:
            continue
        parts = timeline.clipped(spans, begin, end)
        seconds = dict.fromkeys(("available_s", "low_s", "missing_s", "other_s"), 0.0)
        for part in parts:
            if part.state in _COLUMN:
                seconds[_COLUMN[part.state]] += part.seconds
        sums = timeline.figures(parts)
        whole = {name: round(value) for name, value in seconds.items()}
        events = sum(begin <= change.at < end for change in told)
        found.append(
            Day(day=day, gaps=sums.gaps, longest_s=round(sums.longest), events=events, last=last, **whole)
        )
    return found


def _in_order(bodies: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events as their device decided them: after a rewind they may come in another order."""
    streams: dict[str, int] = {}
    return sorted(
        bodies,
        key=lambda body: (
            streams.setdefault(str(body.get("streamid")), len(streams)),
            str(body.get("sequence")),
        ),
    )


def _at(body: dict[str, Any]) -> datetime | None:
    """Return when a state began; where that is not told, when it was decided."""
    data = body.get("data")
    told = moment(str(data.get("since"))) if isinstance(data, dict) else None
    found = told or moment(str(body.get("time")))
    return None if found is None else found.astimezone(UTC)


def day_of(body: dict[str, Any], zone: ZoneInfo) -> date | None:
    """Return the first day of which an event says something."""
    at = _at(body)
    return None if at is None else at.astimezone(zone).date()


def _snapshot(state: dict[str, Any]) -> Iterable[tuple[str, Change]]:
    """Yield what a snapshot says of each product and slot."""
    shelf = str(state.get("shelf"))
    products = [("product", str(item.get("label")), item) for item in state.get("products", ())]
    slots = [("slot", name, item) for name, item in state.get("slots", {}).items()]
    for about, name, item in (*products, *slots):
        since, now = item.get("since"), item.get("state")
        at = moment(since) if isinstance(since, str) else None
        if at is not None and now in _COLUMN:
            yield subject(shelf, about, name), Change(at.astimezone(UTC), now)


def _forgotten(
    faults: list[tuple[datetime, str, bool]], changes: dict[str, list[Change]], state: dict[str, Any]
) -> list[tuple[datetime, str, bool]]:
    """Return the ends of faults that no event tells of: the snapshot says that they are over.

    They were over when the camera next saw something change, at the latest when the snapshot was made.
    """
    holding = (state.get("camera") or {}).get("faults", [])
    begun = {fault: at for at, fault, begins in faults if begins}
    ended = {fault: at for at, fault, begins in faults if not begins}
    made = moment(str(state.get("time"))) or max(begun.values(), default=None)
    found = []
    for fault, begin in begun.items():
        if fault not in holding and ended.get(fault, begin) <= begin and made is not None:
            later = [change.at for told in changes.values() for change in told if change.at > begin]
            found.append((min([*later, made]), fault, False))
    return sorted(found)
