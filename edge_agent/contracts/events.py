"""Stock events on the wire: CloudEvents 1.0 in structured JSON, version 1.

Structured mode because a bridge that speaks MQTT 3.1.1 strips every MQTT 5 property, and a
binary-mode event is then meaningless. A reader keeps the fields that it does not know.
"""

import json
import re
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.identifiers import PLAIN, Gtin, Label, ShelfId, SlotId, StoreId
from edge_agent.contracts.times import Timestamp
from edge_agent.contracts.validation import explain, strict_json

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
EXPIRY_S = 7 * 24 * 3600
SEQUENCE_DIGITS = 16
MOST_FACINGS = 10_000


class Message(BaseModel):
    """Base of everything on the wire: frozen, and unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


AnyMessage = TypeVar("AnyMessage", bound=Message)


def read(model: type[AnyMessage], payload: bytes, what: str) -> AnyMessage:
    """Read a message of one model; `what` says what was expected.

    Raises:
        DataError: No JSON, or a field that the contract does not allow.
    """
    try:
        return model.model_validate(strict_json(payload))
    except (ValidationError, ValueError, RecursionError) as exc:
        raise DataError(f"Expected: {what}. Received: {payload[:80]!r}: {explain(exc)}") from exc


# What a message may hold: any database keeps it, any page shows it.
Text = Annotated[str, Field(max_length=255)]
Words = Annotated[str, Field(max_length=10_000)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]


class SlotCondition(StrEnum):
    """What is in a slot."""

    PRESENT = "present"
    EMPTY = "empty"
    MISPLACED = "misplaced"
    UNKNOWN = "unknown"


class StockLevel(StrEnum):
    """How much of a product is left on the shelf."""

    OK = "ok"
    LOW = "low"
    OUT = "out"


class Kind(StrEnum):
    """Every kind of event of version 1; the last part of its topic."""

    SLOT_CHANGED = "slot-changed"
    MISPLACED = "misplaced"
    MISPLACED_CLEARED = "misplaced-cleared"
    UNKNOWN_PRODUCT = "unknown-product"
    OUT_OF_STOCK = "out-of-stock"
    LOW_STOCK = "low-stock"
    RESTOCKED = "restocked"
    CAMERA_FAULT = "camera-fault"
    CAMERA_FAULT_CLEARED = "camera-fault-cleared"
    DEVICE_STARTED = "device-started"
    UPDATE_COMMITTED = "update-committed"
    UPDATE_ROLLED_BACK = "update-rolled-back"

    @property
    def about(self) -> Literal["slot", "product", "camera", "device"]:
        """What an event of this kind speaks of."""
        return _ABOUT[self]

    @property
    def type(self) -> str:
        """The CloudEvents type, e.g. `shelfkit.product.out-of-stock.v1`."""
        return f"shelfkit.{self.about}.{self.value}.v1"


_ABOUT: dict[Kind, Literal["slot", "product", "camera", "device"]] = {
    Kind.SLOT_CHANGED: "slot",
    Kind.MISPLACED: "slot",
    Kind.MISPLACED_CLEARED: "slot",
    Kind.UNKNOWN_PRODUCT: "slot",
    Kind.OUT_OF_STOCK: "product",
    Kind.LOW_STOCK: "product",
    Kind.RESTOCKED: "product",
    Kind.CAMERA_FAULT: "camera",
    Kind.CAMERA_FAULT_CLEARED: "camera",
    Kind.DEVICE_STARTED: "device",
    Kind.UPDATE_COMMITTED: "device",
    Kind.UPDATE_ROLLED_BACK: "device",
}


class CameraFault(StrEnum):
    """What can be wrong with a camera; faults may overlap, each clears for itself."""

    BLOCKED = "blocked"
    DARK = "dark"
    OVEREXPOSED = "overexposed"
    MOVED = "moved"
    FROZEN = "frozen"
    DEFOCUSED = "defocused"
    LOST = "lost"


class ProductRef(Message):
    """A product as an event names it."""

    label: Label
    name: Text
    gtin: Gtin | None = None


class ModelRef(Message):
    """The model that saw it."""

    name: Text
    version: Text


class SlotData(Message):
    """Data of a slot event.

    `since` is when the state began; the envelope's `time` is when it was decided. `label` is what
    the model saw, null where it is unknown; `product` is what belongs there.
    """

    store: StoreId
    shelf: ShelfId
    slot: SlotId
    state: SlotCondition
    previous: SlotCondition | None = None
    label: Label | None = None
    since: Timestamp
    product: ProductRef
    confidence: Share
    model: ModelRef


class ProductData(SlotData):
    """Data of a product event: the slot that tipped it, and the facings that are left."""

    facings: Annotated[int, Field(ge=1, le=MOST_FACINGS)]
    filled: Annotated[int, Field(ge=0, le=MOST_FACINGS)]


class CameraData(Message):
    """Data of a camera event."""

    store: StoreId
    shelf: ShelfId
    fault: CameraFault
    since: Timestamp


class DeviceData(Message):
    """Data of a device event."""

    store: StoreId
    agent: Text
    model: ModelRef | None = None
    reason: Words | None = None


EventData = ProductData | SlotData | CameraData | DeviceData

_DATA_MODELS: dict[str, type[Message]] = {
    "slot": SlotData,
    "product": ProductData,
    "camera": CameraData,
    "device": DeviceData,
}
_KINDS_BY_TYPE = {kind.type: kind for kind in Kind}


def _sequence(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


Sequence = Annotated[
    int,
    BeforeValidator(_sequence),
    Field(ge=1, lt=10**SEQUENCE_DIGITS),
    PlainSerializer(lambda number: f"{number:0{SEQUENCE_DIGITS}d}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^[0-9]{{{SEQUENCE_DIGITS}}}$"}),
]
"""A number in the code, zero-padded text on the wire, so that sorting as text is sorting by number."""


class Event(Message):
    """One CloudEvent. `sequence` orders events within `streamid`; never order by a clock.

    `id` is a UUIDv7, minted once when the event enters the outbox.
    """

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Field(min_length=1, max_length=64)]
    source: Annotated[str, Field(pattern=r"^/stores/[^/]+/devices/[^/]+$")]
    type: str
    subject: str
    time: Timestamp
    datacontenttype: Literal["application/json"] = "application/json"
    sequence: Sequence
    streamid: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    data: ProductData | SlotData | CameraData | DeviceData

    @model_validator(mode="before")
    @classmethod
    def _data_by_type(cls, value: Any) -> Any:  # noqa: ANN401 - whatever came over the wire
        if not isinstance(value, dict) or isinstance(value.get("data"), Message):
            return value
        told = value.get("type")
        kind = _KINDS_BY_TYPE.get(told) if isinstance(told, str) else None
        if kind is None:
            msg = f"Expected: a type of version 1. Received: {told!r:.200}."
            raise ValueError(msg)
        try:
            return value | {"data": _DATA_MODELS[kind.about].model_validate(value.get("data"))}
        except ValidationError as exc:
            msg = f"data: {explain(exc)}"
            raise ValueError(msg) from exc

    @property
    def kind(self) -> Kind:
        """The kind, from the type."""
        return _KINDS_BY_TYPE[self.type]


def source(store: str, device: str) -> str:
    """Return the CloudEvents source of a device."""
    return f"/stores/{store}/devices/{device}"


def subject(shelf: str, about: str, name: str) -> str:
    """Return the CloudEvents subject, e.g. `shelf/12/slot/A3`."""
    return f"shelf/{shelf}/{about}/{name}"


_ABOUT_WHAT = {
    "slot": re.compile(rf"shelf/{PLAIN}/slot/{PLAIN}"),
    "product": re.compile(rf"shelf/{PLAIN}/product/[^\x00-\x1f/]{{1,128}}"),
    "camera": re.compile(rf"shelf/{PLAIN}/camera"),
    "device": re.compile("device"),
}


def is_subject(text: str, kind: Kind) -> bool:
    """Whether a text has the form of a subject of a kind of event."""
    return _ABOUT_WHAT[kind.about].fullmatch(text) is not None


def encode(event: Event) -> bytes:
    """Return the event as it goes over the wire: UTF-8 JSON, sequence zero-padded to 16 digits."""
    value = event.model_dump(mode="json", exclude_none=True)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def decode(payload: bytes) -> Event:
    """Read an event from the wire.

    Raises:
        DataError: No JSON, not CloudEvents 1.0, a kind of another major version, or a bad field.
    """
    return read(Event, payload, "a shelfkit event of version 1")
