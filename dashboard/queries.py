"""What readers ask the recorder's database: filtered, paged, never written."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Engine

from edge_agent.contracts.events import Kind
from edge_agent.contracts.times import rfc3339

_EVENT = sa.table("event", *map(sa.column, ("row", "source", "type", "subject", "received", "body")))
_STREAM = sa.table("stream", *map(sa.column, ("source", "stream", "upto")))
_GAP = sa.table("gap", *map(sa.column, ("source", "stream", "first", "last", "noted")))
_DEVICE = sa.table("device", *map(sa.column, ("source", "store", "device", "state", "health")))

_PAGE = 500
_PRODUCT_TYPES = [kind.type for kind in Kind if kind.about == "product"]

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFilter:
    """Which events are wanted; None wants all. `since` and `until` are about when they were recorded."""

    kind: Kind | None = None
    store: str | None = None
    device: str | None = None
    product: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    product_events: bool = False

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the filter as SQL."""
        found: list[sa.ColumnElement[bool]] = []
        event = _EVENT.c
        if self.kind is not None:
            found.append(event.type == self.kind.type)
        if self.product_events:
            found.append(event.type.in_(_PRODUCT_TYPES))
        if self.store is not None:
            found.append(event.source.startswith(f"/stores/{self.store}/devices/", autoescape=True))
        if self.device is not None:
            found.append(event.source.endswith(f"/devices/{self.device}", autoescape=True))
        if self.product is not None:
            found.append(event.subject.endswith(f"/product/{self.product}", autoescape=True))
        # Both are RFC 3339 in UTC with milliseconds: text sorts as time does.
        if self.since is not None:
            found.append(event.received >= rfc3339(self.since))
        if self.until is not None:
            found.append(event.received < rfc3339(self.until))
        return found


