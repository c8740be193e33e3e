"""Histories of a store's products and slots, read from its events and its latest snapshots."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from dashboard.availability import TYPES, Reading, read
from dashboard.pages import timeline
from dashboard.pages.timeline import Change, Opening, Span
from dashboard.queries import Queries
from edge_agent.contracts import events

About = Literal["product", "slot"]


@dataclass(frozen=True, slots=True)
class History:
    """What one product on one shelf, or one slot, was like over a while."""

    device: str
    shelf: str
    name: str
    title: str
    gtin: str
    spans: list[Span]
    opening: Opening

    @property
    def figures(self) -> timeline.Figures:
        """Its sums."""
        return timeline.figures(self.spans, self.opening)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What histories are wanted.

    Args:
        store: Of which store.
        about: Products or slots.
        name: Of one label or slot; None is all.
        device: Of one device; None is all.
        since: From when on.
        until: Until when.
        opening: Which time counts.
    """

    store: str
    about: About
    since: datetime
    until: datetime
    name: str | None = None
    device: str | None = None
    opening: Opening = timeline.ALWAYS


def histories(queries: Queries, wanted: Wanted) -> list[History]:
    """Return the history of each product on each shelf, or of each slot, by shelf and name."""
    found: list[History] = []
    for device, text, _ in queries.latest(wanted.store):
        if text is not None and wanted.device in {None, device}:
            found += _of_device(queries, wanted, device, json.loads(text))
    return sorted(found, key=lambda one: (_as_read(one.shelf), one.device, _as_read(one.name)))


def _as_read(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people do: 2 before 12."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.findall(r"\d{1,18}|\D+", name)]


def _of_device(queries: Queries, wanted: Wanted, device: str, state: dict[str, Any]) -> Iterator[History]:
    items = {one["name"]: one for one in _items(state, wanted.about)}
    if wanted.name is not None:
        items = {name: one for name, one in items.items() if name == wanted.name}
    if not items and wanted.name is None:
        return
    bodies = list(queries.told(events.source(wanted.store, device), TYPES, wanted.since, wanted.until))
    reading, shelf = read(bodies, state, wanted.since, wanted.until), str(state.get("shelf", ""))
    if not items:
        yield from _gone(bodies, reading, wanted, device)
    for name, one in items.items():
        spans = reading.spans(events.subject(shelf, wanted.about, name), wanted.since, wanted.until)
        yield History(device, shelf, name, one["title"], one["gtin"], spans, wanted.opening)


def _gone(bodies: list[dict[str, Any]], reading: Reading, wanted: Wanted, device: str) -> Iterator[History]:
    """Yield what was told of something that the snapshot no longer has."""
    for about, told in reading.changes.items():
        _, shelf, *place = about.split("/") if about.count("/") > 1 else ("", "")
        if place != [wanted.about, wanted.name]:
            continue
        # On no planogram any more: what came after its last event nobody knows.
        alone = Reading({about: [*told, Change(told[-1].at, timeline.UNKNOWN)]}, reading.blind)
        named = [body["data"].get("product") for body in bodies if body.get("subject") == about]
        product = named[-1] if named and isinstance(named[-1], dict) and wanted.about == "product" else {}
        title, gtin = str(product.get("name") or wanted.name), str(product.get("gtin") or "")
        spans = alone.spans(about, wanted.since, wanted.until)
        yield History(device, shelf, str(wanted.name), title, gtin, spans, wanted.opening)


def _items(state: dict[str, Any], about: About) -> Iterator[dict[str, Any]]:
    if about == "product":
        for one in state.get("products", []):
            yield {**one, "name": one["label"], "title": one["name"], "gtin": one.get("gtin") or ""}
    else:
        for name, one in state.get("slots", {}).items():
            yield {**one, "name": name, "title": name, "gtin": ""}
