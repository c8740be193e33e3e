"""What the database knows of the past: days that are kept, and behind them the events of the rest.

Where both tell of a day they say the same; but events go when they are old, and reading a year of them takes
long. So pages and the roll-up begin at the first day that is not kept, with what held in the night before.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from dashboard.availability import TYPES, Before, Reading, day_of, read, unpacked
from dashboard.pages.timeline import Change, Span, midnight
from dashboard.tables import AVAILABILITY, DAYS, EVENTS, PROGRESS, PURGED, ROLLED
from edge_agent.contracts.times import moment, rfc3339

CAMERA = "camera"
"""As which the faults of a device are kept, where some held in the night."""

_DAY = timedelta(days=1)
_MOST_DAYS = 400
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Turn:
    """Where the days of a device that are kept end: before this day of this zone."""

    day: date
    zone: ZoneInfo

    @property
    def moment(self) -> datetime:
        """When that is."""
        return midnight(self.day, self.zone)


class Past:
    """Questions about it.

    Args:
        engine: Of the recorder's store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def turns(self, store: str) -> dict[str, Turn]:
        """Return of each device where its kept days end: events that came since the last roll-up count."""
        home = f"/stores/{store}/devices/"
        mine = ROLLED.c.source.startswith(home, autoescape=True)
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(ROLLED).where(mine)).all()
            found = {row.source: Turn(date.fromisoformat(row.next), ZoneInfo(row.zone)) for row in rows}
            told = (EVENTS.c.source.startswith(home, autoescape=True), EVENTS.c.type.in_(TYPES))
            for row in new_events(connection, looked_at(connection), *told):
                turn = found.get(row.source)
                day = turn and day_of(json.loads(row.body), turn.zone)
                if turn and day:
                    found[row.source] = Turn(min(day, turn.day), turn.zone)
        return found

    def first_day(self, source: str, wanted: date, today: date, zone: ZoneInfo) -> date:
        """Return the first day, from a wanted one on, of which all events are there."""
        oldest = sa.select(sa.func.min(EVENTS.c.received)).where(EVENTS.c.source == source)
        with self._engine.connect() as connection:
            told = connection.execute(oldest).scalar()
            purged = _progress(connection, PURGED)
        limits = [wanted, today - _MOST_DAYS * _DAY]
        if told is not None:
            limits.append(datetime.fromisoformat(told).astimezone(zone).date())
        if purged:
            # Of a day that a device's clock had reached already, events may be gone, too.
            last = datetime.fromtimestamp(purged / 1000, UTC) + _DAY
            limits.append(last.astimezone(zone).date() + _DAY)
        first = min(max(limits), today)
        if first > wanted:
            # Never so far that a day would be left out between.
            kept = sa.select(sa.func.max(AVAILABILITY.c.day)).where(AVAILABILITY.c.source == source)
            with self._engine.connect() as connection:
                latest = connection.execute(kept).scalar()
            first = first if latest is None else min(first, date.fromisoformat(latest) + _DAY)
        return first

    def reading(self, source: str, state: str | None, turn: Turn, until: datetime) -> Reading:
        """Read what events say from a day on, and before it the day that is kept."""
        begin, before = turn.moment, self._before(source, turn.day)
        # Where no night is kept, what held in it is in events before.
        bodies = self._bodies(source, None if before is None else begin - _DAY, until + _DAY)
        return read(bodies, json.loads(state) if state else {}, begin, until, before)

    def _before(self, source: str, day: date) -> Before | None:
        """Return what held in the night before a day; None where that night is not kept."""
        eve = AVAILABILITY.c.day == (day - _DAY).isoformat()
        columns = (AVAILABILITY.c[name] for name in ("subject", "about", "last", "since"))
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(*columns).where(AVAILABILITY.c.source == source, eve)).all()
        faults = [name for row in rows if row.about == CAMERA for name in json.loads(row.last)]
        changes = {
            row.subject: Change(at, row.last)
            for row in rows
            if row.about != CAMERA and (at := moment(row.since)) is not None
        }
        return Before(changes, faults) if rows else None

    def _bodies(self, source: str, since: datetime | None, until: datetime) -> Iterator[dict[str, Any]]:
        """Yield what a device said of its shelf in a while, as it came."""
        event = EVENTS.c
        query = sa.select(event.body).where(event.source == source, event.type.in_(TYPES))
        query = query.where(event.received < rfc3339(until))
        if since is not None:
            query = query.where(event.received >= rfc3339(since))
        with self._engine.connect() as connection:
            for row in connection.execute(query.order_by(event.row)):
                yield json.loads(row.body)

    def kept(self, store: str, about: str, name: str | None, first: date) -> dict[str, dict[str, list[Span]]]:
        """Return what is kept of products or slots from a day on, by device and subject.

        What has a name is found whenever it was there.
        """
        day = AVAILABILITY.c
        query = sa.select(day.source, day.subject, day.day, day.spans)
        query = query.where(day.store == store, day.about == about)
        query = query.where(day.day >= first.isoformat() if name is None else day.name == name)
        found: dict[str, dict[str, list[Span]]] = {}
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(day.source, day.subject, day.day))
            for (source, subject), days in itertools.groupby(rows, key=lambda row: (row.source, row.subject)):
                texts = (row.spans for row in days if row.day >= first.isoformat())
                spans = [span for text in texts for span in unpacked(json.loads(text))]
                found.setdefault(source, {})[subject] = spans
        return found


def looked_at(connection: Connection) -> int:
    """Return the row of the last event of which days know."""
    return _progress(connection, DAYS)


def new_events(connection: Connection, after: int, *wanted: sa.ColumnElement[bool]) -> Iterator[Any]:
    """Yield row, source, type and body of events that came behind a row."""
    event = EVENTS.c
    while True:
        query = sa.select(event.row, event.source, event.type, event.body).where(event.row > after, *wanted)
        page = connection.execute(query.order_by(event.row).limit(_PAGE)).all()
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].row


def _progress(connection: Connection, name: str) -> int:
    return int(connection.execute(sa.select(PROGRESS.c.row).where(PROGRESS.c.name == name)).scalar() or 0)
