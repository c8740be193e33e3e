"""What is wrong on a shelf or with a device now, read from its latest snapshot and health. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from edge_agent.contracts.events import SlotCondition, StockLevel
from edge_agent.contracts.messages import Availability, UpdatePhase
from edge_agent.contracts.times import moment

Json = Mapping[str, Any]


class Kind(StrEnum):
    """What a rule can be about."""

    OUT_OF_STOCK = "out-of-stock"
    LOW_STOCK = "low-stock"
    MISPLACED = "misplaced"
    UNKNOWN_PRODUCT = "unknown-product"
    CAMERA_FAULT = "camera-fault"
    DEVICE_OFFLINE = "device-offline"
    DEVICE_SILENT = "device-silent"
    SAFE_MODE = "safe-mode"
    EVENTS_WAITING = "events-waiting"
    UPDATE_ROLLED_BACK = "update-rolled-back"


MEASURED = frozenset({Kind.DEVICE_SILENT, Kind.EVENTS_WAITING})
"""Every device has these, each since a moment; they are troubles only once they have lasted."""

_LONGEST = 200
_LONGEST_S = 10 * 365 * 86_400.0
_FIRST_YEAR, _LAST_YEAR = 1900, 2200
_LEVELS = {StockLevel.OUT: Kind.OUT_OF_STOCK, StockLevel.LOW: Kind.LOW_STOCK}
_STRAYS = {SlotCondition.MISPLACED: Kind.MISPLACED, SlotCondition.UNKNOWN: Kind.UNKNOWN_PRODUCT}
_GONE = {Availability.OFFLINE, Availability.STOPPED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """One thing that is wrong.

    Args:
        kind: What.
        store: Where.
        device: Which device says so.
        shelf: Which shelf it sees; empty where it never said.
        subject: What of it: `product/milk-1l`, `slot/A3`, `camera/blocked`; empty for the device itself.
        label: Of the product that it is about.
        name: Its name.
        gtin: Its number.
        detail: What else is to be told: facings that are left, the fault, the reason.
        since: When it began, as far as anybody knows.
        doubtful: It was so when the shelf was last seen, and nobody sees it now.
    """

    kind: Kind
    store: str
    device: str
    shelf: str = ""
    subject: str = ""
    label: str = ""
    name: str = ""
    gtin: str = ""
    detail: str = ""
    since: datetime | None = None
    doubtful: bool = False

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same one the next time."""
        return (self.kind.value, self.store, self.device, self.subject)


def causes_of(
    store: str, device: str, state: Json | None, health: Json | None, heard: datetime | None
) -> list[Cause]:
    """Return everything that is wrong with a device and its shelf.

    Args:
        store: Of the device.
        device: Its name.
        state: Its latest snapshot.
        health: What it, or the broker for it, last said about it.
        heard: When something of it last arrived; None where nothing did since this program started.
    """
    state, health = state or {}, health or {}
    place: Json = {"store": store, "device": device, "shelf": str(state.get("shelf", ""))}
    ahead = _span(health.get("clock_offset_s"))
    faults = [str(fault) for fault in (state.get("camera") or {}).get("faults", ())]
    blind = bool(faults) or health.get("status") in _GONE or bool(health.get("safe_mode"))
    found = [*_of_products(state, place, ahead, blind=blind), *_of_slots(state, place, ahead, blind=blind)]
    found += [
        Cause(kind=Kind.CAMERA_FAULT, subject=f"camera/{fault}", detail=fault, **place) for fault in faults
    ]
    return [*found, *_of_device(health, place, ahead, heard)]


def _of_products(state: Json, place: Json, ahead: timedelta, *, blind: bool) -> Iterator[Cause]:
    for one in state.get("products", ()):
        kind = _LEVELS.get(one["state"])
        if kind is not None:
            yield Cause(
                kind=kind,
                subject=f"product/{one['label']}",
                label=one["label"],
                name=one["name"][:_LONGEST],
                gtin=one.get("gtin") or "",
                detail=f"{one['filled']}/{one['facings']}",
                since=_since(one.get("since"), ahead),
                doubtful=blind,
                **place,
            )


def _of_slots(state: Json, place: Json, ahead: timedelta, *, blind: bool) -> Iterator[Cause]:
    for name, one in state.get("slots", {}).items():
        kind = _STRAYS.get(one.get("state"))
        if kind is not None:
            yield Cause(
                kind=kind,
                subject=f"slot/{name}",
                label=one.get("label") or "",
                detail=name,
                since=_since(one.get("since"), ahead),
                doubtful=blind or bool(one.get("stale")),
                **place,
            )


def _of_device(health: Json, place: Json, ahead: timedelta, heard: datetime | None) -> Iterator[Cause]:
    status = health.get("status")
    if status in _GONE:
        yield Cause(kind=Kind.DEVICE_OFFLINE, detail=str(status), **place)
        return
    if health.get("safe_mode"):
        yield Cause(kind=Kind.SAFE_MODE, detail=str(health["safe_mode"])[:_LONGEST], **place)
    if health.get("update") == UpdatePhase.ROLLED_BACK:
        yield Cause(kind=Kind.UPDATE_ROLLED_BACK, **place)
    told = _since(health.get("time"), ahead)
    if status != Availability.ONLINE or told is None:
        return
    # A board without a clock says 1970 until it has asked somebody.
    if heard is not None or health.get("clock_synchronized") is not False:
        yield Cause(kind=Kind.DEVICE_SILENT, since=max(told, heard or told), **place)
    waited = _span(health.get("outbox_age_s"))
    if waited:
        yield Cause(kind=Kind.EVENTS_WAITING, since=told - waited, **place)


def _since(text: object, ahead: timedelta) -> datetime | None:
    """Return a moment that a device told, by our clock; None for one that cannot be."""
    found = moment(text) if isinstance(text, str) else None
    if found is None or not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        return None
    return found.astimezone(UTC) + ahead


def _span(seconds: object) -> timedelta:
    """Return a span that a device told; none for one that cannot be."""
    try:
        value = float(seconds) if isinstance(seconds, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return timedelta()
    return timedelta(seconds=value) if abs(value) <= _LONGEST_S else timedelta()
