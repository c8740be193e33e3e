"""Histories of a store's products and slots, read from its events and its latest snapshots."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from dashboard.pages import timeline
from dashboard.pages.timeline import Change, Opening, Span
from dashboard.queries import Queries
from edge_agent.contracts import events
from edge_agent.contracts.events import Kind
from edge_agent.contracts.times import moment

About = Literal["product", "slot"]

_LEVELS = {Kind.OUT_OF_STOCK.type: "out", Kind.LOW_STOCK.type: "low", Kind.RESTOCKED.type: "ok"}
_FAULTS = {Kind.CAMERA_FAULT.type: True, Kind.CAMERA_FAULT_CLEARED.type: False}
_SLOTS = frozenset({Kind.SLOT_CHANGED.type})


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
    if not items:
        return
    types = [*_FAULTS, *(_LEVELS if wanted.about == "product" else _SLOTS)]
    source = events.source(wanted.store, device)
    changes: dict[str, list[Change]] = {}
    faults: list[tuple[datetime, str, bool]] = []
    for body in queries.told(source, types, wanted.since, wanted.until):
        data, at = body.get("data"), _at(body)
        if not isinstance(data, dict) or at is None:
            continue
        if body["type"] in _FAULTS:
            faults.append((at, str(data.get("fault")), _FAULTS[body["type"]]))
        else:
            name, now = _told(body, data)
            before = _before(changes, name, data, wanted)
            changes.setdefault(name, []).extend([*before, Change(at, now)])
    faults += _forgotten(faults, changes, state)
    blind = timeline.blind_spans(faults, wanted.since, wanted.until)
    for name, one in items.items():
        known = changes.get(name) or _as_it_is(one)
        seen = timeline.spans(known, wanted.since, wanted.until)
        spans = timeline.without(seen, blind)
        yield History(
            device, str(state.get("shelf", "")), name, one["title"], one["gtin"], spans, wanted.opening
        )


def _forgotten(
    faults: list[tuple[datetime, str, bool]], changes: dict[str, list[Change]], state: dict[str, Any]
) -> list[tuple[datetime, str, bool]]:
    """Return the ends of faults that no event tells of: the snapshot says that they are over.

    They were over when the camera next saw something change, at the latest when the snapshot was made.
    """
    holding = (state.get("camera") or {}).get("faults", [])
    begun = {fault: at for at, fault, begins in faults if begins}
    ended = {fault: at for at, fault, begins in faults if not begins}
    made = moment(str(state.get("time"))) or max(begun.values(), default=None)
    found = []
    for fault, begin in begun.items():
        if fault not in holding and ended.get(fault, begin) <= begin and made is not None:
            later = [change.at for told in changes.values() for change in told if change.at > begin]
            found.append((min([*later, made]), fault, False))
    return sorted(found)


def _items(state: dict[str, Any], about: About) -> Iterator[dict[str, Any]]:
    if about == "product":
        for one in state.get("products", []):
            yield {**one, "name": one["label"], "title": one["name"], "gtin": one.get("gtin") or ""}
    else:
        for name, one in state.get("slots", {}).items():
            yield {**one, "name": name, "title": name, "gtin": ""}


def _told(body: dict[str, Any], data: dict[str, Any]) -> tuple[str, str]:
    """Return what an event is about, and what state it tells."""
    name = str(body["subject"]).rpartition("/")[2]
    return name, _LEVELS.get(body["type"]) or str(data.get("state"))


def _before(
    changes: dict[str, list[Change]], name: str, data: dict[str, Any], wanted: Wanted
) -> list[Change]:
    """Return what the first event of a slot tells about the time before it."""
    previous = data.get("previous")
    if name in changes or wanted.about == "product" or not isinstance(previous, str):
        return []
    return [Change(wanted.since, previous)]


def _at(body: dict[str, Any]) -> datetime | None:
    """Return when a state began; where that is not told, when it was decided."""
    data = body.get("data")
    told = data.get("since") if isinstance(data, dict) else None
    text = told or body.get("time")
    return moment(text) if isinstance(text, str) else None


def _as_it_is(one: dict[str, Any]) -> list[Change]:
    """Return what a snapshot says of something that no event tells of."""
    since, state = one.get("since"), one.get("state")
    began = moment(since) if isinstance(since, str) else None
    if began is None or not isinstance(state, str):
        return []
    return [Change(began.astimezone(UTC), state)]
