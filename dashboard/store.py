"""What the recorder keeps, in SQLite or PostgreSQL: events, how far each stream is whole, gaps, devices."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from edge_agent.contracts.errors import ServiceError

_METADATA = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_EVENTS = sa.Table(
    "event",
    _METADATA,
    sa.Column("row", _BIG, primary_key=True, autoincrement=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("sequence", _BIG, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("received", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.UniqueConstraint("source", "id"),
    sa.Index("event_place", "source", "stream", "sequence"),
)
_STREAMS = sa.Table(
    "stream",
    _METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("upto", _BIG, nullable=False),
)
_GAPS = sa.Table(
    "gap",
    _METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("first", _BIG, primary_key=True),
    sa.Column("last", _BIG, nullable=False),
    sa.Column("noted", sa.Text, nullable=False),
)
_DEVICES = sa.Table(
    "device",
    _METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("store", sa.Text, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("state", sa.Text),
    sa.Column("health", sa.Text),
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it came in; `body` is its JSON, unchanged."""

    source: str
    id: str
    stream: str
    sequence: int
    type: str
    subject: str
    received: str
    body: str


class Store:
    """The database. Methods that write take the connection of one `transaction`.

    Args:
        url: `sqlite:///file.sqlite` or `postgresql://user:password@host/name`.

    Raises:
        ServiceError: It cannot be opened.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("postgresql://"):
            url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        try:
            self._engine = sa.create_engine(url, pool_pre_ping=True)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _durable)
            _METADATA.create_all(self._engine)
        except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as exc:
            told = str(getattr(exc, "orig", None) or exc).splitlines()[0]
            raise ServiceError(
                f"Expected: a database at {_hidden(url)}. Received: {told}.",
                hint="sqlite:///file.sqlite, or postgresql://user:password@host/name of a running server",
            ) from exc

    @property
    def engine(self) -> Engine:
        """The engine, for transactions."""
        return self._engine

    def add(self, connection: Connection, arrivals: Sequence[Arrival]) -> None:
        """Insert events that are not there yet; one that comes again at another place is moved there.

        A device whose disk was damaged begins a new stream with what it still has, ids unchanged.
        Without its new place that stream would never be whole.
        """
        if not arrivals:
            return
        rows = [{name: getattr(item, name) for name in Arrival.__slots__} for item in arrivals]
        insert = self._insert(_EVENTS)
        place = {name: getattr(insert.excluded, name) for name in ("stream", "sequence", "body")}
        elsewhere = _EVENTS.c.stream != insert.excluded.stream
        moved = insert.on_conflict_do_update(index_elements=["source", "id"], set_=place, where=elsewhere)
        connection.execute(moved, rows)

    def advance(self, connection: Connection, source: str, stream: str) -> int:
        """Return, and keep, the highest sequence up to which a stream is whole."""
        upto = self._upto(connection, source, stream)
        following: sa.ScalarResult[int] = connection.execute(
            sa.select(_EVENTS.c.sequence)
            .where(_EVENTS.c.stream == stream, _EVENTS.c.source == source, _EVENTS.c.sequence > upto)
            .order_by(_EVENTS.c.sequence)
        ).scalars()
        reached = upto
        for sequence in following:
            if sequence > reached + 1:
                break
            reached = max(reached, sequence)
        self._set_upto(connection, source, stream, upto, reached)
        return reached

    def skip_to(self, connection: Connection, source: str, stream: str, oldest: int, noted: datetime) -> int:
        """Acknowledge past what a device no longer has; what was never received is recorded as gaps."""
        upto = self._upto(connection, source, stream)
        if oldest > upto + 1:
            there: sa.ScalarResult[int] = connection.execute(
                sa.select(_EVENTS.c.sequence)
                .where(
                    _EVENTS.c.stream == stream,
                    _EVENTS.c.source == source,
                    _EVENTS.c.sequence > upto,
                    _EVENTS.c.sequence < oldest,
                )
                .order_by(_EVENTS.c.sequence)
            ).scalars()
            for first, last in _holes(there, upto + 1, oldest - 1):
                place = {"source": source, "stream": stream, "first": first}
                values = {**place, "last": last, "noted": noted.isoformat()}
                connection.execute(self._insert(_GAPS).on_conflict_do_nothing(), values)
            self._set_upto(connection, source, stream, upto, oldest - 1)
        return self.advance(connection, source, stream)

    def _upto(self, connection: Connection, source: str, stream: str) -> int:
        values = {"stream": stream, "source": source, "upto": 0}
        connection.execute(self._insert(_STREAMS).on_conflict_do_nothing(), values)
        found: int = connection.execute(
            sa.select(_STREAMS.c.upto).where(_STREAMS.c.source == source, _STREAMS.c.stream == stream)
        ).scalar_one()
        return found

    def _set_upto(self, connection: Connection, source: str, stream: str, before: int, now: int) -> None:
        if now > before:
            of = sa.update(_STREAMS).where(_STREAMS.c.source == source, _STREAMS.c.stream == stream)
            connection.execute(of.values(upto=now))

    def note(self, connection: Connection, source: str, store: str, device: str, **latest: str) -> None:
        """Keep the latest `state` or `health` of a device, JSON."""
        values = {"source": source, "store": store, "device": device, **latest}
        statement = self._insert(_DEVICES).values(values)
        connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=latest))

    def _insert(self, table: sa.Table) -> Any:  # noqa: ANN401 - one of two dialects' own classes
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)

    def devices(self) -> list[dict[str, Any]]:
        """Return every device with its latest state and health."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_DEVICES).order_by(_DEVICES.c.store, _DEVICES.c.device))
            return [
                {
                    "store": row.store,
                    "device": row.device,
                    "state": json.loads(row.state) if row.state else None,
                    "health": json.loads(row.health) if row.health else None,
                }
                for row in rows
            ]

    def events(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Return events behind a row, oldest first; with a negative `after`, the latest ones."""
        query = sa.select(_EVENTS.c.row, _EVENTS.c.received, _EVENTS.c.body).limit(limit)
        if after < 0:
            query = query.order_by(_EVENTS.c.row.desc())
        else:
            query = query.where(_EVENTS.c.row > after).order_by(_EVENTS.c.row)
        with self._engine.connect() as connection:
            rows = [
                {"row": row.row, "received": row.received, "event": json.loads(row.body)}
                for row in connection.execute(query)
            ]
        return rows[::-1] if after < 0 else rows

    def gaps(self) -> list[dict[str, Any]]:
        """Return what is known to be lost."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                sa.select(_GAPS).order_by(_GAPS.c.source, _GAPS.c.stream, _GAPS.c.first)
            )
            return [dict(row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for it

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _durable(connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's signature
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def _holes(there: Iterable[int], first: int, last: int) -> list[tuple[int, int]]:
    """Return the ranges from first to last that are not there."""
    holes, begin = [], first
    for sequence in [*there, last + 1]:
        if sequence > begin:
            holes.append((begin, sequence - 1))
        begin = max(begin, sequence + 1)
    return holes


def _hidden(url: str) -> str:
    """Return a URL fit to be shown: without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return repr(url)
