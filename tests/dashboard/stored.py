"""What a store holds, and a short way to put something into it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dashboard.batch import Arrival, Batch
from dashboard.queries import EventFilter, Queries
from dashboard.store import Store
from dashboard.tables import DEVICES, GAPS

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def put(store: Store, arrivals: Sequence[Arrival], now: datetime = NOW) -> dict[tuple[str, str], int]:
    """Let events come in."""
    with store.writing() as connection:
        return store.take(connection, Batch(list(arrivals)), now)


def note(store: Store, source: str, place: str, device: str, **latest: str) -> None:
    """Let a device say how it is: `state` or `health`, JSON."""
    with store.writing() as connection:
        store.take(connection, Batch(latest={source: {"store": place, "device": device, **latest}}), NOW)


def events(store: Store, limit: int = 10_000) -> list[dict[str, Any]]:
    """Return events in the order of their rows."""
    return Queries(store.engine).events(EventFilter(), 0, limit)


def gaps(store: Store) -> list[tuple[int, int, str]]:
    """Return what is missing: first, last and why."""
    query = sa.select(GAPS.c.first, GAPS.c.last, GAPS.c.reason).order_by(*GAPS.primary_key)
    with store.engine.connect() as connection:
        return [(row.first, row.last, row.reason) for row in connection.execute(query)]


def devices(store: Store) -> list[dict[str, Any]]:
    """Return every device with its latest state and health as they came."""
    with store.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(DEVICES)).mappings()]
