"""How long a product or slot was what it should be, day by day (UTC): kept when its events are gone.

Pure: events and a snapshot in, days out. A state holds from its `since` until the next one; before the
first that is known nobody can say, and that time is in none of the columns.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from edge_agent.contracts.events import Kind
from edge_agent.contracts.times import moment

_DAY = timedelta(days=1)
_COLUMN = {
    "ok": "available_s",
    "low": "low_s",
    "out": "missing_s",
    "present": "available_s",
    "empty": "missing_s",
    "misplaced": "other_s",
    "unknown": "other_s",
}
_LEVELS = {Kind.RESTOCKED.type: "ok", Kind.LOW_STOCK.type: "low", Kind.OUT_OF_STOCK.type: "out"}
TYPES = (*_LEVELS, Kind.SLOT_CHANGED.type)
"""The events that say in which state something is."""


@dataclass(frozen=True, slots=True)
class Turn:
    """From `at` on something is in a state."""

    at: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one product or slot, in whole seconds."""

    day: date
    available_s: int
    low_s: int
    missing_s: int
    other_s: int
    events: int
    last: str


def turn(event: dict[str, Any]) -> Turn | None:
    """Return what an event says about its subject; None where it is about something else."""
    kind, data = event.get("type"), event.get("data")
    if kind not in TYPES or not isinstance(data, dict):
        return None
    state = _LEVELS.get(kind) or str(data.get("state"))
    at = moment(str(data.get("since"))) or moment(str(event.get("time")))
    return Turn(at.astimezone(UTC), state) if at is not None and state in _COLUMN else None


def snapshot_turns(state: dict[str, Any]) -> dict[str, Turn]:
    """Return what a snapshot says, by subject: it repairs what was lost before it."""
    found: dict[str, Turn] = {}
    shelf = state.get("shelf")
    products = [(f"product/{item.get('label')}", item) for item in state.get("products", ())]
    slots = [(f"slot/{name}", item) for name, item in state.get("slots", {}).items()]
    for name, item in (*products, *slots):
        at = moment(str(item.get("since")))
        if at is not None and item.get("state") in _COLUMN:
            found[f"shelf/{shelf}/{name}"] = Turn(at.astimezone(UTC), item["state"])
    return found


def days(before: str, turns: Iterable[Turn], first: date, end: date) -> list[Day]:
    """Return the days from `first` to the one before `end`.

    Args:
        before: The state at the beginning of the first day; empty where nobody knows.
        turns: In any order; what lies before the first day is its beginning, if it is the latest.
        first: The first day.
        end: The day behind the last one.
    """
    ordered = sorted(turns, key=lambda item: item.at)
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    state = next((item.state for item in reversed(ordered) if item.at < begin), before)
    coming = [item for item in ordered if item.at >= begin]
    found = []
    while begin.date() < end:
        today = [item for item in coming if begin <= item.at < begin + _DAY]
        found.append(_day(begin, state, today))
        state = found[-1].last
        begin += _DAY
    return found


def _day(begin: datetime, state: str, turns: list[Turn]) -> Day:
    seconds = dict.fromkeys(("available_s", "low_s", "missing_s", "other_s"), 0.0)
    at = begin
    for item in (*turns, Turn(begin + _DAY, state)):
        if state:
            seconds[_COLUMN[state]] += (item.at - at).total_seconds()
        if item.at < begin + _DAY:
            state = item.state
        at = item.at
    whole = {name: round(value) for name, value in seconds.items()}
    return Day(day=begin.date(), events=len(turns), last=state, **whole)
