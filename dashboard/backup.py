"""A copy of the recorder's database in one SQLite file, whichever database it is in; and back.

From SQLite it is SQLite's own online backup, from PostgreSQL one snapshot (REPEATABLE READ) written
into the same tables. So a backup goes back into either, and a store can move from one to the other.
"""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dashboard.store import Store
from dashboard.tables import EVENTS, METADATA, month
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside

_PAGE = 1000


def backup(store: Store, out: Path) -> dict[str, int]:
    """Write a backup, while recorders go on; return the rows of each table.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        with written_beside(out) as staged:
            if store.engine.dialect.name == "sqlite":
                _copy_file(store, staged)
            else:
                _copy_tables(store, staged)
            _check(staged)
            return _counts(staged)
    except (OSError, sqlite3.Error) as exc:
        raise DataError(f"Expected: a backup that can be written. Received: {out}: {exc}.") from exc


def restore(source: Path, store: Store) -> dict[str, int]:
    """Bring a backup into an empty database; return the rows of each table.

    Raises:
        DataError: It is no backup, or the database holds something already.
    """
    if not source.is_file():
        raise DataError(f"Expected: a backup at {source}. Received: no file.")
    with store.engine.connect() as connection:
        full = [name for name, table in METADATA.tables.items() if _holds(connection, table)]
    if full:
        raise DataError(
            f"Expected: an empty database. Received: one with rows in {', '.join(full)}.",
            hint="name a new one with --database; nothing is ever overwritten",
        )
    try:
        _check(source)
        with _opened(source) as kept, kept.engine.connect() as reader, store.writing() as writer:
            for table in METADATA.sorted_tables:
                _copy(reader, writer, table)
            _go_on_counting(writer)
        return _counts(source)
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as exc:
        told = str(exc).splitlines()[0]
        raise DataError(f"Expected: a backup of the recorder. Received: {source}: {told}.") from exc


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Store]:
    """Open a backup as the database that it is, through a copy: an older one is brought up to date."""
    with tempfile.TemporaryDirectory(prefix="restore-") as folder:
        copied = Path(folder) / "backup.sqlite"
        shutil.copyfile(file, copied)
        store = Store(f"sqlite:///{copied}")
        try:
            yield store
        finally:
            store.close()


def _copy_file(store: Store, staged: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(str(store.engine.url.database))) as here,
        contextlib.closing(sqlite3.connect(staged)) as there,
    ):
        here.backup(there)
        # One file: no journal beside it.
        there.execute("PRAGMA journal_mode=DELETE")


def _copy_tables(store: Store, staged: Path) -> None:
    kept = Store(f"sqlite:///{staged}")
    try:
        reading = store.engine.execution_options(isolation_level="REPEATABLE READ")
        with reading.connect() as reader, kept.writing() as writer:
            for table in METADATA.sorted_tables:
                _copy(reader, writer, table)
    finally:
        kept.close()
    with contextlib.closing(sqlite3.connect(staged)) as there:
        there.execute("PRAGMA journal_mode=DELETE")


def _copy(reader: Connection, writer: Connection, table: sa.Table) -> None:
    target = table
    months = table is EVENTS and writer.dialect.name == "postgresql"
    if months:
        target = sa.Table("event", sa.MetaData(), *(sa.Column(c.name, c.type) for c in table.columns))
        target.append_column(sa.Column("month", sa.Integer))
    # A server-side cursor: a chain's events do not fit the memory.
    streamed = reader.execution_options(stream_results=True, yield_per=_PAGE)
    for page in streamed.execute(sa.select(table).order_by(*table.primary_key)).mappings().partitions(_PAGE):
        rows: list[dict[str, Any]] = [dict(row) for row in page]
        for row in rows if months else ():
            row["month"] = month(row["id"])
        writer.execute(sa.insert(target), rows)


def _go_on_counting(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        for name in ("event", "quarantine"):
            newest = f"SELECT max(row) FROM {name}"  # noqa: S608 - names of ours
            connection.exec_driver_sql(f"SELECT setval('{name}_row_seq', ({newest}))")


def _holds(connection: Connection, table: sa.Table) -> bool:
    return connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None


def _check(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        (told,) = database.execute("PRAGMA integrity_check").fetchone()
        if told != "ok":
            raise DataError(f"Expected: a backup that is whole. Received: {file}: {told}.")
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'event'").fetchone() is None:
            raise DataError(f"Expected: a backup of the recorder. Received: {file}, without its tables.")


def _counts(file: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            name: int(database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])  # noqa: S608 - ours
            for name in METADATA.tables
            if name in names
        }
