"""Keeps the days of products and slots: those that are over, and again where events came late.

A day is one of the store's zone. Every event is looked at once; table `rolled` has the first day of each
device that is not written yet, which late events bring back.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from dashboard.availability import TYPES, Day, Reading, day_of, days, packed
from dashboard.pages import timeline
from dashboard.past import CAMERA, Past, Turn, looked_at, new_events
from dashboard.store import Store
from dashboard.tables import AVAILABILITY, DAYS, DEVICES, PROGRESS, ROLLED, insert_into
from edge_agent.contracts.events import Kind, is_subject
from edge_agent.contracts.times import rfc3339

log = logging.getLogger(__name__)

Zones = Mapping[str, ZoneInfo]
"""The zones of stores; a store without one is in UTC."""

_UTC = ZoneInfo("UTC")


def roll_up(store: Store, now: datetime, zones: Zones) -> int:
    """Write the days that are over; return how many rows were written."""
    _look(store, zones)
    with store.engine.connect() as connection:
        waiting = connection.execute(sa.select(ROLLED).order_by(ROLLED.c.source)).all()
    written = 0
    for row in waiting:
        zone = _zone(zones, row.source)
        today = now.astimezone(zone).date()
        # Days of another zone are others.
        first = date.fromisoformat(row.next) if row.zone == zone.key else date.min
        if first < today:
            written += _write_alone(store, row.source, first, today, zone)
    return written


def _write_alone(store: Store, source: str, first: date, today: date, zone: ZoneInfo) -> int:
    """Write a device's days; what is wrong with them is told, and is no matter of other devices."""
    try:
        return _write(store, source, first, today, zone)
    except (sa.exc.DBAPIError, ValueError, ArithmeticError) as exc:
        if isinstance(exc, sa.exc.DBAPIError) and exc.connection_invalidated:
            raise
        log.warning("the days of %s: %s", source, str(exc).splitlines()[0])
        return 0


def _look(store: Store, zones: Zones) -> None:
    """Note of which days the events speak that came since the last time."""
    with store.engine.connect() as connection:
        after = looked_at(connection)
        found: dict[str, date] = {}
        for row in new_events(connection, after):
            after = row.row
            day = day_of(json.loads(row.body), _zone(zones, row.source)) if row.type in TYPES else None
            if day is not None:
                found[row.source] = min(day, found.get(row.source, day))
    with store.writing() as connection:
        dialect = connection.dialect.name
        insert = insert_into(dialect, ROLLED)
        least = sa.case((insert.excluded.next < ROLLED.c.next, insert.excluded.next), else_=ROLLED.c.next)
        lower = insert.on_conflict_do_update(index_elements=["source"], set_={"next": least})
        rows = [
            {"source": source, "next": day.isoformat(), "zone": _zone(zones, source).key}
            for source, day in sorted(found.items())
        ]
        if rows:
            connection.execute(lower, rows)
        kept = insert_into(dialect, PROGRESS).values(name=DAYS, row=after)
        connection.execute(kept.on_conflict_do_update(index_elements=["name"], set_={"row": after}))


def _write(store: Store, source: str, wanted: date, today: date, zone: ZoneInfo) -> int:
    """Write a device's days from the first on, as far back as there are events."""
    past = Past(store.engine)
    turn = Turn(past.first_day(source, wanted, today, zone), zone)
    with store.engine.connect() as connection:
        state = connection.execute(sa.select(DEVICES.c.state).where(DEVICES.c.source == source)).scalar()
    end = timeline.midnight(today, zone)
    reading = past.reading(source, state, turn, end)
    rows = [{"source": source, "store": _store(source), **row} for row in _rows(reading, turn, end)]
    table = AVAILABILITY.c
    with store.writing() as connection:
        mine = sa.and_(table.source == source, table.day >= turn.day.isoformat())
        connection.execute(sa.delete(AVAILABILITY).where(mine))
        if rows:
            connection.execute(sa.insert(AVAILABILITY), rows)
        done = sa.update(ROLLED).where(ROLLED.c.source == source)
        connection.execute(done.values(next=today.isoformat(), zone=zone.key))
    return sum(row["about"] != CAMERA for row in rows)


def _rows(reading: Reading, turn: Turn, end: datetime) -> Iterator[dict[str, object]]:
    """Yield the days of every subject of the contract's form, and the nights in which a camera was blind."""
    pieces = timeline.days(turn.moment, end, turn.zone)
    for subject in sorted(reading.changes):
        if pieces and any(is_subject(subject, kind) for kind in (Kind.RESTOCKED, Kind.SLOT_CHANGED)):
            _, shelf, about, name = subject.split("/")
            place = {"subject": subject, "shelf": shelf, "about": about, "name": name}
            yield from ({**place, **_values(day)} for day in days(reading, subject, pieces))
    nothing = dict.fromkeys(
        ("available_s", "low_s", "missing_s", "other_s", "gaps", "longest_s", "events"), 0
    )
    for day, _, night in pieces:
        if faults := reading.faults_at(night):
            place = {"subject": CAMERA, "shelf": "", "about": CAMERA, "name": "", "day": day.isoformat()}
            yield {**place, **nothing, "last": json.dumps(faults), "since": "", "spans": "[]"}


def _values(day: Day) -> dict[str, object]:
    return {
        "day": day.day.isoformat(),
        **day.seconds,
        "gaps": day.gaps,
        "longest_s": day.longest_s,
        "events": day.events,
        "last": day.last.state,
        "since": rfc3339(day.last.at),
        "spans": json.dumps(packed(day.spans), separators=(",", ":")),
    }


def _zone(zones: Zones, source: str) -> ZoneInfo:
    return zones.get(_store(source), _UTC)


def _store(source: str) -> str:
    return source.split("/")[2]
