"""The tables of an outbox: events that wait, and what it knows of itself. What cannot be is damage.

Rows leave from the front alone: what waits is every sequence behind `gone` up to `last`.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.events import Event, decode, encode

_IOERR_READ, _IOERR_SHORT_READ, _IOERR_CORRUPT, _IOERR_DATA = 266, 522, 8458, 8202
_DAMAGE = {_IOERR_READ, _IOERR_SHORT_READ, _IOERR_CORRUPT, _IOERR_DATA}
# A statement that does not fit the file's schema, or a row where none can be, is damage as well.
_PRIMARY_DAMAGE = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
}
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, recorded TEXT NOT NULL,
    running REAL NOT NULL, body BLOB NOT NULL
) STRICT;
"""
_LAST = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)"
# What an outbox of an older version did not write down.
_GONE = f"SELECT 'gone', coalesce((SELECT min(sequence) - 1 FROM event), ({_LAST}))"  # noqa: S608 - our own


class DamagedError(Exception):
    """The file says what cannot be; never leaves the outbox."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What an outbox knows of itself beside its events.

    Attributes:
        stream: Its id.
        source: CloudEvents source of its device.
        gone: Every event up to this sequence has left it, delivered or counted as dropped.
        last: The latest sequence that was given.
        dropped: How many events nobody got, ever.
        running: For how long the agent has run, over all its starts, seconds.
        memory: The agent's memory, JSON.
    """

    stream: str
    source: str
    gone: int = 0
    last: int = 0
    dropped: int = 0
    running: float = 0.0
    memory: str = "{}"

    def rows(self) -> list[tuple[str, str]]:
        """Return it as rows of the table `meta`; the last sequence lies with the events."""
        names = ("stream", "source", "gone", "dropped", "running", "memory")
        return [(name, str(getattr(self, name))) for name in names]

    @classmethod
    def read(cls, meta: dict[str, str], last: int) -> "Ledger":
        """Make it from these rows.

        Raises:
            DamagedError: They say what cannot be.
        """
        try:
            ledger = cls(
                stream=meta["stream"],
                source=meta["source"],
                gone=int(meta["gone"]),
                last=last,
                dropped=int(meta["dropped"]),
                running=float(meta["running"]),
                memory=meta.get("memory", "{}"),
            )
        except (KeyError, ValueError) as exc:
            raise DamagedError(f"no sense in its own numbers: {exc}") from exc
        numbers = 0 <= ledger.gone <= ledger.last and ledger.dropped >= 0 and ledger.running >= 0
        if not numbers or not re.fullmatch("[0-9a-f]{32}", ledger.stream):
            raise DamagedError("no sense in its own numbers")
        return ledger


@dataclass(frozen=True, slots=True)
class Row:
    """One event that waits: its place, its kind, and its bytes on the wire."""

    sequence: int
    kind: str
    body: bytes


@contextmanager
def noticing() -> Iterator[None]:
    """Tell damage from everything else that SQLite may complain of.

    Raises:
        DamagedError: The file is damaged.
        sqlite3.Error: Anything else: a full disk, a folder that is not there.
    """
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", None)
        garbled = code is None and "UTF-8" in str(exc)
        if garbled or code in _DAMAGE or (code is not None and code & 0xFF in _PRIMARY_DAMAGE):
            raise DamagedError(str(exc)) from exc
        raise


