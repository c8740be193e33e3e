"""Moments by the clock of a store."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from dashboard.hours import Week
from dashboard.pages.language import Catalogue

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def at(moment: datetime | str | None, zone: str = "UTC") -> str:
    """Return `2026-11-26 09:14` as a clock in a zone shows it; a text that is no moment stays as it is."""
    if moment is None:
        return "-"
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        return str(moment)
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def span(spoken: Catalogue, seconds: float) -> str:
    """Return a duration in two units at most: `3 d 4 h`, `12 min`."""
    whole = int(max(seconds, 0))
    if whole < _MINUTE:
        return spoken.say("span.s", n=whole)
    if whole < _HOUR:
        return spoken.say("span.min", n=whole // _MINUTE)
    if whole < _DAY:
        return _two(spoken, "h", whole // _HOUR, "min", whole % _HOUR // _MINUTE)
    return _two(spoken, "d", whole // _DAY, "h", whole % _DAY // _HOUR)


def hours(spoken: Catalogue, week: Week) -> str:
    """Return opening hours in the words of a reader."""
    return re.sub(r"[a-z]{3}", lambda day: spoken.say(f"day.{day[0]}"), str(week))


def _two(spoken: Catalogue, large: str, first: int, small: str, second: int) -> str:
    said = spoken.say(f"span.{large}", n=first)
    return f"{said} {spoken.say(f'span.{small}', n=second)}" if second else said
