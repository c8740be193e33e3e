"""Stock events as an EPCIS 2.0 document, for systems that speak GS1's language. Pure.

Each becomes an ObjectEvent with action OBSERVE
- `out-of-stock`: bizStep cycle_counting, quantity 0. No disposition means "shelf empty": there is none.
- `low-stock`: cycle_counting, and the quantity that is left.
- `restocked`: stocking, disposition sellable_accessible, and the quantity that stands there now (not
  what was added).

A quantity counts filled facings, as a camera sees them from the front; what stands behind is not known.

Left out
- slot events: a slot is a facing, and the product events already count those.
- camera and device events: EPCIS tells what happens to goods, not to cameras.

Choices
- eventTime is `time`, when the agent decided: the count is true of that moment. `data.since` of two
  slots may cross, and readers of EPCIS order by eventTime.
- No recordTime: it is set by the repository that takes the event in.
- eventID is the CloudEvent's UUID, so an event that is exported twice is still one event.
- The shelf is readPoint and bizLocation. The store as bizLocation would say that none is left in all of it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import quote, urlsplit
from uuid import UUID

from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.events import Event, Kind, ProductData, ProductRef
from edge_agent.contracts.identifiers import gtin14
from edge_agent.contracts.times import rfc3339

CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
SCHEMA_VERSION = "2.0"

JsonObject = dict[str, object]

_DIGITAL_LINK = "https://id.gs1.org"
_GLN_DIGITS = 13
_EXTENSION_LENGTH = 20  # GS1 General Specifications, application identifier 254: X..20
_OFFSET = re.compile(r"[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00)")


class Skipped(StrEnum):
    """Why an event is not in the document."""

    KIND = "of kinds that are not exported"
    NO_GTIN = "of products without a GTIN"


@dataclass(frozen=True, slots=True)
class _Step:
    """What a kind of event is in the words of the Core Business Vocabulary 2.0."""

    biz_step: str
    disposition: str | None = None


_STEPS = {
    Kind.OUT_OF_STOCK: _Step("cycle_counting"),
    Kind.LOW_STOCK: _Step("cycle_counting"),
    Kind.RESTOCKED: _Step("stocking", "sellable_accessible"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """How the document names places, products and the local time.

    Args:
        gln: Global Location Number of the store; a shelf is then an extension of it.
        base_uri: Names shelves where there is no GLN, and products that have no GTIN.
        offset: The store's offset from UTC, `+01:00`.

    Raises:
        UsageError: Neither `gln` nor `base_uri`, or one of the three is not well formed.
    """

    gln: str | None = None
    base_uri: str | None = None
    offset: str = "+00:00"

    def __post_init__(self) -> None:
        """Check all that was given."""
        if self.gln is None and self.base_uri is None:
            raise UsageError(
                "Expected: a GLN or a base URI, to say where a shelf is. Received: neither.",
                hint="the GLN is the store's Global Location Number; a base URI is a web address of yours",
            )
        if self.gln is not None:
            _check_gln(self.gln)
        if self.base_uri is not None:
            _check_base_uri(self.base_uri)
        if not _OFFSET.fullmatch(self.offset):
            raise UsageError(
                f"Expected: an offset from -14:00 to +14:00, like +01:00. Received: {self.offset!r}."
            )

    def place(self, store: str, shelf: str) -> str:
        """Return the URI of a shelf.

        Raises:
            DataError: The shelf's name does not fit behind a GLN.
        """
        if self.gln is None:
            return self._own("loc", store, shelf)
        if len(shelf) > _EXTENSION_LENGTH:
            raise DataError(
                f"Expected: a shelf of at most {_EXTENSION_LENGTH} characters, as an extension of a GLN. "
                f"Received: {shelf!r}.",
                hint="leave out the GLN and give a base URI",
            )
        return f"{_DIGITAL_LINK}/414/{self.gln}/254/{shelf}"

    def product(self, product: ProductRef) -> str | None:
        """Return the URI of a product as a class; None where nothing given can name it."""
        if product.gtin is not None:
            return f"{_DIGITAL_LINK}/01/{product.gtin}"
        return self._own("class", product.label) if self.base_uri is not None else None

    def _own(self, *parts: str) -> str:
        base = (self.base_uri or "").rstrip("/")
        return "/".join([base, *(quote(part, safe="") for part in parts)])


def object_event(event: Event, naming: Naming) -> JsonObject | Skipped:
    """Return an event as an EPCIS ObjectEvent, or why there is none.

    Raises:
        DataError: The event's id is no UUID, or its shelf's name does not fit behind a GLN.
    """
    step, data = _STEPS.get(event.kind), event.data
    if step is None or not isinstance(data, ProductData):
        return Skipped.KIND
    product = naming.product(data.product)
    if product is None:
        return Skipped.NO_GTIN
    place = naming.place(data.store, data.shelf)
    quantity = 0 if event.kind is Kind.OUT_OF_STOCK else data.filled
    disposition = {} if step.disposition is None else {"disposition": step.disposition}
    return {
        "type": "ObjectEvent",
        "eventID": _event_id(event.id),
        "eventTime": rfc3339(event.time),
        "eventTimeZoneOffset": naming.offset,
        "action": "OBSERVE",
        "bizStep": step.biz_step,
        **disposition,
        "readPoint": {"id": place},
        "bizLocation": {"id": place},
        "quantityList": [{"epcClass": product, "quantity": quantity}],
    }


def document(objects: Iterable[JsonObject], *, created: datetime) -> JsonObject:
    """Return an EPCISDocument of events; one that comes twice is in it once.

    Args:
        objects: As `object_event` returned them, in their order.
        created: The document's creationDate.
    """
    events = {str(item["eventID"]): item for item in objects}
    return {
        "@context": [CONTEXT],
        "type": "EPCISDocument",
        "schemaVersion": SCHEMA_VERSION,
        "creationDate": rfc3339(created),
        "epcisBody": {"eventList": list(events.values())},
    }


def encode(value: JsonObject) -> bytes:
    """Return a document as UTF-8 JSON for people and machines, with a newline at its end."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _event_id(text: str) -> str:
    try:
        return UUID(text).urn
    except ValueError as exc:
        raise DataError(f"Expected: an event whose id is a UUID. Received: {text!r}.") from exc


def _check_gln(text: str) -> None:
    if len(text) != _GLN_DIGITS or not (text.isascii() and text.isdigit()):
        raise UsageError(f"Expected: a GLN of {_GLN_DIGITS} digits. Received: {text!r}.")
    try:
        gtin14(text)  # all GS1 keys share one rule for the check digit
    except ValueError as exc:
        raise UsageError(f"GLN: {exc}") from exc


def _check_base_uri(text: str) -> None:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        good = False
    if not good or quote(text, safe=":/%[]@~!$&'()*+,;=") != text:
        raise UsageError(
            f"Expected: a base URI like https://example.com/epcis, no query. Received: {text!r}."
        )
