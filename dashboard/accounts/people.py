"""Accounts and their sessions.

A session is known by the hash of its secret: a copy of the table opens nothing.
"""

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.engine import Engine

from dashboard.accounts.identity import Identity, Role
from dashboard.accounts.tables import ACCOUNTS, SESSIONS
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.times import rfc3339

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=7)
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SEEN_EVERY = timedelta(minutes=1)
_HASHER = PasswordHasher()


def hashed(secret: str) -> str:
    """Return what is kept of a secret that is random enough to need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


class People:
    """Accounts and sessions in a database.

    Args:
        engine: From `open_tables`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, name: str, password: str, role: Role, now: datetime) -> None:
        """Make an account.

        Raises:
            UsageError: The name is taken or none, or the password too short.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"Expected: a name of letters, digits, `.`, `_`, `@`, `-`. Received: {name!r}.")
        row = {"name": name, "password": _kept(password), "role": role.value, "created": rfc3339(now)}
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(ACCOUNTS), row)
        except sa.exc.IntegrityError as exc:
            raise UsageError(f"Expected: a new name. Received: {name}, which is taken.") from exc

    def list(self) -> list[dict[str, Any]]:
        """Return every account: name, role, when it was made, when it was last seen."""
        seen = sa.select(sa.func.max(SESSIONS.c.seen)).where(SESSIONS.c.account == ACCOUNTS.c.name)
        query = sa.select(
            ACCOUNTS.c.name, ACCOUNTS.c.role, ACCOUNTS.c.created, seen.scalar_subquery().label("seen")
        )
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query.order_by(ACCOUNTS.c.name)).mappings()]

    def set_password(self, name: str, password: str) -> None:
        """Give an account another password; whoever is logged in with the old one is logged out.

        Raises:
            UsageError: There is no such account, or the password is too short.
        """
        with self._engine.begin() as connection:
            of = sa.update(ACCOUNTS).where(ACCOUNTS.c.name == name)
            _require_one(connection.execute(of.values(password=_kept(password))), name)
            connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.account == name))

    def set_role(self, name: str, role: Role) -> None:
        """Give an account another role; it holds from the next question on.

        Raises:
            UsageError: There is no such account.
        """
        with self._engine.begin() as connection:
            of = sa.update(ACCOUNTS).where(ACCOUNTS.c.name == name)
            _require_one(connection.execute(of.values(role=role.value)), name)

    def remove(self, name: str) -> None:
        """Take an account and its sessions away.

        Raises:
            UsageError: There is no such account.
        """
        with self._engine.begin() as connection:
            _require_one(connection.execute(sa.delete(ACCOUNTS).where(ACCOUNTS.c.name == name)), name)
            connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.account == name))

    def right(self, name: str, password: str) -> bool:
        """Whether this is the account's password; takes as long where there is no such account."""
        query = sa.select(ACCOUNTS.c.password).where(ACCOUNTS.c.name == name)
        kept = None
        # No database has to hear of what is no name.
        if _NAME.fullmatch(name):
            with self._engine.connect() as connection:
                kept = connection.execute(query).scalar()
        try:
            return _HASHER.verify(kept or _nobody(), password[: LONGEST_PASSWORD + 1]) and kept is not None
        except (VerificationError, InvalidHashError):
            return False

    def open_session(self, name: str, now: datetime) -> str:
        """Return the secret of a new session; sessions that are over are swept away."""
        secret, over = secrets.token_urlsafe(32), sa.or_(*_over(now))
        said = rfc3339(now)
        row = {"account": name, "csrf": secrets.token_urlsafe(32), "created": said, "seen": said}
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SESSIONS).where(over))
            connection.execute(sa.insert(SESSIONS), {"hash": hashed(secret), **row})
        return secret

    def session(self, secret: str, now: datetime) -> Identity | None:
        """Return whose session this is; None where it is over or was never there."""
        query = (
            sa.select(SESSIONS, ACCOUNTS.c.role)
            .join(ACCOUNTS, ACCOUNTS.c.name == SESSIONS.c.account)
            .where(SESSIONS.c.hash == hashed(secret), sa.not_(sa.or_(*_over(now))))
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        if now - datetime.fromisoformat(row.seen) > _SEEN_EVERY:
            with self._engine.begin() as connection:
                of = sa.update(SESSIONS).where(SESSIONS.c.hash == row.hash)
                connection.execute(of.values(seen=rfc3339(now)))
        return Identity(row.account, Role(row.role), row.csrf, "session")

    def close_session(self, secret: str) -> None:
        """End a session."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.hash == hashed(secret)))


def _over(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return SESSIONS.c.seen < rfc3339(now - IDLE), SESSIONS.c.created < rfc3339(now - LONGEST)


def _kept(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UsageError(
            f"Expected: a password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters. "
            f"Received: {len(password)}."
        )
    return _HASHER.hash(password)


def _require_one(done: sa.CursorResult[Any], name: str) -> None:
    if done.rowcount == 0:
        raise UsageError(f"Expected: an account. Received: {name!r}, which is none.")


@cache
def _nobody() -> str:
    return _HASHER.hash(secrets.token_urlsafe(16))


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)