class Queries:
    """Questions to a database; each takes a connection of its own.

    Args:
        engine: Of the recorder's store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def events(self, wanted: EventFilter, after: int, limit: int) -> list[Row]:
        """Return at most `limit` events behind a row, oldest first."""
        query = (
            sa.select(_EVENT.c.row, _EVENT.c.received, _EVENT.c.body)
            .where(_EVENT.c.row > after, *wanted.conditions())
            .order_by(_EVENT.c.row)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [
                {"cursor": row.row, "received": row.received, "event": json.loads(row.body)}
                for row in connection.execute(query)
            ]

    def all_events(self, wanted: EventFilter, after: int) -> Iterator[Row]:
        """Yield every event behind a row, a page at a time: no connection is held while a reader is slow."""
        while page := self.events(wanted, after, _PAGE):
            yield from page
            after = page[-1]["cursor"]

    def stores(self) -> list[Row]:
        """Return every store with how many devices it has, and how many are online."""
        online = sa.case((self._json(_DEVICE.c.health, "status") == "online", 1), else_=0)
        query = (
            sa.select(_DEVICE.c.store, sa.func.count().label("devices"), sa.func.sum(online).label("online"))
            .group_by(_DEVICE.c.store)
            .order_by(_DEVICE.c.store)
        )
        return self._rows(query)

    def devices(
        self, store: str | None, status: str | None, after: str, limit: int
    ) -> list[tuple[str, str, str, Row | None, Row | None]]:
        """Return source, store, device, state, health of devices behind a source, in its order."""
        query = sa.select(_DEVICE).where(_DEVICE.c.source > after).order_by(_DEVICE.c.source).limit(limit)
        if store is not None:
            query = query.where(_DEVICE.c.store == store)
        if status is not None:
            query = query.where(self._json(_DEVICE.c.health, "status") == status)
        with self._engine.connect() as connection:
            return [
                (row.source, row.store, row.device, _loaded(row.state), _loaded(row.health))
                for row in connection.execute(query)
            ]

    def latest(self, store: str) -> list[tuple[str, str | None, str | None]]:
        """Return name, state and health of a store's devices, as texts."""
        query = sa.select(_DEVICE.c.device, _DEVICE.c.state, _DEVICE.c.health)
        query = query.where(_DEVICE.c.store == store).order_by(_DEVICE.c.device)
        with self._engine.connect() as connection:
            return [(row.device, row.state, row.health) for row in connection.execute(query)]

    def has_store(self, store: str) -> bool:
        """Whether a device of it was ever heard of."""
        query = sa.select(_DEVICE.c.source).where(_DEVICE.c.store == store).limit(1)
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def last_row(self) -> int:
        """Return the row of the newest event."""
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.max(_EVENT.c.row))).scalar() or 0)

    def latest_events(self, store: str, after: int, limit: int) -> list[Row]:
        """Return the newest events of a store behind a row, oldest first."""
        query = sa.select(_EVENT.c.row, _EVENT.c.received, _EVENT.c.body)
        query = query.where(_EVENT.c.row > after, *EventFilter(store=store).conditions())
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_EVENT.c.row.desc()).limit(limit)).all()
        return [
            {"cursor": row.row, "received": row.received, "event": json.loads(row.body)} for row in rows[::-1]
        ]

    def overview(self) -> list[Row]:
        """Return every store with its devices, how many are online, and how many products are out and low."""
        products = self._products()
        level = self._json(sa.column("value"), "state")
        counted = [sa.func.sum(sa.case((level == name, 1), else_=0)).label(name) for name in ("out", "low")]
        query = sa.select(_DEVICE.c.store, *counted).select_from(_DEVICE).join(products, sa.true())
        levels = {row["store"]: row for row in self._rows(query.group_by(_DEVICE.c.store))}
        return [
            {**store, **{name: int(levels.get(store["store"], {}).get(name, 0)) for name in ("out", "low")}}
            for store in self.stores()
        ]

    def _products(self) -> sa.TableValuedAlias:
        """Return the products of each device's snapshot as rows of one column `value`."""
        if self._engine.dialect.name == "postgresql":
            items = sa.cast(_DEVICE.c.state, JSONB)["products"]
            return sa.func.jsonb_array_elements(items).table_valued("value").render_derived()
        return sa.func.json_each(_DEVICE.c.state, "$.products").table_valued("value")

    def device(self, store: str, device: str) -> tuple[Row | None, Row | None] | None:
        """Return state and health of a device; None where nobody has heard of it."""
        query = sa.select(_DEVICE.c.state, _DEVICE.c.health)
        query = query.where(_DEVICE.c.store == store, _DEVICE.c.device == device)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else (_loaded(row.state), _loaded(row.health))

    def gaps(self, after: int, limit: int) -> list[Row]:
        """Return what is known to be lost, from the so-and-so-many-th on."""
        query = sa.select(_GAP).order_by(_GAP.c.source, _GAP.c.stream, _GAP.c.first)
        return self._rows(query.offset(after).limit(limit))

    def totals(self) -> dict[str, int]:
        """Return how many events are acknowledged, lost, and not yet acknowledged."""
        last = sa.cast(self._json(_DEVICE.c.state, "last"), sa.BigInteger)
        behind = sa.func.sum(sa.case((last > _STREAM.c.upto, last - _STREAM.c.upto), else_=0))
        current = sa.and_(
            _STREAM.c.source == _DEVICE.c.source,
            _STREAM.c.stream == self._json(_DEVICE.c.state, "stream"),
        )
        lost = sa.func.sum(_GAP.c.last - _GAP.c.first + 1)
        questions = {
            "passed": sa.select(sa.func.sum(_STREAM.c.upto)),
            "lost": sa.select(lost),
            "behind": sa.select(behind).select_from(_DEVICE.join(_STREAM, current)),
        }
        with self._engine.connect() as connection:
            return {name: int(connection.execute(query).scalar() or 0) for name, query in questions.items()}

    def statuses(self) -> dict[str, int]:
        """Return how many devices there are by status; `unknown` where none was ever told."""
        status = sa.func.coalesce(self._json(_DEVICE.c.health, "status"), "unknown").label("status")
        inner = sa.select(status).subquery()
        query = sa.select(inner.c.status, sa.func.count().label("count")).group_by(inner.c.status)
        return {row["status"]: row["count"] for row in self._rows(query)}

    def _rows(self, query: sa.Select[Any]) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _json(self, column: sa.ColumnClause[Any], name: str) -> sa.ColumnElement[Any]:
        """Return a field at the top of a JSON text, in either dialect."""
        if self._engine.dialect.name == "postgresql":
            found: sa.ColumnElement[Any] = sa.cast(column, JSONB)[name].astext
            return found
        return sa.func.json_extract(column, f"$.{name}")


def _loaded(text: str | None) -> Row | None:
    if text is None:
        return None
    value: Row = json.loads(text)
    return value
