"""What each operation of the API answers. Plain functions: database and question in, JSON out."""

import itertools
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException

from dashboard.api import models
from dashboard.journal import History, Wanted, histories
from dashboard.pages import timeline
from dashboard.queries import EventFilter, Queries
from edge_agent.contracts import epcis as adapter
from edge_agent.contracts import events as contract
from edge_agent.contracts.errors import DataError, UsageError

Json = dict[str, Any]

EPCIS_MOST = 10_000
"""So many stock events fit into one EPCIS document."""

_URGENCY = {"out": 0, "low": 1, "ok": 2}


def stores(queries: Queries, _path: models.Nothing, _query: models.Nothing) -> Json:
    """Every store."""
    return {"stores": queries.stores()}


def devices(queries: Queries, _path: models.Nothing, query: models.DevicesQuery) -> Json:
    """Devices, by store and name."""
    found = queries.devices(query.store, query.status, query.after, query.limit)
    items = [_summary(*one[1:]) for one in found]
    return {"devices": items, "next": found[-1][0] if len(found) == query.limit else None}


def _summary(store: str, device: str, state: Json | None, health: Json | None, heard: str | None) -> Json:
    state, health = state or {}, health or {}
    return {
        "store": store,
        "device": device,
        "shelf": state.get("shelf"),
        "status": health.get("status"),
        "versions": health.get("versions", {}),
        "outbox_depth": health.get("outbox_depth"),
        "time": health.get("time") or state.get("time"),
        "heard": heard,
    }


def device(queries: Queries, path: models.AtDevice, _query: models.Nothing) -> Json:
    """A device's latest snapshot and health."""
    state, health, heard = _device(queries, path)
    return {"store": path.store, "device": path.device, "state": state, "health": health, "heard": heard}


def slots(queries: Queries, path: models.AtDevice, _query: models.Nothing) -> Json:
    """A device's slots."""
    state = _device(queries, path)[0] or {}
    items = state.get("slots", {}).items()
    return {"slots": [{**value, "shelf": state["shelf"], "slot": name} for name, value in items]}


def _device(queries: Queries, path: models.AtDevice) -> tuple[Json | None, Json | None, str | None]:
    found = queries.device(path.store, path.device)
    if found is None:
        raise HTTPException(404, f"Expected: a device of store {path.store}. Received: {path.device}.")
    return found


def products(queries: Queries, path: models.InStore, query: models.ProductsQuery) -> Json:
    """What is on a store's shelves: what is out first, then what is low."""
    found: list[Json] = []
    after, known = "", False
    while page := queries.devices(path.store, None, after, 500):
        known, after = True, page[-1][0]
        for _, store, name, state, *_ in page:
            place = {"store": store, "device": name, "shelf": (state or {}).get("shelf")}
            found += [{**product, **place} for product in (state or {}).get("products", [])]
    if not known:
        raise HTTPException(404, f"Expected: a store that was heard of. Received: {path.store}.")
    wanted = [item for item in found if query.level in {None, item["state"]}]
    return {"products": sorted(wanted, key=lambda item: (_URGENCY.get(item["state"], 3), item["label"]))}


def days(queries: Queries, path: models.InStore, query: models.DaysQuery) -> Json:
    """How long products were out of stock, or slots empty, day by day."""
    if not queries.has_store(path.store):
        raise HTTPException(404, f"Expected: a store that was heard of. Received: {path.store}.")
    # Days are kept in the zone that the store had then, which is that of its pages.
    zone = next((turn.zone for turn in queries.past.turns(path.store).values()), ZoneInfo("UTC"))
    now = datetime.now(UTC)
    first = now.astimezone(zone).date() - timedelta(days=query.days - 1)
    pieces = timeline.days(timeline.midnight(first, zone), now, zone)
    wanted = Wanted(path.store, query.about, pieces[0][1], now)
    told = ((one, _stock_days(one, pieces)) for one in histories(queries, wanted))
    places = (({"device": one.device, "shelf": one.shelf, "name": one.name}, days) for one, days in told)
    return {"zone": zone.key, "found": [{**place, "days": days} for place, days in places if days]}


def _stock_days(one: History, pieces: Sequence[tuple[date, datetime, datetime]]) -> list[Json]:
    told = []
    for day, begin, end in pieces:
        sums = timeline.figures(timeline.clipped(one.spans, begin, end))
        if sums.known:
            figures = {"seen_s": round(sums.known), "out_s": round(sums.out)}
            figures |= {"longest_s": round(sums.longest), "gaps": sums.gaps}
            told.append({"day": day.isoformat(), **figures})
    return told


def events(queries: Queries, _path: models.Nothing, query: models.EventsQuery) -> Json:
    """Events in the order in which they were recorded."""
    return _page(queries, chosen(query), query)


def history(queries: Queries, path: models.OfProduct, query: models.HistoryQuery) -> Json:
    """A product's events: out of stock, low, restocked."""
    return _page(queries, chosen(query, path), query)


def _page(queries: Queries, wanted: EventFilter, query: models.HistoryQuery) -> Json:
    found = queries.events(wanted, query.after, query.limit)
    return {"events": found, "next": found[-1]["cursor"] if len(found) == query.limit else None}


def chosen(query: models.HistoryQuery, path: models.OfProduct | None = None) -> EventFilter:
    """Return the filter that a question stands for."""
    kind, product = (query.kind, query.product) if isinstance(query, models.EventsQuery) else (None, None)
    return EventFilter(
        kind=kind,
        store=query.store,
        device=query.device,
        product=product if path is None else path.product,
        since=query.since,
        until=query.until,
        product_events=path is not None,
    )


def gaps(queries: Queries, _path: models.Nothing, query: models.GapsQuery) -> Json:
    """What devices lost before it was recorded, and what was refused."""
    found = queries.gaps(query.after, query.limit)
    return {"gaps": found, "next": query.after + len(found) if len(found) == query.limit else None}


def epcis(queries: Queries, _path: models.Nothing, query: models.EpcisQuery) -> Json:
    """Stock events of a store as an EPCIS 2.0 document."""
    naming = adapter.Naming(gln=query.gln, base_uri=query.base_uri, offset=query.offset)
    wanted = EventFilter(store=query.store, since=query.since, until=query.until, product_events=True)
    rows = list(itertools.islice(queries.all_events(wanted, 0), EPCIS_MOST + 1))
    if len(rows) > EPCIS_MOST:
        raise UsageError(
            f"Expected: a span of at most {EPCIS_MOST} stock events. Received: more. Shorten since and until."
        )
    found = (_object(row["event"], naming) for row in rows)
    return adapter.document([item for item in found if item is not None], created=datetime.now(UTC))


def _object(body: Json, naming: adapter.Naming) -> adapter.JsonObject | None:
    """Return an event in EPCIS; None for one that has no name there."""
    try:
        event = contract.Event.model_validate(body)
    except ValueError:
        return None  # of a version that is not known here
    try:
        UUID(event.id)
    except ValueError:
        return None  # whatever wrote that, no device of ours
    try:
        found = adapter.object_event(event, naming)
    except DataError as exc:
        raise UsageError(f"{exc} {exc.hint}") from exc
    return None if isinstance(found, adapter.Skipped) else found
