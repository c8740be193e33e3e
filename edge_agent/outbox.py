"""Durable first-in-first-out queue of events, with the agent's memory, in one SQLite file.

An event and the memory that it came from are written in one transaction (WAL, synchronous=FULL): a
crash repeats a reading, never an event. A row goes when the recorder has it, or, counted, when the
outbox is over its limits in bytes or age. Rows leave from the front alone, so what waits is every
sequence from `oldest` to `last`; where the file says otherwise, it is damaged.

A damaged file is moved aside, at the start or while the agent runs, and a new stream begins with
what can be read of it (see `salvage`). So `stream` may change at any call that touches the disk.
"""

import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydantic import ValidationError

from edge_agent import salvage
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.events import Event, decode, encode
from edge_agent.contracts.identifiers import uuid7
from edge_agent.contracts.times import rfc3339
from edge_agent.headroom import Headroom
from edge_agent.ledger import (
    DamagedError,
    Ledger,
    Row,
    keep,
    noticing,
    oldest_row,
    prepare,
    restream,
    rows_after,
)
from edge_agent.memory import Draft, Memory

log = logging.getLogger(__name__)

_DAY_S = 86400
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept when nobody takes it: bytes of events, and days that the agent ran meanwhile."""

    max_bytes: int
    max_days: int


class Outbox:
    """One stream of events. Belongs to one thread.

    Every method that touches the disk raises DeviceError where the disk is full or broken; nothing
    was changed then, and the same may be tried again.

    Args:
        path: SQLite file, or ":memory:".
        source: CloudEvents source of the device.
        limits: What to keep.
        steady: Measures how long the agent runs: a wall clock that is set must not make events old.
        random_bytes: Of stream and event ids.

    Raises:
        DeviceError: The disk is full, or the folder cannot be written. Not for a damaged file.
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
        self._file = None if path == ":memory:" else Path(path)
        self._headroom = Headroom(self._file.with_name(f"{self._file.name}.room")) if self._file else None
        self._source, self._limits, self._random_bytes = source, limits, random_bytes
        self._steady, self._counted = steady, steady()
        self._database: sqlite3.Connection | None = None
        self._lock = _locked(self._file) if self._file else None
        self._bytes = 0
        self._ledger = self._new_ledger()
        try:
            self._with_room(lambda _database: None)
        except DeviceError:
            self.close()
            raise
        if self._headroom is not None:
            self._headroom.keep()

    def _new_ledger(self) -> Ledger:
        return Ledger(self._random_bytes(16).hex(), self._source)

    def _do(self, work: Callable[[sqlite3.Connection], Answer], *, gone: int = 0) -> Answer:
        """Do something with the database; begin anew where that shows damage, and do it once more.

        Args:
            work: Changes everything or nothing.
            gone: Up to this sequence nothing need be saved.

        Raises:
            DeviceError: The disk is full or broken.
        """
        try:
            try:
                with noticing():
                    return work(self._opened())
            except DamagedError as exc:
                self._begin_anew(str(exc), gone)
                with noticing():
                    return work(self._opened())
        except (sqlite3.Error, OSError, DamagedError) as exc:
            raise DeviceError(
                f"Expected: a database at {self._file} with room for events. Received: {exc}.",
                hint="check that the folder can be written; free or replace the device's disk",
            ) from exc

    def _with_room(self, work: Callable[[sqlite3.Connection], None], *, gone: int = 0) -> None:
        """Do something that makes room; on a full disk with the room that is kept for it."""
        try:
            self._do(work, gone=gone)
        except DeviceError:
            if self._headroom is None or not self._headroom.give():
                raise
            self._do(work, gone=gone)
            with suppress(DeviceError):
                # What was in the log goes into the file, where the deleted rows have left room.
                self._do(lambda database: database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        else:
            if self._headroom is not None and gone:
                self._headroom.keep()

    def _opened(self) -> sqlite3.Connection:
        """Return the database; open it first where that has not been done."""
        if self._database is not None:
            return self._database
        if self._file is not None:
            salvage.finish(self._file)
            salvage.look_before_opening(self._file)
        database = sqlite3.connect(self._file or ":memory:", isolation_level=None)
        try:
            self._ledger = prepare(database, self._new_ledger())
            (size,) = database.execute("SELECT coalesce(sum(length(body)), 0) FROM event").fetchone()
        except BaseException:
            # Left open, it would be in the way of the next attempt.
            database.close()
            raise
        self._database, self._bytes = database, int(size)
        return database

    def _begin_anew(self, reason: str, gone: int) -> None:
        """Begin a new stream in a new file with what can be read of this one."""
        if self._file is None:
            raise DamagedError(reason)
        running = self._database is not None
        known = replace(self._ledger, gone=max(gone, self._ledger.gone)) if running else None
        new = self._new_ledger()
        rescued = salvage.rebuild(self._file, new=new, known=known)
        self._shut()
        log.error(
            "the outbox was damaged (%s): it is now %s; a new stream begins, events saved: %d, lost: %s",
            reason,
            salvage.finish(self._file),
            rescued.saved,
            "nobody knows how many" if rescued.lost is None else rescued.lost,
        )

    def record(self, drafts: Iterable[Draft], memory: Memory, now: datetime, *, lost: int = 0) -> list[Event]:
        """Write events and the memory that they came from, in one transaction.

        Args:
            drafts: In order.
            memory: As it is after them.
            now: Of the ids.
            lost: How many events before these could not be kept: counted as dropped.

        Returns:
            The events as they stand in the outbox.

        Raises:
            DeviceError: The disk is full or broken; nothing was written.
        """
        made = list(drafts)
        return self._do(lambda database: self._write(database, made, memory, now, lost))

    def _write(
        self, database: sqlite3.Connection, drafts: list[Draft], memory: Memory, now: datetime, lost: int
    ) -> list[Event]:
        # What is known changes with the transaction, never before it.
        counted = self._steady()
        ledger = replace(
            self._ledger,
            running=self._ledger.running + max(counted - self._counted, 0),
            dropped=self._ledger.dropped + lost,
            memory=memory.model_dump_json(),
        )
        events, size = [], self._bytes
        with database:
            database.execute("BEGIN IMMEDIATE")
            for draft in drafts:
                event = self._event(draft, now, ledger.last + 1)
                ledger = replace(ledger, last=event.sequence)
                body = encode(event)
                database.execute(
                    "INSERT INTO event VALUES (?, ?, ?, ?, ?)",
                    (event.sequence, draft.kind.value, rfc3339(now), ledger.running, body),
                )
                events.append(event)
                size += len(body)
            ledger, size = self._bounded(database, ledger, size)
            keep(database, ledger)
        self._ledger, self._bytes, self._counted = ledger, size, counted
        return events

    def _event(self, draft: Draft, now: datetime, sequence: int) -> Event:
        return Event(
            id=uuid7(round(now.timestamp() * 1000), self._random_bytes),
            source=self._source,
            type=draft.kind.type,
            subject=draft.subject,
            time=draft.time,
            sequence=sequence,
            streamid=self.stream,
            data=draft.data,
        )

    def _bounded(self, database: sqlite3.Connection, ledger: Ledger, size: int) -> tuple[Ledger, int]:
        """Drop the oldest rows that are over the limits, and count them."""
        before = ledger.running - self._limits.max_days * _DAY_S
        while ledger.gone < ledger.last:
            running, length = oldest_row(database, ledger)
            if size <= self._limits.max_bytes and running >= before:
                break
            ledger = replace(ledger, gone=ledger.gone + 1, dropped=ledger.dropped + 1)
            database.execute("DELETE FROM event WHERE sequence = ?", (ledger.gone,))
            size -= length
        return ledger, size

    def memory(self) -> Memory:
        """Return what was remembered last; nothing on a new disk or after an update that cannot read it."""
        try:
            return Memory.model_validate_json(self._ledger.memory)
        except ValidationError:
            return Memory()

    def after(self, sequence: int, limit: int) -> list[Row]:
        """Return waiting rows behind a place, oldest first; none where a new stream has just begun.

        Args:
            sequence: Of the stream as it was before the call.
            limit: How many at most; -1: all.
        """
        stream = self.stream

        def read(database: sqlite3.Connection) -> list[Row]:
            return rows_after(database, self._ledger, sequence, limit) if self.stream == stream else []

        return self._do(read)

    def events(self) -> list[Event]:
        """Return everything that waits, decoded."""
        rows = self._do(lambda database: rows_after(database, self._ledger, 0, -1))
        return [decode(row.body) for row in rows]

    def forget_up_to(self, sequence: int) -> None:
        """Delete rows that somebody else has for good.

        Args:
            sequence: Of the stream as it was before the call.
        """
        stream, gone = self.stream, min(sequence, self.last)

        def forget(database: sqlite3.Connection) -> None:
            if self.stream != stream or gone <= self._ledger.gone:
                return
            ledger = replace(self._ledger, gone=gone)
            with database:
                database.execute("BEGIN IMMEDIATE")
                (size,) = database.execute(
                    "SELECT coalesce(sum(length(body)), 0) FROM event WHERE sequence <= ?", (gone,)
                ).fetchone()
                database.execute("DELETE FROM event WHERE sequence <= ?", (gone,))
                database.execute("UPDATE meta SET value = ? WHERE key = 'gone'", (str(gone),))
            self._ledger, self._bytes = ledger, self._bytes - int(size)

        self._with_room(forget, gone=gone)

    def begin_stream(self) -> None:
        """Begin a new stream with what waits.

        For when somebody has seen more of this stream than there is of it: the disk has gone back to
        an earlier state (a card that lied about what was written), and its numbers would be given twice.
        """
        log.error("the outbox has gone back to an earlier state; a new stream begins")

        def renew(database: sqlite3.Connection) -> None:
            self._ledger = restream(database, self._ledger, self._new_ledger())

        self._do(renew)

    @property
    def stream(self) -> str:
        """Id of the stream; another one after damage."""
        return self._ledger.stream

    @property
    def last(self) -> int:
        """The latest sequence that was given, 0 before the first; never given again, even when forgotten."""
        return self._ledger.last

    @property
    def oldest(self) -> int:
        """The first sequence that waits; the next one to be given where none does."""
        return self._ledger.gone + 1

    @property
    def depth(self) -> int:
        """How many events wait."""
        return self._ledger.last - self._ledger.gone

    @property
    def dropped(self) -> int:
        """How many events were dropped over the limits, or lost with a damaged file, ever."""
        return self._ledger.dropped

    def age_s(self) -> float:
        """Return how long the agent has run since it recorded the oldest event; 0 where none waits."""
        if not self.depth:
            return 0.0
        running = self._ledger.running + max(self._steady() - self._counted, 0)
        return self._do(lambda database: max(running - oldest_row(database, self._ledger)[0], 0.0))

    def close(self) -> None:
        """Close the file, and leave it to others."""
        self._shut()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _shut(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):  # a damaged one may not like it
                self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _locked(path: Path) -> int:
    """Take a file for this process alone: what another one writes would look like damage.

    Raises:
        DeviceError: Another process has it, or the folder cannot be written.
    """
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise DeviceError(
            f"Expected: a folder for the database {path}. Received: {exc.strerror}.",
            hint="check that state_dir is there and can be written",
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(lock)
        raise DeviceError(
            f"Expected: {path} for this agent alone. Received: another process that has it.",
            hint="one agent for each state_dir; stop the other one first",
        ) from exc
    return lock
