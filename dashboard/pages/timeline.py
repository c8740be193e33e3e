"""From changes to spans of time, and from spans to figures. Pure: moments come in as arguments.

Rules:
  a state holds from the moment at which it began until the next change;
  what was before the first change is what was told before, else it is not known;
  while a camera is covered nothing is known, whatever was told last;
  availability is the time in stock over the time that is known;
  where opening hours are set, no other time counts: a gap over night is one, as long as the shop was open.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

UNKNOWN = "none"
"""A state that nobody knows."""

OUT = frozenset({"out", "empty"})
"""States in which a customer finds nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """From a moment on something is in a state."""

    at: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Span:
    """Something was in a state from a moment until another."""

    begin: datetime
    end: datetime
    state: str

    @property
    def seconds(self) -> float:
        """How long."""
        return (self.end - self.begin).total_seconds()


def spans(changes: Iterable[Change], since: datetime, until: datetime) -> list[Span]:
    """Return the spans between two moments, without a hole.

    Args:
        changes: In the order in which they were decided; also what was before `since`.
        since: Where the first span begins.
        until: Where the last one ends.
    """
    found: list[Span] = []
    state, begin = UNKNOWN, since
    for change in changes:
        # A clock that was put back must not make time run backwards.
        moment = min(max(change.at, begin), until)
        if change.state == state:
            continue
        if moment > begin:
            found.append(Span(begin, moment, state))
        state, begin = change.state, moment
    if until > begin:
        found.append(Span(begin, until, state))
    return found


def without(found: Sequence[Span], blind: Sequence[Span]) -> list[Span]:
    """Return spans of which nothing is known while a camera was blind."""
    left = list(found)
    for dark in blind:
        left = [part for span in left for part in _cut(span, dark)]
    return _joined(left)


def _cut(span: Span, dark: Span) -> list[Span]:
    begin, end = max(span.begin, dark.begin), min(span.end, dark.end)
    if begin >= end:
        return [span]
    parts = [
        Span(span.begin, begin, span.state),
        Span(begin, end, UNKNOWN),
        Span(end, span.end, span.state),
    ]
    return [part for part in parts if part.end > part.begin]


def _joined(parts: list[Span]) -> list[Span]:
    """Return neighbours of one state as one."""
    found: list[Span] = []
    for part in parts:
        if found and found[-1].state == part.state and found[-1].end == part.begin:
            found[-1] = Span(found[-1].begin, part.end, part.state)
        else:
            found.append(part)
    return found


def blind_spans(faults: Iterable[tuple[datetime, str, bool]], since: datetime, until: datetime) -> list[Span]:
    """Return when a camera had any fault.

    Args:
        faults: Moment, fault, and whether it begins or ends, in their order.
        since: From where on.
        until: A fault that did not end lasts until here.
    """
    now: set[str] = set()
    changes: list[Change] = []
    for moment, fault, begins in faults:
        if begins:
            now.add(fault)
        else:
            now.discard(fault)
        changes.append(Change(moment, "blind" if now else "sees"))
    return [span for span in spans(changes, since, until) if span.state == "blind"]


@dataclass(frozen=True, slots=True)
class Opening:
    """Which time counts: what lies between these moments, in order; None is all of it."""

    hours: Sequence[tuple[datetime, datetime]] | None = None

    def seconds(self, span: Span) -> float:
        """Return how much of a span counts."""
        if self.hours is None:
            return span.seconds
        first = bisect_right(self.hours, span.begin, key=lambda hours: hours[1])
        parts = takewhile(lambda hours: hours[0] < span.end, islice(self.hours, first, None))
        return sum((min(end, span.end) - max(begin, span.begin)).total_seconds() for begin, end in parts)


ALWAYS = Opening()


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over spans, in seconds."""

    known: float
    out: float
    longest: float
    gaps: int

    @property
    def availability(self) -> float | None:
        """Time in stock over time known, 0 to 1; None where nothing is known."""
        return None if self.known <= 0 else (self.known - self.out) / self.known


def figures(found: Iterable[Span], opening: Opening = ALWAYS) -> Figures:
    """Sum spans up, as far as they count."""
    known = [(span.state, opening.seconds(span)) for span in found if span.state != UNKNOWN]
    gaps = [seconds for state, seconds in known if state in OUT and seconds > 0]
    return Figures(sum(seconds for _, seconds in known), sum(gaps), max(gaps, default=0.0), len(gaps))


def clipped(found: Sequence[Span], since: datetime, until: datetime) -> list[Span]:
    """Return the parts of spans, which are in order, between two moments."""
    first = bisect_right(found, since, key=lambda span: span.end)
    parts = takewhile(lambda span: span.begin < until, islice(found, first, None))
    return [Span(max(span.begin, since), min(span.end, until), span.state) for span in parts]


def joined(known: Iterable[Span], since: datetime, until: datetime) -> list[Span]:
    """Return spans, some of which may be missing, as those between two moments, without a hole."""
    found: list[Span] = []
    reached = since
    for span in known:
        begin, end = max(span.begin, reached), min(span.end, until)
        if begin < end:
            found += [Span(reached, begin, UNKNOWN), Span(begin, end, span.state)]
            reached = end
    return _joined([span for span in (*found, Span(reached, until, UNKNOWN)) if span.begin < span.end])


def days(since: datetime, until: datetime, zone: ZoneInfo) -> list[tuple[date, datetime, datetime]]:
    """Return each day of a zone between two moments: its date, where it begins and ends there."""
    found = []
    first = since.astimezone(zone).date()
    for number in range((until.astimezone(zone).date() - first).days + 1):
        day = first + timedelta(days=number)
        # A day of a zone has 23 hours now and then: midnight is asked for anew.
        begin, end = midnight(day, zone), midnight(day + timedelta(days=1), zone)
        if min(end, until) > max(begin, since):
            found.append((day, max(begin, since), min(end, until)))
    return found


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins, in UTC: in its own zone a day with a changed clock would count 24 hours."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def weeks(parts: Iterable[tuple[date, datetime, datetime]]) -> list[tuple[str, datetime, datetime]]:
    """Return days as weeks, `2026-W48`."""
    found: dict[str, tuple[datetime, datetime]] = {}
    for day, begin, end in parts:
        year, week, _ = day.isocalendar()
        name = f"{year}-W{week:02d}"
        found[name] = (found[name][0] if name in found else begin, end)
    return [(name, begin, end) for name, (begin, end) in found.items()]
