"""What else is kept: tokens of programs, who did what, how a store is called and which clock it lives by."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from dashboard.accounts.identity import Identity, Role
from dashboard.accounts.people import People, hashed
from dashboard.accounts.tables import AUDIT, HOURS, SETTINGS, TOKENS, open_tables
from dashboard.hours import Week, read_line
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.times import rfc3339, zone_named

PREFIX = "skt_"
_LONGEST_TITLE = 80
_SEEN_EVERY = timedelta(minutes=1)


class Tokens:
    """Secrets by which programs read the API; what is kept is a hash."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def make(self, title: str, made_by: str, now: datetime) -> str:
        """Return a new token; it is told this once.

        Raises:
            UsageError: The title is empty or too long.
        """
        title = _named(title)
        secret = PREFIX + secrets.token_urlsafe(32)
        row = {"hash": hashed(secret), "title": title, "made_by": made_by, "created": rfc3339(now)}
        with self._engine.begin() as connection:
            connection.execute(sa.insert(TOKENS), row)
        return secret

    def whose(self, secret: str, now: datetime) -> Identity | None:
        """Return which program this is; None where there is no such token."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(TOKENS).where(TOKENS.c.hash == hashed(secret))).first()
        if row is None:
            return None
        if row.seen is None or now - datetime.fromisoformat(row.seen) > _SEEN_EVERY:
            with self._engine.begin() as connection:
                connection.execute(sa.update(TOKENS).where(TOKENS.c.id == row.id).values(seen=rfc3339(now)))
        return Identity(row.title, Role.VIEWER, "", "token")

    def list(self) -> list[dict[str, Any]]:
        """Return every token without its secret."""
        shown = (TOKENS.c.id, TOKENS.c.title, TOKENS.c.made_by, TOKENS.c.created, TOKENS.c.seen)
        with self._engine.connect() as connection:
            return [
                dict(row) for row in connection.execute(sa.select(*shown).order_by(TOKENS.c.id)).mappings()
            ]

    def remove(self, number: int) -> str | None:
        """Take a token away; return its title, None where there is none."""
        with self._engine.begin() as connection:
            title = connection.execute(sa.select(TOKENS.c.title).where(TOKENS.c.id == number)).scalar()
            connection.execute(sa.delete(TOKENS).where(TOKENS.c.id == number))
        return title


class Audit:
    """Who did what, when, from where; only ever added to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, who: str, what: str, about: str, address: str, now: datetime) -> None:
        """Write a line."""
        # Whoever tries to log in may call himself anything.
        row = {"time": rfc3339(now), "who": who[:80].replace("\0", ""), "what": what}
        row |= {"about": about[:200], "address": address}
        with self._engine.begin() as connection:
            connection.execute(sa.insert(AUDIT), row)

    def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return lines, the newest first."""
        query = sa.select(AUDIT).order_by(AUDIT.c.row.desc()).limit(limit)
        if before is not None:
            query = query.where(AUDIT.c.row < before)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


@dataclass(frozen=True, slots=True)
class StoreSetting:
    """How a store is called, the zone of its clocks, and its opening hours: as here where nobody said."""

    title: str = ""
    zone: str = "UTC"
    hours: str = ""

    @property
    def week(self) -> Week | None:
        """When it is open; None is always."""
        return read_line(self.hours)


class Settings:
    """Settings of stores; a store without any is called by its number, lives in UTC and never closes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> dict[str, StoreSetting]:
        """Return what was ever set."""
        with self._engine.connect() as connection:
            return {row.store: _setting(row) for row in connection.execute(_SETTINGS)}

    def of(self, store: str) -> StoreSetting:
        """Return what holds for a store."""
        with self._engine.connect() as connection:
            row = connection.execute(_SETTINGS.where(SETTINGS.c.store == store)).first()
        return StoreSetting() if row is None else _setting(row)

    def set(self, store: str, setting: StoreSetting) -> None:
        """Keep what holds for a store from now on.

        Raises:
            UsageError: There is no such zone, the title is too long, or the hours are none.
        """
        if zone_named(setting.zone) is None:
            raise UsageError(
                f"Expected: a zone like Europe/Zurich or Asia/Shanghai. Received: {setting.zone!r}."
            )
        try:
            hours = str(setting.week or "")
        except ValueError as exc:
            raise UsageError(f"Expected: opening hours. Received: {setting.hours!r}: {exc}.") from exc
        title = _named(setting.title) if setting.title.strip() else ""
        kept: dict[sa.Table, dict[str, str]] = {
            SETTINGS: {"title": title, "zone": setting.zone},
            HOURS: {"hours": hours},
        }
        with self._engine.begin() as connection:
            for table, values in kept.items():
                connection.execute(sa.delete(table).where(table.c.store == store))
                connection.execute(sa.insert(table), {"store": store, **values})


_SETTINGS = sa.select(SETTINGS, HOURS.c.hours).outerjoin(HOURS, HOURS.c.store == SETTINGS.c.store)


def _setting(row: sa.Row[Any]) -> StoreSetting:
    return StoreSetting(row.title, row.zone, row.hours or "")


class Accounts:
    """Everything that is kept apart from events, in one database.

    Args:
        url: `sqlite:///file`, `postgresql://...`, or `sqlite://` for as long as the process lives.
    """

    def __init__(self, url: str = "sqlite://") -> None:
        self._engine = open_tables(url)
        self.people = People(self._engine)
        self.tokens = Tokens(self._engine)
        self.audit = Audit(self._engine)
        self.settings = Settings(self._engine)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _named(title: str) -> str:
    title = title.strip()
    if not 0 < len(title) <= _LONGEST_TITLE or not title.isprintable():
        raise UsageError(f"Expected: a name of 1 to {_LONGEST_TITLE} characters. Received: {len(title)}.")
    return title
