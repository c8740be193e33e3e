"""Opens the database, and brings it to the version of this program, one process at a time."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from edge_agent.contracts.errors import ServiceError

WRITING = 7_355_417
"""PostgreSQL's advisory lock of whoever writes events or changes tables."""
_TURNS, _TURN_S = 100, 0.05
_HINT = "sqlite:///file.sqlite, or postgresql://user:password@host/name of a running server"


def open_engine(url: str) -> Engine:
    """Return an engine; a file that is not there yet is made when it is first used.

    Raises:
        ServiceError: The URL is none, or the database cannot be reached.
    """
    try:
        engine = sa.create_engine(_with_driver(url), pool_pre_ping=True, pool_size=10)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _durable)
        with engine.connect():
            pass
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as exc:
        raise away(url, exc) from exc
    return engine


def away(url: str, exc: Exception) -> ServiceError:
    """Return what to tell a person of a database that fails."""
    told = str(getattr(exc, "orig", None) or exc).splitlines()[0]
    return ServiceError(f"Expected: a database at {hidden(url)}. Received: {told}.", hint=_HINT)


@contextlib.contextmanager
def writing(engine: Engine, turn: int = WRITING) -> Iterator[Connection]:
    """Give a transaction that nobody else of the same turn runs beside: usually, no other writer.

    PostgreSQL hands out `row` when a row is inserted and shows it when it is committed: of two writers
    the later number could be seen first, and a reader who goes on behind it would never see the earlier
    one. SQLite has one writer anyway; asking for it at once saves it from a deadlock.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({turn})")
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def upgrade(engine: Engine) -> list[str]:
    """Bring a database to the newest version; return the steps that were taken.

    Raises:
        ServiceError: It was written by a newer program.
    """
    config = Config()
    config.set_main_option("script_location", "dashboard:migrations")
    known = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    with writing(engine) as connection:
        before = _version(connection)
        if before is not None and before not in known:
            raise ServiceError(
                f"Expected: a database of version {known[-1]} or older. Received: one of version {before}.",
                hint="start the newer shelfkit that wrote it, or restore a backup that was made before",
            )
        config.attributes["connection"] = connection
        if before is None and sa.inspect(connection).has_table("event"):
            # From the time before versions were counted: these are the first four tables.
            command.stamp(config, known[0])
            before = known[0]
        missing = known[known.index(before) + 1 :] if before is not None else known
        if missing:
            command.upgrade(config, "head")
    return missing


def version(engine: Engine) -> str | None:
    """Return the version of a database; None where none was ever noted."""
    with engine.connect() as connection:
        return _version(connection)


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def hidden(url: str) -> str:
    """Return a URL fit to be shown: without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return repr(url)


def _with_driver(url: str) -> str:
    if url.startswith("postgresql://"):
        return url.replace("postgresql://", "postgresql+psycopg://", 1)
    return url


def patient(connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's signature
    """Let SQLite wait for its turn: of many writers, who ask in no order, one may wait long."""
    connection.execute("PRAGMA busy_timeout=15000")
    for turn in range(_TURNS):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            # Where several make a file at one moment, SQLite does not wait by itself.
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or turn == _TURNS - 1:
                raise
            time.sleep(_TURN_S)
        else:
            return


def _durable(connection: Any, record: object) -> None:  # noqa: ANN401 - SQLAlchemy's signature
    patient(connection, record)
    connection.execute("PRAGMA synchronous=FULL")
