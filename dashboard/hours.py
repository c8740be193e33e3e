"""Times of the week by the clock of a store. Pure.

A range that ends before it begins goes over midnight, and belongs to the day on which it begins. Of a
time that comes twice, where clocks go back, the first one counts; one that never comes, where they go
forward, is the moment of the jump.

Opening hours of a store are one line, `mon-fri 08:00-12:00,13:30-18:30; sat 08:00-17:00`; in rules of
alerts the same stands in YAML.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_MINUTES = 24 * 60
_RANGE = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_NAMES = re.compile("({0})(?:-({0}))?".format("|".join(DAYS)))
_TYPED = {ord("–"): "-", ord("："): ":", ord("，"): ",", ord("、"): ",", ord(";"): ","}  # noqa: RUF001 - as keyboards type
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Week:
    """Ranges in minutes after midnight for each day, Monday first; an end may lie on the day after."""

    days: tuple[tuple[tuple[int, int], ...], ...]

    def __str__(self) -> str:
        """Return it as one line: days with the same ranges together."""
        found = []
        for first, last in _runs(self.days):
            name = DAYS[first] if first == last else f"{DAYS[first]}-{DAYS[last]}"
            found += [f"{name} {written(self.days[first])}"] if self.days[first] else []
        return "; ".join(found)

    def spans(self, begin: datetime, end: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
        """Yield what lies within from one moment to another, in UTC and in order; nothing lies in two."""
        reached = begin
        for since, to in self._ranges(begin, end, zone):
            # Ranges of one day, or over midnight, may overlap.
            if max(since, reached) < to:
                yield max(since, reached), to
                reached = to

    def _ranges(self, begin: datetime, end: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
        day = begin.astimezone(zone).date() - timedelta(days=1)
        last = end.astimezone(zone).date()
        while day <= last:
            for first, until in self.days[day.weekday()]:
                since, to = max(_at(day, first, zone), begin), min(_at(day, until, zone), end)
                if since < to:
                    yield since, to
            day += timedelta(days=1)

    def holds(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Whether a moment lies within."""
        return any(self.days) and any(True for _ in self.spans(moment, moment + _SECOND, zone))

    def covers(self, begin: datetime, end: datetime, zone: ZoneInfo, wanted: timedelta) -> bool:
        """Whether at least so much of a time lies within."""
        if end - begin < wanted:
            return False
        sum_ = timedelta()
        for since, to in self.spans(begin, end, zone) if wanted else ():
            sum_ += to - since
            if sum_ >= wanted:
                return True
        return sum_ >= wanted


ALWAYS = Week(((((0, _MINUTES)),),) * 7)


def read_week(ranges: Mapping[str, Sequence[str]]) -> Week:
    """Read `{"mon-fri": ["07:00-21:00"], "sat": ["08:00-20:00"]}`.

    Raises:
        ValueError: A day or a time is none.
    """
    days: list[tuple[tuple[int, int], ...]] = [() for _ in DAYS]
    for name, texts in ranges.items():
        found = tuple(read_range(text) for text in texts)
        for day in _named(name):
            days[day] += found
    return Week(tuple(tuple(sorted(day)) for day in days))


def read_range(text: str) -> tuple[int, int]:
    """Read `07:00-21:00` as minutes; an end at or before the beginning is on the next day.

    Raises:
        ValueError: It is none.
    """
    found = _RANGE.fullmatch(text.strip())
    begin, end = (0, 0) if found is None else (_minutes(found[1], found[2]), _minutes(found[3], found[4]))
    if found is None or begin >= _MINUTES or end > _MINUTES:
        msg = f"expected a time of day like 07:00-21:00; received {text!r}"
        raise ValueError(msg)
    return begin, end if end > begin else end + _MINUTES


def read_line(text: str) -> Week | None:
    """Read a week written as one line; an empty one is None: nobody said, so that every hour counts.

    Raises:
        ValueError: A day or a time is none, or a day is named twice.
    """
    ranges: dict[str, list[str]] = {}
    for rule in filter(None, (part.strip() for part in text.split(";"))):
        name, _, times = rule.partition(" ")
        if name in ranges:
            msg = f"expected each day once; received {name} twice"
            raise ValueError(msg)
        ranges[name] = times.split(",")
    return read_week(ranges) if ranges else None


def read_day(text: str) -> str:
    """Return the ranges of one day, as people type them, as they stand in a line; empty is closed.

    Raises:
        ValueError: One of them is none.
    """
    typed = text.translate(_TYPED).replace(" ", "")
    padded = re.sub(r"(?<!\d)(\d:)", r"0\1", typed)
    return written(sorted(read_range(part) for part in padded.split(",") if part))


def written(ranges: Sequence[tuple[int, int]]) -> str:
    """Return the ranges of a day as they are read."""
    return ",".join(f"{_clock(begin)}-{_clock(end)}" for begin, end in ranges)


def _clock(minutes: int) -> str:
    shown = minutes if minutes <= _MINUTES else minutes - _MINUTES
    return f"{shown // 60:02d}:{shown % 60:02d}"


def _runs(days: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of neighbours that are alike."""
    first = 0
    for number in range(1, len(days) + 1):
        if number == len(days) or days[number] != days[first]:
            yield first, number - 1
            first = number


def _minutes(hours: str, minutes: str) -> int:
    return int(hours) * 60 + int(minutes)


def _named(name: str) -> Sequence[int]:
    found = _NAMES.fullmatch(name)
    if found is None:
        msg = f"expected days like mon, sat or mon-fri; received {name!r}"
        raise ValueError(msg)
    begin, end = DAYS.index(found[1]), DAYS.index(found[2] or found[1])
    return [day % 7 for day in range(begin, end + 1 + (7 if end < begin else 0))]


def _at(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Return the moment at which a store's clock shows a time."""
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001 - a clock's face
    after = wall.replace(tzinfo=zone).astimezone(UTC)
    if after.astimezone(zone).replace(tzinfo=None) == wall:
        return after
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    jumped = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == jumped:
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)
