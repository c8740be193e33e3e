"""Keeps the days of products and slots: those that are over, and again where events came late.

A day is one of the store's zone. Every event is looked at once; table `rolled` has the first day of each
device that is not written yet, which late events bring back.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dashboard.availability import TYPES, Day, Reading, day_of, days, read
from dashboard.queries import Queries
from dashboard.store import Store
from dashboard.tables import AVAILABILITY, DEVICES, EVENTS, PROGRESS, ROLLED, insert_into
from edge_agent.contracts.events import Kind, is_subject

log = logging.getLogger(__name__)

Zones = Mapping[str, ZoneInfo]
"""The zones of stores; a store without one is in UTC."""

_NAME = "availability"
_PAGE = 1000
_MOST_DAYS = 400
_DAY = timedelta(days=1)
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
        query = sa.select(PROGRESS.c.row).where(PROGRESS.c.name == _NAME)
        after = int(connection.execute(query).scalar() or 0)
        found: dict[str, date] = {}
        for row, source, body in _rows(connection, after):
            day = day_of(json.loads(body), _zone(zones, source))
            if day is not None:
                found[source] = min(day, found.get(source, day))
            after = row
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
        kept = insert_into(dialect, PROGRESS).values(name=_NAME, row=after)
        connection.execute(kept.on_conflict_do_update(index_elements=["name"], set_={"row": after}))


def _rows(connection: Connection, after: int) -> Iterator[tuple[int, str, str]]:
    """Yield row, source and body of events that say something, and of the last one that is there."""
    while True:
        query = sa.select(EVENTS.c.row, EVENTS.c.source, EVENTS.c.type, EVENTS.c.body)
        page = connection.execute(query.where(EVENTS.c.row > after).order_by(EVENTS.c.row).limit(_PAGE)).all()
        for row in page:
            yield row.row, row.source, row.body if row.type in TYPES else "{}"
        if len(page) < _PAGE:
            return
        after = page[-1].row


def _write(store: Store, source: str, wanted: date, today: date, zone: ZoneInfo) -> int:
    """Write a device's days from the first on, as far back as there are events."""
    table = AVAILABILITY.c
    with store.engine.connect() as connection:
        first = max(wanted, _oldest(connection, source, today, zone))
        eve = (first - _DAY).isoformat()
        query = sa.select(table.subject, table.last).where(table.source == source, table.day == eve)
        before = {row.subject: row.last for row in connection.execute(query)}
        state = connection.execute(sa.select(DEVICES.c.state).where(DEVICES.c.source == source)).scalar()
    begin, end = midnight(first, zone), midnight(today, zone)
    bodies = Queries(store.engine).told(source, TYPES, begin - _DAY, end + _DAY)
    reading = read(bodies, json.loads(state) if state else {}, begin, end, before)
    rows = [
        {"source": source, "subject": subject, **place, **_values(day)}
        for subject, place in _subjects(source, reading)
        for day in days(reading, subject, begin, end, zone)
    ]
    with store.writing() as connection:
        mine = sa.and_(table.source == source, table.day >= first.isoformat())
        connection.execute(sa.delete(AVAILABILITY).where(mine))
        if rows:
            connection.execute(sa.insert(AVAILABILITY), rows)
        done = sa.update(ROLLED).where(ROLLED.c.source == source)
        connection.execute(done.values(next=today.isoformat(), zone=zone.key))
    return len(rows)


def _values(day: Day) -> dict[str, object]:
    return asdict(day) | {"day": day.day.isoformat()}


def _oldest(connection: Connection, source: str, today: date, zone: ZoneInfo) -> date:
    """Return the first day that can be written: of what came before, events may be gone."""
    oldest = connection.execute(sa.select(sa.func.min(EVENTS.c.received)).where(EVENTS.c.source == source))
    told = oldest.scalar()
    limit = today - _MOST_DAYS * _DAY
    return limit if told is None else max(limit, datetime.fromisoformat(told).astimezone(zone).date())


def _subjects(source: str, reading: Reading) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every subject of the contract's form with store, shelf, what it is and its name."""
    for subject in sorted(reading.changes):
        if any(is_subject(subject, kind) for kind in (Kind.RESTOCKED, Kind.SLOT_CHANGED)):
            _, shelf, about, name = subject.split("/")
            yield subject, {"store": _store(source), "shelf": shelf, "about": about, "name": name}


def _zone(zones: Zones, source: str) -> ZoneInfo:
    return zones.get(_store(source), _UTC)


def _store(source: str) -> str:
    return source.split("/")[2]


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins, in UTC: in its own zone a day with a changed clock would count 24 hours."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
