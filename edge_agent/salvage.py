"""An outbox whose file is damaged begins anew, with what can still be read of it.

- Every event that makes sense goes into a new file, in its order, with its id (so that a recorder
  that has it already does not count it twice) and with a new place in a new stream.
- What the running agent still knows counts more than what the file says.
- Of the rest it is known how many they were: those are counted as dropped, and told.
- The new file is finished before the damaged one is moved aside; whatever a power cut leaves of
  that is finished at the next start. The newest three damaged files are kept for a person to look at.
"""

import re
import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edge_agent.contracts.events import Event, encode
from edge_agent.contracts.files import flush
from edge_agent.ledger import SCHEMA, DamagedError, Ledger, keep, placed, sensible
from edge_agent.sqlitefile import Cell, Log, Remains

KEPT_ASIDE = 3
_EVENT_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Rescued:
    """What became of a damaged file.

    Attributes:
        saved: Events that wait in the new file.
        lost: Events that were in the damaged one and are not in the new one; None: nobody knows.
    """

    saved: int
    lost: int | None


def look_before_opening(path: Path) -> None:
    """Look for damage that SQLite would silently repair by forgetting.

    Raises:
        DamagedError: The log holds transactions that SQLite would leave out.
    """
    beside = path.with_name(f"{path.name}-wal")
    if not beside.exists() or not beside.stat().st_size:
        return
    with beside.open("rb") as file:
        log = Log.read(file)
    if log is not None and log.cut:
        raise DamagedError("a page of its log is broken")
    if log is not None and log.committed and (not path.exists() or not path.stat().st_size):
        raise DamagedError("only its log is left")


@dataclass(slots=True)
class _Found:
    """What a damaged file still says: its own numbers, and where events lie."""

    meta: dict[str, str] = field(default_factory=dict)
    last: int = 0
    places: "array[int]" = field(default_factory=lambda: array("Q"))

    def note(self, cell: Cell) -> None:
        """Take one row into account."""
        match cell.values:
            case (None, str(), str(), int() | float(), bytes()) if 0 < cell.rowid < 10**16:
                self.places.extend((cell.rowid, cell.page, cell.index))
            case (str("event"), int(last)):
                self.last = max(self.last, last)
            case (str(key), str(value)):
                self.meta[key] = value
            case _:
                pass

    def ledger(self, source: str) -> Ledger | None:
        """Return what the file says of itself; None where that is broken."""
        try:
            # A gap is known by what was there: without that number nothing below the first event is missed.
            return Ledger.read({"source": source, **self.meta}, max(self.last, int(self.meta["gone"])))
        except (DamagedError, KeyError, ValueError):
            return None


def rebuild(path: Path, *, new: Ledger, known: Ledger | None) -> Rescued:
    """Write what can be read of a damaged file into a new one beside it.

    Args:
        path: The damaged file.
        new: Of the new file, as if nothing could be read: its stream and source count.
        known: What a running agent knows; None at its start.

    Raises:
        sqlite3.Error: There is no room.
        OSError: The folder cannot be written.
    """
    staged = path.with_name(f"{path.name}.part")
    for name in (staged, staged.with_name(f"{staged.name}-journal")):
        name.unlink(missing_ok=True)
    try:
        with Remains(path) as remains, closing(sqlite3.connect(staged, isolation_level=None)) as database:
            database.executescript(SCHEMA)
            with database:
                database.execute("BEGIN IMMEDIATE")
                rescued = _fill(database, remains, new, known)
    except sqlite3.Error:
        # On a disk that is full the half file would keep it so.
        staged.unlink(missing_ok=True)
        raise
    flush(staged)
    staged.replace(_finished(path))
    return rescued


def _fill(database: sqlite3.Connection, remains: Remains, new: Ledger, known: Ledger | None) -> Rescued:
    found = _Found()
    for cell in remains.cells():
        found.note(cell)
    old = known or found.ledger(new.source)
    lowest, first, highest = (old.gone if old else 0), 0, known.last if known else found.last
    saved, running = 0, old.running if old else 0.0
    for sequence, columns, event in _events(remains, found, old, new.source):
        if sequence <= lowest:
            continue
        saved += 1
        first, highest = first or sequence, max(highest, sequence)
        running = max(running, columns[2])
        body = encode(placed(event, new, saved))
        database.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", (saved, *columns, body))
    below = old.gone if old else first - 1 if first else None
    lost = None if below is None else max(highest - below - saved, 0)
    ledger = replace(
        new,
        dropped=_number(found.meta.get("dropped"), old) + (lost or 0),
        running=running,
        memory=old.memory if old else found.meta.get("memory", "{}"),
    )
    keep(database, ledger)
    return Rescued(saved, lost)


def _number(text: str | None, old: Ledger | None) -> int:
    if old is not None:
        return old.dropped
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0


def _events(
    remains: Remains, found: _Found, old: Ledger | None, source: str
) -> Iterator[tuple[int, tuple[str, str, float], Event]]:
    """Yield the events that make sense, in their order, each once, with their other columns."""
    places = np.frombuffer(found.places, np.uint64).reshape(-1, 3)
    before = 0
    for row in np.lexsort((places[:, 1], places[:, 0])):
        sequence, page, index = (int(number) for number in places[row])
        cell = remains.cell(page, index) if sequence > before else None
        if cell is None or cell.rowid != sequence or len(cell.values) != _EVENT_COLUMNS:
            continue
        _, kind, recorded, running, body = cell.values
        event = sensible(str(kind), sequence, body if isinstance(body, bytes) else b"")
        stream, device = (old.stream, old.source) if old else (None, source)
        if event is None or event.source != device or stream not in {None, event.streamid}:
            continue
        before = sequence
        yield sequence, (str(kind), str(recorded), float(running or 0.0)), event


def _finished(path: Path) -> Path:
    return path.with_name(f"{path.name}.salvaged")


def finish(path: Path) -> Path | None:
    """Put a finished new file in the place of the damaged one, which goes aside; also after a power cut.

    Args:
        path: Where both belong; nobody has it open.

    Returns:
        Where the damaged file is now; None where there was nothing to finish.

    Raises:
        OSError: The folder cannot be written.
    """
    staged = _finished(path)
    if not staged.exists():
        return None
    numbers = _asides(path)
    newest = max(numbers, default=0)
    # Only its log is still here: the rest of it was moved before the power went.
    aside = path.with_name(f"{path.name}.damaged-{newest + 1 if path.exists() or not numbers else newest}")
    for ending in ("", "-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.replace(aside.with_name(aside.name + ending))
    staged.replace(path)
    flush(path.parent)
    for number in sorted(_asides(path))[:-KEPT_ASIDE]:
        for ending in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}.damaged-{number}{ending}").unlink(missing_ok=True)
    return aside


def _asides(path: Path) -> set[int]:
    names = (
        item.name.removeprefix(f"{path.name}.damaged-") for item in path.parent.glob(f"{path.name}.damaged-*")
    )
    return {int(found[0]) for name in names if (found := re.match(r"\d+", name))}
