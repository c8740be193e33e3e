"""Questions and answers of the REST API, version 1: what OpenAPI says is made from these."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from edge_agent.contracts.events import Event, Kind, Message, Sequence
from edge_agent.contracts.identifiers import DeviceId, Label, ShelfId, SlotId, StoreId
from edge_agent.contracts.messages import Availability, Health, ProductState, SlotState, State

_FAR = 2**62


def _moment(value: object) -> datetime:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    # Any moment may be asked for; but a year at the edge has no UTC.
    if found is None or found.tzinfo is None or not 1 < found.year < 9999:  # noqa: PLR2004
        msg = "Expected: RFC 3339 with a zone, like 2026-11-23T09:14:05Z."
        raise ValueError(msg)
    return found


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-23T09:14:05Z"]}),
]
Limit = Annotated[int, Field(ge=1, le=1000, description="At most so many.")]
Cursor = Annotated[int, Field(ge=0, le=_FAR, description="What comes behind this: `next` of a page.")]


Heard = Annotated[str | None, Field(description="When it last said something, by the recorder's clock.")]


class Question(BaseModel):
    """Parameters of a request; one that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Question):
    """No parameters."""


class InStore(Question):
    """Path of a store."""

    store: StoreId


class AtDevice(InStore):
    """Path of a device."""

    device: DeviceId


class OfProduct(Question):
    """Path of a product."""

    product: Label


class DevicesQuery(Question):
    """Which devices."""

    store: StoreId | None = None
    status: Availability | None = None
    after: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9._/-]*$")] = ""
    limit: Limit = 100


class ProductsQuery(Question):
    """Which products."""

    level: Annotated[Literal["ok", "low", "out"] | None, Field(description="Only these.")] = None


class DaysQuery(Question):
    """Of what, and of how many days, today included."""

    about: Literal["product", "slot"] = "product"
    days: Annotated[int, Field(ge=1, le=400, description="Today and the days before.")] = 28


class GapsQuery(Question):
    """Which gaps."""

    after: Cursor = 0
    limit: Limit = 100


class Span(Question):
    """When events were recorded: from `since` on, before `until`."""

    since: Moment | None = None
    until: Moment | None = None


class HistoryQuery(Span):
    """Which events of a product; `csv` and `jsonl` go through to the end, `limit` is for `json`."""

    store: StoreId | None = None
    device: DeviceId | None = None
    after: Cursor = 0
    limit: Limit = 100
    format: Literal["json", "csv", "jsonl"] = "json"


class EventsQuery(HistoryQuery):
    """Which events."""

    kind: Kind | None = None
    product: Label | None = None


class EpcisQuery(Span):
    """Which events as EPCIS, and how places are named."""

    store: StoreId
    gln: Annotated[str | None, Field(pattern=r"^[0-9]{13}$")] = None
    base_uri: Annotated[str | None, Field(max_length=200, pattern=r"^https?://")] = None
    offset: Annotated[str, Field(pattern=r"^[+-][0-9]{2}:[0-9]{2}$")] = "+00:00"


class StoreSummary(BaseModel):
    """One store."""

    store: str
    devices: int
    online: int


class Stores(BaseModel):
    """Every store."""

    stores: list[StoreSummary]


class DeviceSummary(BaseModel):
    """One device in a list."""

    store: str
    device: str
    shelf: str | None
    status: Availability | None
    versions: dict[str, str]
    outbox_depth: int | None
    time: Annotated[str | None, Field(description="When it said so, by its own clock.")]
    heard: Heard


class Devices(BaseModel):
    """A page of devices."""

    devices: list[DeviceSummary]
    next: str | None


class Device(BaseModel):
    """One device: its latest snapshot and health, as it said them."""

    store: str
    device: str
    state: State | None
    health: Health | None
    heard: Heard


class PlacedSlot(SlotState):
    """One slot of a device."""

    shelf: ShelfId
    slot: SlotId


class Slots(BaseModel):
    """The slots of a device."""

    slots: list[PlacedSlot]


class PlacedProduct(ProductState):
    """A product on one shelf."""

    store: StoreId
    device: DeviceId
    shelf: ShelfId


class Products(BaseModel):
    """The products of a store, most urgent first."""

    products: list[PlacedProduct]


class StockDay(BaseModel):
    """One day by the store's clock; a time without stock counts in each day that it touches."""

    day: date
    seen_s: Annotated[int, Field(description="How long it was seen, whether the store was open or not.")]
    out_s: Annotated[int, Field(description="How long of that it was out of stock, or the slot empty.")]
    longest_s: Annotated[int, Field(description="The longest time without a break.")]
    gaps: Annotated[int, Field(description="How often it was out.")]


class StockDays(BaseModel):
    """The days of one product on one shelf, or of one slot; days without any sight are left out."""

    device: str
    shelf: str
    name: Annotated[str, Field(description="The product's label, or the slot.")]
    days: list[StockDay]


class StoreDays(BaseModel):
    """Day by day: what the recorder has summed up, and today as far as it has come."""

    zone: Annotated[str, Field(description="Where the store's clock stands: its days are meant.")]
    found: list[StockDays]


class Envelope(Message):
    """An event of a version that this recorder does not know: what every event has."""

    source: str
    id: str
    streamid: str
    sequence: Sequence
    type: str
    subject: str


class RecordedEvent(BaseModel):
    """One event with its place in the recorder."""

    cursor: int
    received: str
    event: Event | Envelope


class Events(BaseModel):
    """A page of events, oldest first; `next` is null where there is no more for now."""

    events: list[RecordedEvent]
    next: int | None


class Gap(BaseModel):
    """Sequences that are missing: lost by the device, or refused because they were no events."""

    source: str
    stream: str
    first: int
    last: int
    noted: str
    reason: Literal["lost", "refused"]


class Gaps(BaseModel):
    """A page of gaps."""

    gaps: list[Gap]
    next: int | None


class EpcisDocument(BaseModel):
    """An EPCIS 2.0 document (JSON-LD)."""

    model_config = ConfigDict(extra="allow")

    type: Literal["EPCISDocument"]


class Problem(BaseModel):
    """What was wrong (RFC 9457)."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
