"""Files of a recorder as rows of a backup: drafts of planograms, pictures to label and their labels."""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside

FILES = sa.Table(
    "file",
    sa.MetaData(),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
_DATABASE = ".sqlite"
_JOURNALS = tuple(f"{_DATABASE}{end}" for end in ("-wal", "-shm", "-journal"))


def take(folder: Path, writer: Connection) -> None:
    """Put every file of a folder into a backup; what is being written or removed meanwhile is left out."""
    for path in _files(folder):
        with contextlib.suppress(FileNotFoundError):
            content = _database(path) if path.name.endswith(_DATABASE) else path.read_bytes()
            place = path.relative_to(folder).as_posix()
            writer.execute(sa.insert(FILES), {"path": place, "content": content})


def put(reader: Connection, folder: Path) -> None:
    """Write the files of a backup: all of them or none.

    Raises:
        DataError: A path leads out of the folder.
        OSError: They cannot be written.
    """
    with written_beside(folder) as staged:
        staged.mkdir()
        for row in reader.execute(sa.select(FILES).execution_options(yield_per=1)):
            path = PurePosixPath(row.path)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise DataError(f"Expected: files of a recorder. Received: {row.path!r:.200}.")
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            (staged / path).write_bytes(row.content)


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        # Beside what is being written.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.endswith(_JOURNALS))


def _database(path: Path) -> bytes:
    """Return a database as it is at one moment, its journal included."""
    with tempfile.TemporaryDirectory(prefix="backup-") as room:
        copy = Path(room) / path.name
        with (
            contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as here,
            contextlib.closing(sqlite3.connect(copy)) as there,
        ):
            here.backup(there)
            there.execute("PRAGMA journal_mode=DELETE")
        return copy.read_bytes()
