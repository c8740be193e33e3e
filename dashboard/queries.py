"""What readers ask the recorder's database: filtered, paged, never written."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection, Engine

from dashboard.past import Past
from dashboard.tables import LOST, REFUSED
from edge_agent.contracts.events import Kind
from edge_agent.contracts.times import rfc3339

_EVENT = sa.table("event", *map(sa.column, ("row", "source", "type", "subject", "received", "body")))
_STREAM = sa.table("stream", *map(sa.column, ("source", "stream", "upto")))
_GAP = sa.table("gap", *map(sa.column, ("source", "stream", "first", "last", "noted", "reason")))
_DEVICE = sa.table("device", *map(sa.column, ("source", "store", "device", "state", "health", "heard")))

_PAGE = 500
_CHOICES = 500
_LOOK_BACK = 20_000
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


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetFilter:
    """Which devices are wanted; empty wants all."""

    store: str = ""
    status: str = ""
    agent: str = ""
    model: str = ""
    phase: str = ""
    text: str = ""
    sort: str = "device"
    descending: bool = False

    def exact(self) -> dict[str, str]:
        """Return the columns that must have a value."""
        found = {name: getattr(self, name) for name in ("store", "status", "agent", "model", "phase")}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class News:
    """What is new in a store: devices (name, state, health, when heard), events, and the last row seen."""

    devices: list[tuple[str, str | None, str | None, str | None]]
    events: list[Row]
    last: int


class Queries:
    """Questions to a database; each takes a connection of its own.

    Args:
        engine: Of the recorder's store.

    Attributes:
        past: Questions about days that are over.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.past = Past(engine)

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
    ) -> list[tuple[str, str, str, Row | None, Row | None, str | None]]:
        """Return source, store, device, state, health, when heard: of devices behind a source, in order."""
        query = sa.select(_DEVICE).where(_DEVICE.c.source > after).order_by(_DEVICE.c.source).limit(limit)
        if store is not None:
            query = query.where(_DEVICE.c.store == store)
        if status is not None:
            query = query.where(self._json(_DEVICE.c.health, "status") == status)
        with self._engine.connect() as connection:
            return [
                (row.source, row.store, row.device, loaded(row.state), loaded(row.health), row.heard)
                for row in connection.execute(query)
            ]

    def latest(self, store: str) -> list[tuple[str, str | None, str | None]]:
        """Return name, state and health of a store's devices, as texts."""
        with self._engine.connect() as connection:
            return [found[:3] for found in _latest(connection, store, None)]

    def news(self, store: str, sources: Collection[str] | None, after: int, limit: int) -> News:
        """Return what is new in a store.

        Args:
            store: Which store.
            sources: The devices of which to tell the latest; None is all.
            after: Events behind this row; negative is the newest there are.
            limit: At most so many events.
        """
        with self._engine.connect() as connection:
            last = int(connection.execute(sa.select(sa.func.max(_EVENT.c.row))).scalar() or 0)
            events = _latest_events(connection, store, after if after >= 0 else last - _LOOK_BACK, limit)
            devices = _latest(connection, store, sources)
        # What was recorded between two questions is told once, by the next answer.
        return News(devices, events, events[-1]["cursor"] if events else max(last, after))

    def has_store(self, store: str) -> bool:
        """Whether a device of it was ever heard of."""
        query = sa.select(_DEVICE.c.source).where(_DEVICE.c.store == store).limit(1)
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def last_row(self) -> int:
        """Return the row of the newest event."""
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.max(_EVENT.c.row))).scalar() or 0)

    def fleet(self, wanted: FleetFilter, first: int, limit: int) -> tuple[int, list[Row]]:
        """Return how many devices there are that are wanted, and a page of them."""
        columns = self._fleet_columns()
        conditions = [columns[name] == value for name, value in wanted.exact().items()]
        if wanted.text:
            conditions.append(_DEVICE.c.device.contains(wanted.text, autoescape=True))
        order = columns[wanted.sort]
        # What nobody knows comes last, whichever way it goes.
        direction = order.desc() if wanted.descending else order.asc()
        shown = [column.label(name) for name, column in columns.items()]
        query = sa.select(*shown, _DEVICE.c.source).where(*conditions)
        query = query.order_by(direction.nulls_last(), _DEVICE.c.source).offset(first).limit(limit)
        total = sa.select(sa.func.count()).select_from(_DEVICE).where(*conditions)
        with self._engine.connect() as connection:
            count = int(connection.execute(total).scalar_one())
            rows = [dict(row) for row in connection.execute(query).mappings()]
            shelves = sa.select(_DEVICE.c.source, _DEVICE.c.state)
            shelves = shelves.where(_DEVICE.c.source.in_([row["source"] for row in rows]))
            states = {row.source: loaded(row.state) or {} for row in connection.execute(shelves)}
        return count, [{**row, "state": states.get(row["source"], {})} for row in rows]

    def choices(self, name: str) -> list[str]:
        """Return what the devices say of a column of the fleet: every value once."""
        column = self._fleet_columns()[name]
        query = sa.select(column.label("value")).select_from(_DEVICE).distinct().limit(_CHOICES)
        return sorted(str(row["value"]) for row in self._rows(query) if row["value"] is not None)

    def _fleet_columns(self) -> dict[str, sa.ColumnElement[Any]]:
        health = _DEVICE.c.health
        return {
            "device": _DEVICE.c.device,
            "store": _DEVICE.c.store,
            "status": sa.func.coalesce(self._json(health, "status"), "unknown"),
            "agent": self._json(health, "versions", "agent"),
            "model": self._json(health, "versions", "model"),
            "phase": self._json(health, "update"),
            "depth": sa.cast(self._json(health, "outbox_depth"), sa.BigInteger),
            "age": sa.cast(self._json(health, "outbox_age_s"), sa.Float),
            "seen": _DEVICE.c.heard,
            "safe_mode": self._json(health, "safe_mode"),
        }

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

    def device(self, store: str, device: str) -> tuple[Row | None, Row | None, str | None] | None:
        """Return state, health, and when it was heard, of a device; None where nobody knows of it."""
        query = sa.select(_DEVICE.c.state, _DEVICE.c.health, _DEVICE.c.heard)
        query = query.where(_DEVICE.c.store == store, _DEVICE.c.device == device)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else (loaded(row.state), loaded(row.health), row.heard)

    def gaps(self, after: int, limit: int) -> list[Row]:
        """Return what is known to be lost or refused, from the so-and-so-many-th on."""
        query = _gaps().order_by(_GAP.c.source, _GAP.c.stream, _GAP.c.first)
        return self._rows(query.offset(after).limit(limit))

    def gaps_of(self, sources: Sequence[str], limit: int) -> list[Row]:
        """Return the gaps of some devices, the newest first."""
        query = _gaps().where(_GAP.c.source.in_(sources))
        return self._rows(query.order_by(_GAP.c.noted.desc(), _GAP.c.source, _GAP.c.first).limit(limit))

    def totals(self) -> dict[str, int]:
        """Return how many events are acknowledged, lost, refused, and not yet acknowledged."""
        last = sa.cast(self._json(_DEVICE.c.state, "last"), sa.BigInteger)
        behind = sa.func.sum(sa.case((last > _STREAM.c.upto, last - _STREAM.c.upto), else_=0))
        current = sa.and_(
            _STREAM.c.source == _DEVICE.c.source,
            _STREAM.c.stream == self._json(_DEVICE.c.state, "stream"),
        )
        missing = sa.select(sa.func.sum(_GAP.c.last - _GAP.c.first + 1))
        refused = _GAP.c.reason == REFUSED
        questions = {
            "passed": sa.select(sa.func.sum(_STREAM.c.upto)),
            "lost": missing.where(sa.or_(_GAP.c.reason.is_(None), sa.not_(refused))),
            "refused": missing.where(refused),
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

    def _json(self, column: sa.ColumnClause[Any], *names: str) -> sa.ColumnElement[Any]:
        """Return a field of a JSON text, in either dialect."""
        if self._engine.dialect.name == "postgresql":
            found: sa.ColumnElement[Any] = sa.cast(column, JSONB)[names].astext
            return found
        return sa.func.json_extract(column, "$." + ".".join(names))


def _latest(
    connection: Connection, store: str, sources: Collection[str] | None
) -> list[tuple[str, str | None, str | None, str | None]]:
    columns = _DEVICE.c.device, _DEVICE.c.state, _DEVICE.c.health, _DEVICE.c.heard
    query = sa.select(*columns).where(_DEVICE.c.store == store)
    if sources is not None:
        query = query.where(_DEVICE.c.source.in_(sources))
    return [
        (row.device, row.state, row.health, row.heard)
        for row in connection.execute(query.order_by(_DEVICE.c.device))
    ]


def _latest_events(connection: Connection, store: str, after: int, limit: int) -> list[Row]:
    """Return the newest events of a store behind a row, oldest first."""
    query = sa.select(_EVENT.c.row, _EVENT.c.received, _EVENT.c.body)
    query = query.where(_EVENT.c.row > after, *EventFilter(store=store).conditions())
    rows = connection.execute(query.order_by(_EVENT.c.row.desc()).limit(limit)).all()
    return [
        {"cursor": row.row, "received": row.received, "event": json.loads(row.body)} for row in rows[::-1]
    ]


def _gaps() -> sa.Select[Any]:
    """Return all gaps; those from before reasons were kept are of events that were lost."""
    columns = (_GAP.c[name] for name in ("source", "stream", "first", "last", "noted"))
    return sa.select(*columns, sa.func.coalesce(_GAP.c.reason, LOST).label("reason"))


def loaded(text: str | None) -> Row | None:
    """Return what a device said, as it is kept; None where it has said nothing."""
    if text is None:
        return None
    value: Row = json.loads(text)
    return value
