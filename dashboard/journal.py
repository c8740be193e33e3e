"""Histories of a store's products and slots: from days that are kept, the rest from events and snapshots."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from dashboard.pages import timeline
from dashboard.pages.timeline import Opening, Span
from dashboard.past import Turn
from dashboard.queries import Queries
from edge_agent.contracts import events
from edge_agent.contracts.events import Kind, is_subject

_UTC = ZoneInfo("UTC")
_KINDS = {"product": Kind.RESTOCKED, "slot": Kind.SLOT_CHANGED}

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
    there: bool
    """Whether it is on the shelf's planogram now."""

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
    kind = _KINDS[wanted.about]
    if wanted.name is not None and not is_subject(events.subject("0", wanted.about, wanted.name), kind):
        return []
    first = (wanted.since - timedelta(days=1)).date()
    kept = queries.past.kept(wanted.store, wanted.about, wanted.name, first)
    turns = queries.past.turns(wanted.store)
    found: list[History] = []
    for device, text, _ in queries.latest(wanted.store):
        if wanted.device in {None, device}:
            source = events.source(wanted.store, device)
            found += _of_device(queries, wanted, device, text, kept.get(source, {}), turns.get(source))
    return sorted(found, key=lambda one: (_as_read(one.shelf), one.device, _as_read(one.name)))


def _as_read(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people do: 2 before 12."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.findall(r"\d{1,18}|\D+", name)]


def _of_device(
    queries: Queries,
    wanted: Wanted,
    device: str,
    text: str | None,
    kept: Mapping[str, list[Span]],
    turn: Turn | None,
) -> Iterator[History]:
    """Yield the histories of a device: from its kept days, and from events what is not kept yet."""
    source, state = events.source(wanted.store, device), json.loads(text) if text else {}
    after, zone = (turn.day, turn.zone) if turn else (date.min, _UTC)
    today = wanted.until.astimezone(zone).date()
    turn = Turn(queries.past.first_day(source, after, today, zone), zone)
    reading = queries.past.reading(source, text, turn, wanted.until)
    begin, items = max(turn.moment, wanted.since), _items(state, wanted.about)
    for subject in sorted({*kept, *reading.changes, *items}):
        if not is_subject(subject, _KINDS[wanted.about]) and subject not in items:
            continue
        _, shelf, _, name = subject.split("/", 3)
        if wanted.name in {None, name}:
            past = timeline.joined(kept.get(subject, ()), wanted.since, begin)
            spans = timeline.joined(
                (*past, *reading.spans(subject, begin, wanted.until)), wanted.since, wanted.until
            )
            title, gtin = items.get(subject) or reading.products.get(subject) or (name, "")
            yield History(device, shelf, name, title or name, gtin, spans, wanted.opening, subject in items)


def _items(state: dict[str, Any], about: About) -> dict[str, tuple[str, str]]:
    """Return title and GTIN of what a snapshot has, by subject."""
    shelf = str(state.get("shelf", ""))
    if about == "slot":
        return {events.subject(shelf, about, name): (name, "") for name in state.get("slots", {})}
    return {
        events.subject(shelf, about, one["label"]): (one["name"], one.get("gtin") or "")
        for one in state.get("products", [])
    }
