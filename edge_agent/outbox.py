"""Durable first-in-first-out queue of events, with the agent's memory, in one SQLite file.

An event and the memory that it came from are written in one transaction (WAL, synchronous=FULL): a
crash repeats a reading, never an event. A row goes when the recorder has it, or, counted, when the
outbox is over its limits in bytes or age.
"""

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.events import Event, decode, encode
from edge_agent.contracts.identifiers import uuid7
from edge_agent.contracts.times import rfc3339
from edge_agent.memory import Draft, Memory

_DAY_S = 86400
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, recorded TEXT NOT NULL,
    running REAL NOT NULL, body BLOB NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept when nobody takes it: bytes of events, and days that the agent ran meanwhile."""

    max_bytes: int
    max_days: int


@dataclass(frozen=True, slots=True)
class Row:
    """One event that waits: its place, its kind, and its bytes on the wire."""

    sequence: int
    kind: str
    body: bytes


class Outbox:
    """One stream of events. Belongs to one thread.

    Args:
        path: SQLite file, or ":memory:".
        source: CloudEvents source of the device.
        limits: What to keep.
        steady: Measures how long the agent runs: a wall clock that is set must not make events old.
        random_bytes: Of stream and event ids.

    Raises:
        DeviceError: The file cannot be used.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        source: str,
        limits: Limits,
        steady: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._source, self._limits, self._random_bytes = source, limits, random_bytes
        self._steady, self._counted = steady, steady()
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_SCHEMA)
            self._database.execute(
                "INSERT OR IGNORE INTO meta VALUES"
                " ('stream', ?), ('source', ?), ('dropped', '0'), ('running', '0')",
                (random_bytes(16).hex(), source),
            )
            if self._meta("source") != source:
                self._renamed()
        except sqlite3.Error as exc:
            raise DeviceError(
                f"Expected: a database at {path}. Received: {exc}.",
                hint="check that the folder can be written and the disk has room; move a damaged file away",
            ) from exc
        self.stream = self._meta("stream") or ""
        self._bytes = int(self._one("SELECT coalesce(sum(length(body)), 0) FROM event"))

    def record(self, drafts: Iterable[Draft], memory: Memory, now: datetime) -> list[Event]:
        """Write events and the memory that they came from, in one transaction.

        Args:
            drafts: In order.
            memory: As it is after them.
            now: Of the ids, and of the age of the rows.

        Returns:
            The events as they stand in the outbox.

        Raises:
            DeviceError: The disk is full or broken; nothing was written.
        """
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                running = self._run_s()
                events = [self._insert(draft, now, running) for draft in drafts]
                self._database.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('memory', ?)", (memory.model_dump_json(),)
                )
                self._bound(running)
        except sqlite3.Error as exc:
            raise DeviceError(
                f"Expected: room for events. Received: {exc}.", hint="free or replace the device's disk"
            ) from exc
        return events

    def _insert(self, draft: Draft, now: datetime, running: float) -> Event:
        sequence = self.last + 1
        event = Event(
            id=uuid7(round(now.timestamp() * 1000), self._random_bytes),
            source=self._source,
            type=draft.kind.type,
            subject=draft.subject,
            time=draft.time,
            sequence=sequence,
            streamid=self.stream,
            data=draft.data,
        )
        body = encode(event)
        self._database.execute(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?)",
            (sequence, draft.kind.value, rfc3339(now), running, body),
        )
        self._bytes += len(body)
        return event

    def _renamed(self) -> None:
        """Begin a new stream for a device that has another name now, and take along what waits."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            stream = self._random_bytes(16).hex()
            waiting = self._database.execute(
                "SELECT kind, recorded, running, body FROM event ORDER BY sequence"
            ).fetchall()
            self._database.execute("DELETE FROM event")
            self._database.execute("DELETE FROM sqlite_sequence WHERE name = 'event'")
            for sequence, (kind, recorded, running, body) in enumerate(waiting, start=1):
                place = {"source": self._source, "streamid": stream, "sequence": sequence}
                event = encode(decode(body).model_copy(update=place))
                self._database.execute(
                    "INSERT INTO event VALUES (?, ?, ?, ?, ?)", (sequence, kind, recorded, running, event)
                )
            self._database.execute("UPDATE meta SET value = ? WHERE key = 'stream'", (stream,))
            self._database.execute("UPDATE meta SET value = ? WHERE key = 'source'", (self._source,))

    def _run_s(self) -> float:
        """Return, and keep, for how long the agent has run, over all its starts."""
        now = self._steady()
        running = float(self._meta("running") or 0) + max(now - self._counted, 0)
        self._counted = now
        self._database.execute("UPDATE meta SET value = ? WHERE key = 'running'", (str(running),))
        return running

    def _bound(self, running: float) -> None:
        """Drop the oldest rows that are over the limits, and count them."""
        before = running - self._limits.max_days * _DAY_S
        while self._bytes:
            row = self._database.execute(
                "SELECT sequence, running, length(body) FROM event ORDER BY sequence LIMIT 1"
            ).fetchone()
            if row is None or (self._bytes <= self._limits.max_bytes and row[1] >= before):
                return
            self._database.execute("DELETE FROM event WHERE sequence = ?", (row[0],))
            self._database.execute("UPDATE meta SET value = value + 1 WHERE key = 'dropped'")
            self._bytes -= row[2]

    def memory(self) -> Memory:
        """Return what was remembered last; nothing on a new disk or after an update that cannot read it."""
        try:
            return Memory.model_validate_json(self._meta("memory") or "{}")
        except ValidationError:
            return Memory()

    def after(self, sequence: int, limit: int) -> list[Row]:
        """Return waiting rows behind a place, oldest first."""
        rows = self._database.execute(
            "SELECT sequence, kind, body FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (sequence, limit),
        )
        return [Row(*row) for row in rows]

    def events(self) -> list[Event]:
        """Return everything that waits, decoded."""
        return [decode(row.body) for row in self.after(0, -1)]

    def forget_up_to(self, sequence: int) -> None:
        """Delete rows that somebody else has for good."""
        with self._database:
            self._database.execute("DELETE FROM event WHERE sequence <= ?", (sequence,))
        self._bytes = int(self._one("SELECT coalesce(sum(length(body)), 0) FROM event"))

    @property
    def last(self) -> int:
        """The latest sequence that was given, 0 before the first; never given again, even when forgotten."""
        return int(self._one("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)"))

    @property
    def oldest(self) -> int:
        """The first sequence that waits; the next one to be given where none does."""
        return int(self._one("SELECT coalesce((SELECT min(sequence) FROM event), 0)")) or self.last + 1

    @property
    def depth(self) -> int:
        """How many events wait."""
        return int(self._one("SELECT count(*) FROM event"))

    @property
    def dropped(self) -> int:
        """How many events were dropped over the limits, ever."""
        return int(self._meta("dropped") or 0)

    def age_s(self, now: datetime) -> float:
        """Return how long the oldest event has waited, 0 where none does."""
        recorded = self._one("SELECT (SELECT recorded FROM event ORDER BY sequence LIMIT 1)")
        return (now - datetime.fromisoformat(str(recorded))).total_seconds() if recorded else 0.0

    def _meta(self, key: str) -> str | None:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def _one(self, query: str) -> str | int | float:
        with closing(self._database.execute(query)) as cursor:
            value: str | int | float = cursor.fetchone()[0]
            return value

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
