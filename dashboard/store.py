"""What the recorder keeps, in SQLite or PostgreSQL: events, how far each stream is whole, gaps, devices.

Everything of a batch goes in by a handful of statements, however many devices it came from. A stream
is whole up to `upto`, which never goes back: it is read under a lock, beside which nobody writes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from dashboard import latest, schema
from dashboard.batch import Arrival, Batch, Place, Refusal, Stream
from dashboard.tables import EVENTS, GAPS, LOST, QUARANTINE, REFUSED, STREAMS, insert_into, month
from edge_agent.contracts.errors import ServiceError

__all__ = ["Arrival", "Batch", "Place", "Refusal", "Store"]

_CHUNK = 1000
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class _Known:
    """How far a stream is whole, the highest that ever came, and whether both are in the table."""

    upto: int
    top: int
    kept: bool


class Store:
    """The database. Methods that write take the connection of one `writing`.

    Args:
        url: `sqlite:///file.sqlite` or `postgresql://user:password@host/name`.

    Raises:
        ServiceError: It cannot be opened, or a newer program wrote it.
    """

    def __init__(self, url: str) -> None:
        self._engine = schema.open_engine(url)
        try:
            schema.upgrade(self._engine)
        except sa.exc.SQLAlchemyError as exc:
            self._engine.dispose()
            raise schema.away(url, exc) from exc
        except ServiceError:
            self._engine.dispose()
            raise
        self._postgres = self._engine.dialect.name == "postgresql"

    @property
    def engine(self) -> Engine:
        """The engine, for readers."""
        return self._engine

    def writing(self) -> AbstractContextManager[Connection]:
        """Give a transaction beside which nobody writes."""
        return schema.writing(self._engine)

    def take(self, connection: Connection, batch: Batch, noted: datetime) -> dict[Stream, int]:
        """Write a batch; return up to where each stream that it speaks of is whole."""
        refused = [item.place for item in batch.refusals if item.place is not None]
        self._quarantine(connection, batch.refusals)
        self._add(connection, batch.arrivals)
        came: dict[Stream, set[int]] = {}
        places = [(item.source, item.stream, item.sequence) for item in batch.arrivals]
        places += [(place.source, place.stream, place.sequence) for place in refused]
        for source, stream, sequence in places:
            came.setdefault((source, stream), set()).add(sequence)
        asked = {*came, *batch.oldest}
        if not asked and not batch.latest:
            return {}
        known = self._known(connection, asked)
        late = {key: numbers for key, numbers in came.items() if min(numbers) <= known[key].top}
        self._close_gaps(connection, late)
        self._note_refused(connection, refused, noted)
        reached = {
            key: self._reached(
                connection, key, known[key], came.get(key, set()), batch.oldest.get(key), noted
            )
            for key in sorted(asked)
        }
        self._keep(connection, known, came, reached)
        latest.note(connection, batch.latest)
        return reached

    def _add(self, connection: Connection, arrivals: Sequence[Arrival]) -> None:
        """Insert events that are not there yet; one that comes again at another place is moved there.

        A device whose disk was damaged begins a new stream with what it still has, ids unchanged.
        Without its new place that stream would never be whole.
        """
        if not arrivals:
            return
        # Of one that came twice in a batch the last: a statement may touch a row once only.
        rows = list({(item.source, item.id): item for item in arrivals}.values())
        if self._postgres:
            columns = [list(column) for column in zip(*rows, strict=True)]
            months = [month(item.id) for item in rows]
            connection.exec_driver_sql(_INSERT_MANY, (*columns, months))
        else:
            connection.exec_driver_sql(_INSERT_ONE, rows)

    def _known(self, connection: Connection, asked: Iterable[Stream]) -> "dict[Stream, _Known]":
        """Return what is known of streams, locked."""
        found: dict[Stream, _Known] = {}
        wanted = set(asked)
        topless: dict[Stream, int] = {}
        for chunk in _chunks(sorted({source for source, _ in wanted})):
            query = sa.select(STREAMS).where(STREAMS.c.source.in_(chunk)).order_by(*STREAMS.primary_key)
            for row in connection.execute(query.with_for_update()):
                key = (row.source, row.stream)
                if key in wanted and row.top is None:
                    topless[key] = row.upto
                elif key in wanted:
                    found[key] = _Known(row.upto, row.top, kept=True)
        missing = wanted - set(found)
        tops = self._tops(connection, missing)
        for key in missing:
            found[key] = _Known(topless.get(key, 0), tops.get(key, 0), kept=False)
        return found

    def _tops(self, connection: Connection, streams: Iterable[Stream]) -> dict[Stream, int]:
        """Return the highest sequence that is there, by stream."""
        event = EVENTS.c
        found: dict[Stream, int] = {}
        for chunk in _chunks(sorted(streams)):
            query = sa.select(event.source, event.stream, sa.func.max(event.sequence))
            query = query.where(sa.tuple_(event.source, event.stream).in_(chunk))
            rows = connection.execute(query.group_by(event.source, event.stream))
            found |= {(row[0], row[1]): int(row[2]) for row in rows}
        return found

    def _reached(
        self,
        connection: Connection,
        key: Stream,
        known: "_Known",
        came: set[int],
        oldest: int | None,
        noted: datetime,
    ) -> int:
        reached = known.upto
        while reached + 1 in came:
            reached += 1
        if oldest is not None and oldest > reached + 1:
            holes = _holes(self._there(connection, key, reached, oldest), reached + 1, oldest - 1)
            places = [(Place(*key, first), last) for first, last in holes]
            self._note_gaps(connection, places, noted, LOST)
            reached = oldest - 1
        if max(known.top, *came, 0) > reached:
            return self._whole(connection, key, reached)
        return reached

    def _whole(self, connection: Connection, key: Stream, upto: int) -> int:
        """Return how far a stream goes on without a hole behind a place."""
        reached = upto
        for sequence in self._there(connection, key, upto, None):
            if sequence > reached + 1:
                break
            reached = max(reached, sequence)
        return reached

    def _there(self, connection: Connection, key: Stream, after: int, before: int | None) -> Iterator[int]:
        """Yield the sequences that are there, or known to be refused, in order."""
        event, gap = EVENTS.c, GAPS.c
        passed = sa.select(gap.first).where(gap.source == key[0], gap.stream == key[1], gap.reason == REFUSED)
        while True:
            here = sa.select(event.sequence).where(event.source == key[0], event.stream == key[1])
            here, skipped = here.where(event.sequence > after), passed.where(gap.first > after)
            if before is not None:
                here, skipped = here.where(event.sequence < before), skipped.where(gap.first < before)
            both = here.union(skipped).subquery()
            query = sa.select(both.c.sequence).order_by(both.c.sequence).limit(_CHUNK)
            found: list[int] = list(connection.execute(query).scalars())
            yield from found
            if len(found) < _CHUNK:
                return
            after = found[-1]

    def _note_gaps(
        self, connection: Connection, places: Sequence[tuple[Place, int]], noted: datetime, reason: str
    ) -> None:
        """Record that what lies from a place to a last sequence is missing."""
        if places:
            rows = [
                {
                    "source": place.source,
                    "stream": place.stream,
                    "first": place.sequence,
                    "last": last,
                    "noted": noted.isoformat(),
                    "reason": reason,
                }
                for place, last in places
            ]
            connection.execute(self._insert(GAPS).on_conflict_do_nothing(), rows)

    def _close_gaps(self, connection: Connection, late: Mapping[Stream, set[int]]) -> None:
        """Take what came after all out of the gaps."""
        if not late:
            return
        query = sa.select(GAPS).where(GAPS.c.source.in_({source for source, _ in late}))
        for row in connection.execute(query).all():
            numbers = late.get((row.source, row.stream), set())
            there = sorted(number for number in numbers if row.first <= number <= row.last)
            if not there:
                continue
            key = {name: getattr(row, name) for name in ("source", "stream", "first")}
            connection.execute(sa.delete(GAPS).where(*(GAPS.c[name] == value for name, value in key.items())))
            rest = [
                {**key, "first": first, "last": last, "noted": row.noted, "reason": row.reason}
                for first, last in _holes(there, row.first, row.last)
            ]
            if rest:
                connection.execute(sa.insert(GAPS), rest)

    def _note_refused(self, connection: Connection, places: Sequence[Place], noted: datetime) -> None:
        """Pass over places whose message is in quarantine: their device would send it for ever."""
        missing = []
        for place in places:
            event, gap = EVENTS.c, GAPS.c
            mine = (event.source == place.source, event.stream == place.stream)
            here = sa.select(event.row).where(*mine, event.sequence == place.sequence)
            told = sa.select(gap.first).where(
                gap.source == place.source,
                gap.stream == place.stream,
                gap.first <= place.sequence,
                gap.last >= place.sequence,
            )
            if connection.execute(here).first() is None and connection.execute(told).first() is None:
                missing.append((place, place.sequence))
        self._note_gaps(connection, missing, noted, REFUSED)

    def _keep(
        self,
        connection: Connection,
        known: "Mapping[Stream, _Known]",
        came: Mapping[Stream, set[int]],
        reached: Mapping[Stream, int],
    ) -> None:
        rows = []
        for key, upto in reached.items():
            before = known[key]
            top = max(before.top, upto, *came.get(key, ()))
            if not before.kept or (upto, top) != (before.upto, before.top):
                rows.append({"source": key[0], "stream": key[1], "upto": upto, "top": top})
        if rows:
            insert = self._insert(STREAMS)
            latest = {name: insert.excluded[name] for name in ("upto", "top")}
            changed = insert.on_conflict_do_update(index_elements=["source", "stream"], set_=latest)
            connection.execute(changed, rows)

    def _quarantine(self, connection: Connection, refusals: Sequence[Refusal]) -> None:
        if refusals:
            rows = [
                {
                    "received": item.received,
                    "topic": item.topic,
                    "reason": item.reason,
                    "size": len(item.body),
                    "body": item.body[:QUARANTINED_BYTES],
                }
                for item in refusals
            ]
            connection.execute(sa.insert(QUARANTINE), rows)
            # A device that sends nothing else must not fill the disk.
            newest = sa.select(sa.func.max(QUARANTINE.c.row)).scalar_subquery()
            connection.execute(sa.delete(QUARANTINE).where(QUARANTINE.c.row <= newest - MOST_QUARANTINED))

    def _insert(self, table: sa.Table) -> Any:  # noqa: ANN401 - one of two dialects' own classes
        return insert_into(self._engine.dialect.name, table)

    def quarantined(self, limit: int) -> list[dict[str, Any]]:
        """Return the latest messages that were none, newest first."""
        query = sa.select(QUARANTINE).order_by(QUARANTINE.c.row.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


QUARANTINED_BYTES = 64 * 1024
MOST_QUARANTINED = 10_000

_MOVED = "DO UPDATE SET stream = excluded.stream, sequence = excluded.sequence, body = excluded.body"
_INSERT_ONE = (
    f"INSERT INTO event ({', '.join(Arrival._fields)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - names of ours
    f" ON CONFLICT (source, id) {_MOVED} WHERE event.stream <> excluded.stream"
)
# In binary (%b): as text psycopg escapes each quote of each body by itself, which takes longer than all else.
_INSERT_MANY = (
    f"INSERT INTO event ({', '.join(Arrival._fields)}, month)"  # noqa: S608 - names of ours
    " SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[],"
    " %b::text[], %b::text[], %b::int[])"
    f" ON CONFLICT (source, id, month) {_MOVED} WHERE event.stream <> excluded.stream"
)


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for first in range(0, len(items), _CHUNK):
        yield items[first : first + _CHUNK]


def _holes(there: Iterable[int], first: int, last: int) -> list[tuple[int, int]]:
    """Return the ranges from first to last that are not there."""
    holes, begin = [], first
    for sequence in [*there, last + 1]:
        if sequence > begin:
            holes.append((begin, sequence - 1))
        begin = max(begin, sequence + 1)
    return holes
