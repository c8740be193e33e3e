"""Tables of accounts: in a file of their own beside events, or on the same server."""

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import StaticPool

from dashboard.schema import patient, writing
from edge_agent.contracts.errors import ServiceError

METADATA = sa.MetaData()

ACCOUNTS = sa.Table(
    "web_account",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
)
SESSIONS = sa.Table(
    "web_session",
    METADATA,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, nullable=False, index=True),
    sa.Column("csrf", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("seen", sa.Text, nullable=False),
)
TOKENS = sa.Table(
    "web_token",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("seen", sa.Text),
)
AUDIT = sa.Table(
    "web_audit",
    METADATA,
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("about", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
)
SETTINGS = sa.Table(
    "web_store",
    METADATA,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("zone", sa.Text, nullable=False),
)
HOURS = sa.Table(
    "web_hours",
    METADATA,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("hours", sa.Text, nullable=False),
)


def beside(database: str) -> str:
    """Return where a recorder's accounts are kept: a file beside its file, or the same server."""
    if database.startswith("sqlite:///") and database != "sqlite:///":
        stem = database.removesuffix(".sqlite").removesuffix(".db")
        return f"{stem}.accounts.sqlite"
    return database


def open_tables(url: str) -> Engine:
    """Return an engine to a database in which the tables are; `sqlite://` is one in memory.

    Raises:
        ServiceError: It cannot be opened.
    """
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        if url == "sqlite://":
            engine = sa.create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        else:
            engine = sa.create_engine(url, pool_pre_ping=True)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", patient)
        # Recorders that share a database may start at one moment.
        with writing(engine) as connection:
            METADATA.create_all(connection)
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as exc:
        told = str(getattr(exc, "orig", None) or exc).splitlines()[0]
        raise ServiceError(
            f"Expected: a database for accounts. Received: {told}.",
            hint="--database names the recorder's; accounts are kept beside it",
        ) from exc
    return engine
