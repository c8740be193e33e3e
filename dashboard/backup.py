"""A copy of everything that a recorder keeps in one SQLite file, whichever database it is in; and back.

From SQLite it is SQLite's own online backup, from PostgreSQL one snapshot (REPEATABLE READ) written
into the same tables. So a backup goes back into either, and a store can move from one to the other.
Accounts and files (drafts of planograms, pictures and their labels) lie in tables of their own beside.
"""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from dashboard import backup_files
from dashboard.accounts.tables import METADATA as ACCOUNTS
from dashboard.accounts.tables import SESSIONS
from dashboard.backup_files import FILES
from dashboard.schema import writing
from dashboard.store import Store
from dashboard.tables import EVENTS, METADATA, month
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside

_PAGE = 1000
# Who was logged in logs in again.
_KEPT_OF_ACCOUNTS = [table for table in ACCOUNTS.sorted_tables if table is not SESSIONS]
_TABLES = [*METADATA.sorted_tables, *_KEPT_OF_ACCOUNTS, FILES]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a recorder keeps.

    Attributes:
        store: The database.
        accounts: That of accounts, which may be the same one.
        files: Folder of drafts and pictures; it need not be there.
    """

    store: Store
    accounts: Engine
    files: Path


def backup(kept: Kept, out: Path) -> dict[str, int]:
    """Write a backup, while recorders go on; return the rows of each table.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        with written_beside(out) as staged:
            # Hashes of passwords are in it.
            staged.touch(0o600)
            if kept.store.engine.dialect.name == "sqlite":
                _copy_file(kept.store, staged)
            else:
                _copy_tables(kept.store, staged)
            _copy_belongings(kept, staged)
            _check(staged)
            return _counts(staged)
    except (OSError, sqlite3.Error) as exc:
        raise DataError(f"Expected: a backup that can be written. Received: {out}: {exc}.") from exc


def restore(source: Path, kept: Kept) -> dict[str, int]:
    """Bring a backup to where nothing is yet; return the rows of each table.

    An older backup may hold events alone.

    Raises:
        DataError: It is no backup, or something is there already.
    """
    if not source.is_file():
        raise DataError(f"Expected: a backup at {source}. Received: no file.")
    full = [*_full(kept.store.engine, METADATA), *_full(kept.accounts, ACCOUNTS)]
    full += [str(kept.files)] if kept.files.exists() and any(kept.files.iterdir()) else []
    if full:
        raise DataError(
            f"Expected: an empty database and folder. Received: something in {', '.join(full)}.",
            hint="name a new one with --database and --files; nothing is ever overwritten",
        )
    try:
        _check(source)
        with _opened(source) as copied, copied.engine.connect() as reader:
            with kept.store.writing() as writer:
                for table in METADATA.sorted_tables:
                    _copy(reader, writer, table)
                _go_on_counting(writer, "event", "quarantine")
            there = set(sa.inspect(reader).get_table_names())
            with writing(kept.accounts) as writer:
                for table in _KEPT_OF_ACCOUNTS:
                    if table.name in there:
                        _copy(reader, writer, table)
                _go_on_counting(writer, "web_token", column="id")
                _go_on_counting(writer, "web_audit")
            if FILES.name in there:
                backup_files.put(reader, kept.files)
        return _counts(source)
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as exc:
        told = str(exc).splitlines()[0]
        raise DataError(f"Expected: a backup of the recorder. Received: {source}: {told}.") from exc


def _full(engine: Engine, metadata: sa.MetaData) -> list[str]:
    with engine.connect() as connection:
        return [name for name, table in metadata.tables.items() if _holds(connection, table)]


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


def _copy_tables(store: Store, staged: Path) -> None:
    kept = Store(f"sqlite:///{staged}")
    try:
        reading = store.engine.execution_options(isolation_level="REPEATABLE READ")
        with reading.connect() as reader, kept.writing() as writer:
            for table in METADATA.sorted_tables:
                _copy(reader, writer, table)
    finally:
        kept.close()


def _copy_belongings(kept: Kept, staged: Path) -> None:
    """Put accounts and files into a backup, and make it one file, with no journal beside it."""
    engine = sa.create_engine(f"sqlite:///{staged}")
    try:
        with kept.accounts.connect() as reader, engine.begin() as writer:
            for table in (*_KEPT_OF_ACCOUNTS, FILES):
                table.create(writer)
            for table in _KEPT_OF_ACCOUNTS:
                _copy(reader, writer, table)
            backup_files.take(kept.files, writer)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    finally:
        engine.dispose()


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


def _go_on_counting(connection: Connection, *names: str, column: str = "row") -> None:
    if connection.dialect.name == "postgresql":
        for name in names:
            newest = f"SELECT max({column}) FROM {name}"  # noqa: S608 - names of ours
            connection.exec_driver_sql(f"SELECT setval('{name}_{column}_seq', ({newest}))")


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
            table.name: int(database.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0])  # noqa: S608 - ours
            for table in _TABLES
            if table.name in names
        }
