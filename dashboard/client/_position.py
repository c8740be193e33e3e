"""Which events a consumer is done with: one SQLite file, flushed to the disk at each of them."""

import contextlib
import secrets
import sqlite3
from pathlib import Path

from edge_agent.contracts.errors import DataError

_TABLES = """
CREATE TABLE IF NOT EXISTS consumer (client_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS done (
    row INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, id TEXT NOT NULL, UNIQUE (source, id)
);
"""


class Position:
    """The file; only one process may use it at a time.

    Args:
        path: Made where it is not there yet.
        memory: So many of the latest events are remembered, to know one that comes twice.

    Raises:
        DataError: It is no position file, or another process uses it.
    """

    def __init__(self, path: Path, memory: int) -> None:
        self._memory = memory
        self._database = sqlite3.connect(path, timeout=0.5, isolation_level=None)
        try:
            # Exclusive from the first transaction to the end: two consumers would halve the events.
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
            self.client_id = self._identity()
        except sqlite3.Error as exc:
            self._database.close()
            raise DataError(
                f"Expected: a position file for one consumer alone at {path}. Received: {exc}.",
                hint="give each consumer a file of its own; one that is damaged may be deleted (events that "
                "are still with the broker then come again)",
            ) from exc

    def _identity(self) -> str:
        """Return the name of the consumer's session with the broker; it is as old as the file."""
        found = self._database.execute("SELECT client_id FROM consumer").fetchone()
        if found is None:
            found = (f"consumer-{secrets.token_hex(8)}",)
            self._database.execute("INSERT INTO consumer VALUES (?)", found)
        return str(found[0])

    def has(self, source: str, identity: str) -> bool:
        """Say whether an event is done with."""
        query = "SELECT 1 FROM done WHERE source = ? AND id = ?"
        return self._database.execute(query, (source, identity)).fetchone() is not None

    def add(self, source: str, identity: str) -> None:
        """Keep that an event is done with; it is on the disk when this returns.

        Raises:
            DataError: The file cannot be written.
        """
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute("INSERT OR IGNORE INTO done (source, id) VALUES (?, ?)", (source, identity))
            database.execute("DELETE FROM done WHERE row <= (SELECT max(row) FROM done) - ?", (self._memory,))
            database.execute("COMMIT")
        except sqlite3.Error as exc:
            with contextlib.suppress(sqlite3.Error):  # a full disk has ended the transaction already
                database.execute("ROLLBACK")
            raise DataError(f"Expected: a position file that can be written. Received: {exc}.") from exc

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
