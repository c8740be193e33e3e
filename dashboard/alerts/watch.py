"""Looks at what the recorder has, again and again, and writes down what is to be told.

It only reads what devices said: the recorder does not wait for it, nor know of it. A device is read anew
where its snapshot or health is another text than before.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from dashboard.accounts.records import StoreSetting
from dashboard.alerts.book import Book
from dashboard.alerts.causes import Cause, causes_of
from dashboard.alerts.deciding import Decision, Situation, decide
from dashboard.alerts.rules import Rules
from dashboard.alerts.telling import messages
from dashboard.queries import loaded
from dashboard.tables import DEVICES
from edge_agent.contracts.identifiers import uuid7
from edge_agent.contracts.times import to_utc, zone_named

_PAGE = 500


class Sight:
    """What is wrong with every device, read anew where something came.

    Args:
        engine: Of the recorder's store.
        stores: Which; none is all.
    """

    def __init__(self, engine: Engine, stores: Sequence[str]) -> None:
        self._engine, self._stores = engine, stores
        self._known: dict[str, tuple[int, list[Cause]]] = {}
        self._began = False

    def look(self, now: datetime) -> list[Cause]:
        """Return everything that is wrong now."""
        seen: dict[str, tuple[int, list[Cause]]] = {}
        after = ""
        with self._engine.connect() as connection:
            while True:
                query = sa.select(DEVICES).where(DEVICES.c.source > after).order_by(DEVICES.c.source)
                if self._stores:
                    query = query.where(DEVICES.c.store.in_(self._stores))
                rows = connection.execute(query.limit(_PAGE)).all()
                for row in rows:
                    seen[row.source] = self._read(row, now)
                if len(rows) < _PAGE:
                    break
                after = rows[-1].source
        self._known, self._began = seen, True
        return [cause for _, causes in seen.values() for cause in causes]

    def _read(self, row: sa.Row[tuple[str, ...]], now: datetime) -> tuple[int, list[Cause]]:
        before = self._known.get(row.source)
        text = hash((row.state, row.health))
        if before is not None and before[0] == text:
            return before
        heard = now if self._began else None
        return text, causes_of(row.store, row.device, loaded(row.state), loaded(row.health), heard)


class Watch:
    """Decides, and writes down what changes.

    Args:
        rules: What to look for.
        sight: What is wrong.
        book: What was decided, and what is to be sent.
        settings: Returns how stores are called, and their zones.
        stores: Whose alerts are ours; none is all.
    """

    def __init__(
        self,
        rules: Rules,
        sight: Sight,
        book: Book,
        settings: Callable[[], dict[str, StoreSetting]],
        stores: Sequence[str] = (),
    ) -> None:
        self._rules, self._sight, self._book, self._settings = rules, sight, book, settings
        self._stores = stores

    def look(self, moment: datetime) -> Decision:
        """Decide once; return what changes, once it is written down."""
        now, settings = to_utc(moment), self._settings()
        zones = {store: zone_named(setting.zone) or ZoneInfo("UTC") for store, setting in settings.items()}
        causes = self._sight.look(now)
        here = Situation(self._rules, zones, self._book.mutes(now), now)

        def decided(connection: sa.Connection | None) -> Decision:
            return decide(here, causes, self._book.undone(self._stores, connection), lambda: _new_id(now))

        # Mostly nothing changes, and then nobody has to wait for us.
        if not decided(None):
            return Decision()
        with self._book.changing() as connection:
            decision = decided(connection)
            mail = messages(
                self._rules, decision.notices, lambda store: settings.get(store, StoreSetting()), now
            )
            self._book.write(connection, decision.alerts.values(), mail, now)
        return decision


def _new_id(now: datetime) -> str:
    return uuid7(int(now.timestamp() * 1000))
