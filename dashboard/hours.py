"""When a store is open, by its own clock. Pure: moments come in as arguments.

Written as `Mo-Fr 08:00-12:00,13:30-18:30; Sa 08:00-17:00`, a part of what OpenStreetMap's
`opening_hours` allows. A range that ends at or before its begin goes on into the next day; `24:00` is
the end of a day. Clocks of the store are put forward and back: what is written holds for the clock.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from edge_agent.contracts.errors import UsageError

WEEKDAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")

_DAY_MIN = 24 * 60
_RULE = re.compile(r"(?P<days>\w\w(?:\s*[-,]\s*\w\w)*)\s+(?P<ranges>.+)")
_RANGE = re.compile(r"(\d{1,2}):(\d\d)\s*[-–]\s*(\d{1,2}):(\d\d)")  # noqa: RUF001 - both dashes are typed
_LONGEST = 500
_HINT = "Mo-Fr 08:00-20:00; Sa 08:00-12:00,13:30-17:00"

Range = tuple[int, int]
"""Minutes since midnight, from and until; until is up to a day later than from."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Opening hours of a week.

    Attributes:
        days: For each weekday, Monday first, its ranges in their order.
    """

    days: tuple[tuple[Range, ...], ...]

    @classmethod
    def parse(cls, text: str) -> "Hours | None":
        """Read opening hours; an empty text is None: nobody said, so every hour counts.

        Raises:
            UsageError: It is written in another way, or names a day twice.
        """
        if not text.strip():
            return None
        if len(text) > _LONGEST:
            raise _wrong(text[:_LONGEST])
        found: dict[str, tuple[Range, ...]] = {}
        for rule in filter(None, (part.strip() for part in text.split(";"))):
            match = _RULE.fullmatch(rule)
            if match is None:
                raise _wrong(rule)
            ranges = day_ranges(match["ranges"])
            for day in _days(match["days"], rule):
                if day in found:
                    raise UsageError(f"Expected: each weekday once. Received: {day} twice.", hint=_HINT)
                found[day] = ranges
        return cls(tuple(found.get(day, ()) for day in WEEKDAYS))

    def __str__(self) -> str:
        """Return it as it is read: days with the same ranges together."""
        rules = []
        for first, last in _runs(self.days):
            if self.days[first]:
                name = WEEKDAYS[first] if first == last else f"{WEEKDAYS[first]}-{WEEKDAYS[last]}"
                rules.append(f"{name} {shown(self.days[first])}")
        return "; ".join(rules)

    def spans(self, since: datetime, until: datetime, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
        """Return when it is open between two moments, in order, in UTC."""
        found: list[tuple[datetime, datetime]] = []
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        day, end = since.astimezone(zone).date() - timedelta(days=1), until.astimezone(zone).date()
        while day <= end:
            for first, last in self.days[day.weekday()]:
                # An hour that comes twice is open both times.
                begin = max(_moment(day, first, zone, fold=0), since)
                close = min(_moment(day, last, zone, fold=1), until)
                if found and begin <= found[-1][1]:
                    found[-1] = (found[-1][0], max(close, found[-1][1]))
                elif begin < close:
                    found.append((begin, close))
            day += timedelta(days=1)
        return found

    def open_at(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Whether it is open."""
        return bool(self.spans(moment, moment + timedelta.resolution, zone))


def day_ranges(text: str) -> tuple[Range, ...]:
    """Read the ranges of one day, `08:00-12:00,13:30-18:30`; an empty text is a day on which it is shut.

    Raises:
        UsageError: It is written in another way, or the ranges overlap.
    """
    found = []
    for part in filter(None, (part.strip() for part in re.split(r"[,，、]", text))):  # noqa: RUF001 - as it is typed in Chinese
        match = _RANGE.fullmatch(part.replace("：", ":"))  # noqa: RUF001 - as it is typed in Chinese
        if match is None:
            raise _wrong(part)
        begin, end = _minute(match[1], match[2], part), _minute(match[3], match[4], part)
        if begin == _DAY_MIN:
            raise _wrong(part)
        found.append((begin, end if end > begin else end + _DAY_MIN))
    found.sort()
    for before, after in pairwise(found):
        if after[0] < before[1]:
            raise UsageError(f"Expected: ranges that do not overlap. Received: {text!r}.", hint=_HINT)
    return tuple(found)


def shown(ranges: Sequence[Range]) -> str:
    """Return the ranges of a day as they are read."""
    return ",".join(f"{_clock(begin)}-{_clock(end)}" for begin, end in ranges)


def _clock(minutes: int) -> str:
    if minutes > _DAY_MIN:
        minutes -= _DAY_MIN
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _minute(hour: str, minute: str, told: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) >= 60 or value > _DAY_MIN:  # noqa: PLR2004 - minutes of an hour
        raise _wrong(told)
    return value


def _days(text: str, told: str) -> Iterator[str]:
    for part in text.split(","):
        first, _, last = (name.strip().title() for name in part.partition("-"))
        if not {first, last or first} <= set(WEEKDAYS):
            raise _wrong(told)
        place = WEEKDAYS.index(first)
        length = (WEEKDAYS.index(last or first) - place) % len(WEEKDAYS) + 1
        yield from ((WEEKDAYS * 2)[place : place + length])


def _runs(days: Sequence[tuple[Range, ...]]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of neighbours that are alike."""
    first = 0
    for number in range(1, len(days) + 1):
        if number == len(days) or days[number] != days[first]:
            yield first, number - 1
            first = number


def _moment(day: date, minutes: int, zone: ZoneInfo, *, fold: int) -> datetime:
    later, rest = divmod(minutes, _DAY_MIN)
    clock = time(rest // 60, rest % 60, fold=fold)
    told = datetime.combine(day + timedelta(days=later), clock, zone)
    found = told.astimezone(UTC)
    if found.astimezone(zone).time() == clock:
        return found
    # No clock shows it: the moment at which they were put forward stands for the hour that is left out.
    early, late = told.replace(fold=1).astimezone(UTC), told.replace(fold=0).astimezone(UTC)
    before = early.astimezone(zone).utcoffset()
    seconds = range(int((late - early).total_seconds()))
    forward = bisect_left(
        seconds, 1, key=lambda n: (early + timedelta(seconds=n)).astimezone(zone).utcoffset() != before
    )
    return early + timedelta(seconds=forward)


def _wrong(told: str) -> UsageError:
    return UsageError(f"Expected: opening hours like {_HINT}. Received: {told!r}.")
