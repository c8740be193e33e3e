"""Keeps the daily availability up to date: days that are over, and again where events came late."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dashboard.availability import TYPES, Turn, days, snapshot_turns, turn
from dashboard.store import Store
from dashboard.tables import AVAILABILITY, DEVICES, EVENTS, PROGRESS, insert_into
from edge_agent.contracts.events import Kind, is_subject
from edge_agent.contracts.times import rfc3339

log = logging.getLogger(__name__)

_NAME = "availability"
_PAGE = 1000
_MOST_DAYS = 400
_DAY = timedelta(days=1)


def roll_up(store: Store, now: datetime) -> int:
    """Write the days that are over; return how many rows were written.

    Events are read once, in the order of their coming. A device that was away sends days that were
    written before: from the first of them on they are written again, for this device alone.
    """
    today = now.astimezone(UTC).date()
    with store.engine.connect() as connection:
        after = int(
            connection.execute(sa.select(PROGRESS.c.row).where(PROGRESS.c.name == _NAME)).scalar() or 0
        )
        touched, last = _touched(connection, after, today)
        begun = _unfinished(connection, today)
    for source, first in begun.items():
        touched[source] = min(first, touched.get(source, first))
    written = 0
    for source, first in sorted(touched.items()):
        if first < today:
            written += _write_alone(store, source, first, today)
    with store.writing() as connection:
        insert = insert_into(connection.dialect.name, PROGRESS)
        kept = insert.values(name=_NAME, row=last)
        connection.execute(kept.on_conflict_do_update(index_elements=["name"], set_={"row": last}))
    return written


def _write_alone(store: Store, source: str, first: date, today: date) -> int:
    """Write a device's days; what is wrong with them is told, and is no matter of other devices."""
    try:
        with store.writing() as connection:
            return _write(connection, source, max(first, _oldest(connection, source, today)), today)
    except (sa.exc.DBAPIError, ValueError, ArithmeticError) as exc:
        if isinstance(exc, sa.exc.DBAPIError) and exc.connection_invalidated:
            raise
        log.warning("the days of %s: %s", source, str(exc).splitlines()[0])
        return 0


def _touched(connection: Connection, after: int, today: date) -> tuple[dict[str, date], int]:
    """Return the first day that new events speak of, by source, and the last row that is done with.

    Events of today are looked at again tomorrow: nothing behind the first of them is done with.
    """
    found: dict[str, date] = {}
    done: int | None = None
    for row, source, body in _rows(connection, after):
        about = turn(json.loads(body))
        if about is None or about.at.date() > today:
            pass
        elif about.at.date() < today:
            found[source] = min(about.at.date(), found.get(source, today))
        elif done is None:
            done = after
        after = row
    return found, after if done is None else done


def _rows(connection: Connection, after: int) -> Iterator[tuple[int, str, str]]:
    while True:
        query = sa.select(EVENTS.c.row, EVENTS.c.source, EVENTS.c.body).where(EVENTS.c.row > after)
        page = connection.execute(query.order_by(EVENTS.c.row).limit(_PAGE)).all()
        for row in page:
            yield row.row, row.source, row.body
        if len(page) < _PAGE:
            return
        after = page[-1].row


def _unfinished(connection: Connection, today: date) -> dict[str, date]:
    """Return the first day that is missing, by source, of devices that are known already."""
    latest = sa.select(AVAILABILITY.c.source, sa.func.max(AVAILABILITY.c.day).label("day"))
    found = {}
    for row in connection.execute(latest.group_by(AVAILABILITY.c.source)):
        following = date.fromisoformat(row.day) + _DAY
        if following < today:
            found[row.source] = following
    return found


def _write(connection: Connection, source: str, first: date, today: date) -> int:
    """Write a device's days from the first on."""
    table = AVAILABILITY.c
    eve = (first - _DAY).isoformat()
    yesterday = sa.select(table.subject, table.last).where(table.source == source, table.day == eve)
    before: dict[str, str] = {row.subject: row.last for row in connection.execute(yesterday)}
    turns = _turns(connection, source, first)
    rows = []
    for subject in sorted({*before, *turns}):
        place = _placed(source, subject)
        if place is None:
            continue
        for day in days(before.get(subject, ""), turns[subject], first, today):
            values = {name: getattr(day, name) for name in ("available_s", "low_s", "missing_s", "other_s")}
            known = {"events": day.events, "last": day.last, "day": day.day.isoformat()}
            if day.last:
                rows.append({"source": source, "subject": subject, **place, **values, **known})
    connection.execute(sa.delete(AVAILABILITY).where(table.source == source, table.day >= first.isoformat()))
    if rows:
        connection.execute(sa.insert(AVAILABILITY), rows)
    return len(rows)


def _oldest(connection: Connection, source: str, today: date) -> date:
    """Return the first day that can be written: of what came before, events may be gone."""
    oldest = connection.execute(sa.select(sa.func.min(EVENTS.c.received)).where(EVENTS.c.source == source))
    told = oldest.scalar()
    limit = today - _MOST_DAYS * _DAY
    return limit if told is None else max(limit, date.fromisoformat(told[:10]))


def _turns(connection: Connection, source: str, first: date) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = defaultdict(list)
    # A device's clock may be ahead of ours by a little; by more it is its own mistake.
    since = rfc3339(datetime(first.year, first.month, first.day, tzinfo=UTC) - _DAY)
    mine = (EVENTS.c.source == source, EVENTS.c.type.in_(TYPES))
    # Those of the days themselves, and of each subject the one before: what held when they began.
    latest = sa.select(sa.func.max(EVENTS.c.row)).where(*mine, EVENTS.c.received < since)
    wanted = sa.or_(EVENTS.c.received >= since, EVENTS.c.row.in_(latest.group_by(EVENTS.c.subject)))
    query = sa.select(EVENTS.c.subject, EVENTS.c.body).where(*mine, wanted)
    for row in connection.execute(query):
        about = turn(json.loads(row.body))
        if about is not None:
            found[row.subject].append(about)
    state = connection.execute(sa.select(DEVICES.c.state).where(DEVICES.c.source == source)).scalar()
    for subject, about in snapshot_turns(json.loads(state) if state else {}).items():
        if about not in found[subject]:
            found[subject].append(about)
    return found


def _placed(source: str, subject: str) -> dict[str, str] | None:
    """Return store, shelf, what it is and its name; None for a subject of another form."""
    if not any(is_subject(subject, kind) for kind in (Kind.RESTOCKED, Kind.SLOT_CHANGED)):
        return None
    _, shelf, about, name = subject.split("/")
    return {"store": source.split("/")[2], "shelf": shelf, "about": about, "name": name}
