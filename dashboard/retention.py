"""What is old goes, and on PostgreSQL each month gets a table of its own.

Only what every device may forget is removed: what waits behind a hole stays, however old it is.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dashboard.store import Store
from dashboard.tables import (
    AVAILABILITY,
    EVENTS,
    GAPS,
    NO_MONTH,
    PROGRESS,
    PURGED,
    QUARANTINE,
    STREAMS,
    insert_into,
)
from edge_agent.contracts.times import rfc3339

_CHUNK = 2000
_AHEAD = 2
_DECEMBER = 12


def purge(store: Store, keep: timedelta, now: datetime) -> int:
    """Remove events, gaps and quarantine older than `keep`; return how many events."""
    before = rfc3339(now - keep)
    removed, after = 0, 0
    while True:
        with store.writing() as connection:
            looked, last, gone = _purge_some(connection, before, after)
        removed, after = removed + gone, last
        if looked < _CHUNK:
            break
    with store.writing() as connection:
        connection.execute(sa.delete(QUARANTINE).where(QUARANTINE.c.received < before))
        connection.execute(sa.delete(GAPS).where(GAPS.c.noted < before[:10]))
        if removed:
            _note_purge(connection, now - keep)
    _drop_empty_months(store, now)
    return removed


def _note_purge(connection: Connection, before: datetime) -> None:
    """Remember of which days events are gone: they cannot be counted again."""
    at = int(before.timestamp() * 1000)
    insert = insert_into(connection.dialect.name, PROGRESS).values(name=PURGED, row=at)
    latest = sa.case((insert.excluded.row > PROGRESS.c.row, insert.excluded.row), else_=PROGRESS.c.row)
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"row": latest}))


def purge_days(store: Store, keep: timedelta, now: datetime) -> int:
    """Remove rolled-up days older than `keep`; return how many rows."""
    before = rfc3339(now - keep)[:10]
    with store.writing() as connection:
        return connection.execute(sa.delete(AVAILABILITY).where(AVAILABILITY.c.day < before)).rowcount


def _purge_some(connection: Connection, before: str, after: int) -> tuple[int, int, int]:
    """Look at some rows in the order of their coming; return how many, the last of them, how many went.

    A page ends early, so that the search ends, where it meets the first that is to be kept.
    """
    query = sa.select(EVENTS.c.row, EVENTS.c.received).where(EVENTS.c.row > after)
    page = connection.execute(query.order_by(EVENTS.c.row).limit(_CHUNK)).all()
    old = [row.row for row in page if row.received < before]
    if not old:
        return 0, after, 0
    whole = sa.select(STREAMS.c.upto).where(
        STREAMS.c.source == EVENTS.c.source, STREAMS.c.stream == EVENTS.c.stream
    )
    gone = sa.delete(EVENTS).where(
        EVENTS.c.row > after,
        EVENTS.c.row <= old[-1],
        EVENTS.c.received < before,
        EVENTS.c.sequence <= whole.scalar_subquery(),
    )
    count = connection.execute(gone).rowcount
    return (len(page) if page[-1].received < before else 0), page[-1].row, count


def prepare_months(store: Store, now: datetime) -> list[str]:
    """Make the tables of this month and the next ones; return the new ones. PostgreSQL alone.

    Events of other months are in the fallback table, until their month gets a table of its own here.
    """
    if store.engine.dialect.name != "postgresql":
        return []
    made = []
    with store.writing() as connection:
        there = set(_months(connection))
        waiting = connection.exec_driver_sql(
            f"SELECT DISTINCT month FROM event_other WHERE month BETWEEN 200001 AND {_later(now, _AHEAD)}"  # noqa: S608 - a number
        )
        wanted = {_later(now, ahead) for ahead in range(_AHEAD + 1)} | set(waiting.scalars())
        for number in sorted(wanted - there - {NO_MONTH}):
            _give_table(connection, number)
            made.append(f"event_{number}")
    return made


def _give_table(connection: Connection, number: int) -> None:
    """Make the table of a month, with what waits for it in the fallback."""
    name = f"event_{number}"
    moved = f"WITH moved AS (DELETE FROM event_other WHERE month = {number} RETURNING *)"  # noqa: S608 - a number
    for line in (
        f"CREATE TABLE {name} (LIKE event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        f"{moved} INSERT INTO {name} SELECT * FROM moved",  # noqa: S608 - names of ours
        f"ALTER TABLE event ATTACH PARTITION {name} FOR VALUES FROM ({number}) TO ({number + 1})",
    ):
        connection.exec_driver_sql(line)


def _drop_empty_months(store: Store, now: datetime) -> None:
    if store.engine.dialect.name != "postgresql":
        return
    with store.writing() as connection:
        for number in _months(connection):
            name = f"event_{number}"
            old = number < _later(now, 0)
            if old and connection.exec_driver_sql(f"SELECT 1 FROM {name} LIMIT 1").first() is None:  # noqa: S608
                connection.exec_driver_sql(f"DROP TABLE {name}")


def _months(connection: Connection) -> list[int]:
    query = "SELECT relid::regclass::text FROM pg_partition_tree('event') WHERE isleaf AND level = 1"
    names: list[str] = list(connection.exec_driver_sql(query).scalars())
    return [int(name.removeprefix("event_")) for name in names if name != "event_other"]


def _later(now: datetime, months: int) -> int:
    year, index = divmod(now.year * _DECEMBER + now.month - 1 + months, _DECEMBER)
    return year * 100 + index + 1
