"""What people read of an alert, in their language and by the clock of their store. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard.pages.clock import at, span
from dashboard.pages.language import Catalogue

MOST_SHOWN = 100
"""So many things stand in one message; of more, how many there are."""

_LONGEST = 120


@dataclass(frozen=True, slots=True)
class Line:
    """One alert.

    Args:
        title: What is wrong.
        place: Where.
        when: Since when.
        link: Page of the store; empty where nobody said where the pages are.
        notice: What is told of it.
    """

    title: str
    place: str
    when: str
    link: str
    notice: str


def plain(text: str) -> str:
    """Return a text of a device fit for one line of a letter, its subject too."""
    return "".join(sign if sign.isprintable() else " " for sign in text)[:_LONGEST].strip()


def trouble(spoken: Catalogue, item: Mapping[str, Any]) -> str:
    """Return what is wrong: `Out of stock: Milk 1 l`."""
    about = item["name"] or item["label"]
    detail = item["detail"]
    if item["kind"] in {"misplaced", "unknown-product"}:
        about = " ".join(filter(None, (spoken.say("alerts.slot", slot=detail), about)))
        detail = ""
    elif item["kind"] == "camera-fault":
        detail, about = "", spoken.words.get(f"doubt.{detail}", detail)
    elif item["kind"] == "device-offline":
        detail, about = "", spoken.words.get(f"status.{detail}", detail)
    said = spoken.say(f"alerts.kind.{item['kind']}")
    more = f" ({detail})" if detail else ""
    return plain(f"{said}: {about}{more}" if about else f"{said}{more}")


def place(spoken: Catalogue, item: Mapping[str, Any]) -> str:
    """Return where that is: `Bahnhofstrasse, shelf 12, cam-12-01`."""
    store = item["title"] or spoken.say("store.name", store=item["store"])
    shelf = spoken.say("shelf.name", shelf=item["shelf"]) if item["shelf"] else ""
    return plain(", ".join(filter(None, (store, shelf, item["device"]))))


def line(spoken: Catalogue, item: Mapping[str, Any], page: str | None) -> Line:
    """Return everything that is told of one alert."""
    zone, notice = item["zone"], spoken.say(f"alerts.notice.{item['notice']}")
    when = spoken.say("alerts.since", time=at(item.get("since"), zone))
    if item.get("closed") and item.get("since"):
        begin, end = (datetime.fromisoformat(item[name]) for name in ("since", "closed"))
        lasted = span(spoken, (end - begin).total_seconds())
        when = spoken.say("alerts.lasted", time=at(item["since"], zone), end=at(end, zone), long=lasted)
    link = f"{page.rstrip('/')}/stores/{item['store']}" if page else ""
    return Line(trouble(spoken, item), place(spoken, item), when, link, notice)


def subject(spoken: Catalogue, items: Sequence[Mapping[str, Any]]) -> str:
    """Return the subject of a letter."""
    if len(items) == 1:
        first = items[0]
        notice = spoken.say(f"alerts.notice.{first['notice']}")
        return plain(f"{notice}: {trouble(spoken, first)} · {place(spoken, first)}")
    return spoken.say("alerts.many", n=len(items), stores=len({item["store"] for item in items}))