def prepare(database: sqlite3.Connection, new: Ledger) -> Ledger:
    """Check what is there, make what is not, and return what the outbox knows of itself.

    Args:
        database: Just opened.
        new: Of an outbox that begins; its source is that of the device.

    Raises:
        DamagedError: The file is damaged.
        sqlite3.Error: The same, or the disk is full.
    """
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError(str(verdict).replace("\n", " "))
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        database.execute(f"PRAGMA {pragma}")
    database.executescript(SCHEMA)
    with database:
        database.execute("BEGIN IMMEDIATE")
        database.execute(f"INSERT OR IGNORE INTO meta {_GONE}")
        # All but the memory: without one, the agent has none.
        database.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", new.rows()[:-1])
    meta = dict(database.execute("SELECT key, value FROM meta").fetchall())
    ledger = Ledger.read(meta, int(database.execute(_LAST).fetchone()[0]))
    count, first = database.execute("SELECT count(*), min(sequence) FROM event").fetchone()
    if count != ledger.last - ledger.gone or (count and first != ledger.gone + 1):
        raise DamagedError(f"{count} events where {ledger.last - ledger.gone} should be")
    return ledger if ledger.source == new.source else restream(database, ledger, new)


def keep(database: sqlite3.Connection, ledger: Ledger) -> None:
    """Write down what an outbox knows of itself, within a transaction."""
    database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", ledger.rows())


def oldest_row(database: sqlite3.Connection, ledger: Ledger) -> tuple[float, int]:
    """Return how long the agent had run when the oldest event was recorded, seconds, and its bytes.

    Raises:
        DamagedError: It is not there.
    """
    row = database.execute(
        "SELECT running, length(body) FROM event WHERE sequence = ?", (ledger.gone + 1,)
    ).fetchone()
    if row is None or not isinstance(row[0], float):
        raise DamagedError(f"event {ledger.gone + 1} is not there")
    return row[0], int(row[1])


def rows_after(database: sqlite3.Connection, ledger: Ledger, after: int, limit: int) -> list[Row]:
    """Return rows, each checked: a worn card changes contents, and SQLite does not notice.

    Args:
        database: Of the outbox.
        ledger: What it knows of itself.
        after: The sequence before the first.
        limit: How many at most; -1: all.

    Raises:
        DamagedError: One is missing, or makes no sense.
    """
    found = database.execute(
        "SELECT sequence, kind, body FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?",
        (after, limit),
    )
    rows = [Row(*row) for row in found]
    waiting = range(max(after, ledger.gone) + 1, ledger.last + 1)
    if [row.sequence for row in rows] != list(waiting if limit < 0 else waiting[:limit]):
        raise DamagedError("events are missing")
    for row in rows:
        event = sensible(row.kind, row.sequence, row.body)
        if event is None or event.streamid != ledger.stream:
            raise DamagedError(f"event {row.sequence} makes no sense")
    return rows


def restream(database: sqlite3.Connection, old: Ledger, new: Ledger) -> Ledger:
    """Begin a new stream with what waits: each event keeps its id, and gets a new place.

    Args:
        database: Of the outbox.
        old: What it knows of itself.
        new: Stream and source of what begins.

    Returns:
        What it knows of itself now.

    Raises:
        DamagedError: An event cannot be read.
    """
    ledger = replace(old, stream=new.stream, source=new.source, gone=0, last=0)
    with database:
        database.execute("BEGIN IMMEDIATE")
        for sequence in range(old.gone + 1, old.last + 1):
            (row,) = rows_after(database, old, sequence - 1, 1)
            ledger = replace(ledger, last=ledger.last + 1)
            change = "UPDATE event SET sequence = ?, body = ? WHERE sequence = ?"
            body = encode(placed(decode(row.body), ledger, ledger.last))
            database.execute(change, (ledger.last, body, sequence))
        database.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'event'", (ledger.last,))
        keep(database, ledger)
    return ledger


def placed(event: Event, ledger: Ledger, sequence: int) -> Event:
    """Return an event at another place: of this source and stream, with this sequence."""
    place = {"source": ledger.source, "streamid": ledger.stream, "sequence": sequence}
    return event.model_copy(update=place)


def sensible(kind: str, sequence: int, body: bytes) -> Event | None:
    """Return the event of a row; None where it does not belong there: SQLite does not check contents."""
    try:
        event = decode(body)
    except DataError:
        return None
    return event if (event.kind.value, event.sequence) == (kind, sequence) else None
