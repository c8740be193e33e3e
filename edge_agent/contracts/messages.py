"""Everything on MQTT but events: snapshot, health, acknowledgement, commands. Version 1."""

import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Base64Bytes, Field

from edge_agent.contracts.events import (
    MOST_FACINGS,
    SEQUENCE_DIGITS,
    AnyMessage,
    CameraFault,
    Count,
    Message,
    Share,
    SlotCondition,
    StockLevel,
    Text,
    Words,
    read,
)
from edge_agent.contracts.identifiers import DeviceId, Gtin, Label, ShelfId, SlotId, StoreId
from edge_agent.contracts.times import Timestamp

Measure = Annotated[float, Field(ge=-1e12, le=1e12)]
Side = Annotated[int, Field(ge=1, le=65_535)]
Coordinate = Annotated[float, Field(ge=-1_000_000, le=1_000_000)]
Point = tuple[Coordinate, Coordinate]
Quad = tuple[Point, Point, Point, Point]
StreamId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class ModelState(Message):
    """The model in use."""

    name: Text
    version: Text
    sha256: Text


class PlanogramState(Message):
    """The planogram in use: enough for a consumer to draw the shelf to scale.

    `products` is which product belongs into a slot; an older agent does not say.
    """

    sha256: Text
    width: Side
    height: Side
    slots: dict[SlotId, Quad]
    products: dict[SlotId, Label] | None = None


class CameraState(Message):
    """Faults that hold now."""

    faults: tuple[CameraFault, ...] = ()


class ProductState(Message):
    """One product over all its facings."""

    label: Label
    gtin: Gtin | None = None
    name: Text
    facings: Annotated[int, Field(ge=1, le=MOST_FACINGS)]
    filled: Annotated[int, Field(ge=0, le=MOST_FACINGS)]
    state: StockLevel
    since: Timestamp | None = None


class SlotState(Message):
    """One slot; everything is null until it has been judged for the first time."""

    state: SlotCondition | None = None
    label: Label | None = None
    confidence: Share | None = None
    since: Timestamp | None = None
    stale: bool = False


class State(Message):
    """The retained snapshot of a device.

    `oldest` is the first sequence that nobody has acknowledged (the next one to be written where
    all are), `last` the latest written: what lies below `oldest` and was never received is gone.
    """

    device: DeviceId
    store: StoreId
    shelf: ShelfId
    time: Timestamp
    stream: StreamId
    oldest: Annotated[int, Field(ge=1, lt=10**SEQUENCE_DIGITS)]
    last: Annotated[int, Field(ge=0, lt=10**SEQUENCE_DIGITS)]
    model: ModelState
    planogram: PlanogramState
    camera: CameraState
    products: list[ProductState]
    slots: dict[SlotId, SlotState]


class Availability(StrEnum):
    """What `health.status` says."""

    ONLINE = "online"
    STOPPED = "stopped"  # we said goodbye
    OFFLINE = "offline"  # the broker said it for us (last will)


class UpdatePhase(StrEnum):
    """How far a device is with what a rollout desires."""

    IDLE = "idle"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    STAGED = "staged"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


class Health(Message):
    """The retained health of a device, and its last will (which carries the status alone).

    What nobody can tell is null. `dropped_frames` came and were never looked at, `missed_frames` were
    due and did not come; `clock_offset_s` is how far the recorder's clock is ahead of the device's;
    `safe_mode` says why the agent makes no events. `release` is the one that runs, and `update` how far
    the device is with another, where it is updated over the air. `certificate_expires` is when the broker
    will not let it in any more, unless it is given another certificate before.
    """

    status: Availability
    time: Timestamp | None = None
    versions: dict[Text, Text] = Field(default_factory=dict)
    uptime_s: Measure | None = None
    camera_age_s: Measure | None = None
    inference_ms: Measure | None = None
    outbox_depth: Count | None = None
    outbox_age_s: Measure | None = None
    dropped_events: Count | None = None
    dropped_frames: Count | None = None
    missed_frames: Count | None = None
    clock_offset_s: Measure | None = None
    clock_synchronized: bool | None = None
    temperature_c: Measure | None = None
    throttled: bool | None = None
    safe_mode: Words | None = None
    release: Count | None = None
    update: UpdatePhase | None = None
    certificate_expires: Timestamp | None = None


class Ack(Message):
    """What the recorder of record has: every event of the stream up to and including `upto`.

    `time` is the recorder's clock when it said so.
    """

    stream: StreamId
    upto: Annotated[int, Field(ge=0, lt=10**SEQUENCE_DIGITS)]
    time: Timestamp | None = None


class Command(Message):
    """An operator's request; deduplicated by `request`."""

    request: Annotated[str, Field(min_length=1, max_length=64)]


class SetPlanogram(Command):
    """`cmd/set-planogram`: a `planogram.yaml` as text, and a picture as base64 where it is a new one."""

    planogram: str
    reference: Base64Bytes | None = None


class SetLogLevel(Command):
    """`cmd/set-log-level`."""

    level: Literal["debug", "info", "warning", "error"]


class TakeSnapshot(Command):
    """`cmd/snapshot`: the present picture, at most so many px wide."""

    width: Annotated[int, Field(ge=64, le=8192)] | None = None


class Reply(Message):
    """The answer to a command; what a command gives besides stands in fields of its own."""

    request: str
    ok: bool
    error: str | None = None


class Desired(Message):
    """What a rollout wants a device to run: retained; an empty payload takes it back.

    `attempt` is raised to offer a release again that a device has rolled back. `window` is the time of
    day, in the device's zone, in which an update may start; `deadline` is when the rollout counts the
    device as overdue.
    """

    rollout: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    attempt: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    release: Annotated[int, Field(ge=1, le=1_000_000_000)]
    not_before: Timestamp | None = None
    deadline: Timestamp | None = None
    window: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")] | None = None


class Reported(Message):
    """How far a device is: retained.

    `good` is the release that it falls back to, `previous` the good one before: it is on the disk still.
    """

    rollout: str | None = None
    attempt: int | None = None
    release: int | None = None
    phase: UpdatePhase
    good: int | None = None
    previous: int | None = None
    reason: str | None = None
    boot_id: str | None = None
    time: Timestamp | None = None


class CertificateRequest(Message):
    """`cert/request`: a PKCS #10 request in PEM, signed with the key that it asks for."""

    request: Annotated[str, Field(min_length=1, max_length=64)]
    csr: Annotated[str, Field(max_length=16_384)]


class CertificateResponse(Message):
    """`cert/response`: the certificate in PEM with what it was signed by, or why there is none."""

    request: Annotated[str, Field(min_length=1, max_length=64)]
    ok: bool
    certificate: str | None = None
    ca: str | None = None
    error: str | None = None


def encode(message: Message) -> bytes:
    """Return a message as UTF-8 JSON; null fields are left out."""
    value = message.model_dump(mode="json", exclude_none=True)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def decode(model: type[AnyMessage], payload: bytes) -> AnyMessage:
    """Read a message of one model.

    Raises:
        DataError: No JSON, or a field that the contract does not allow.
    """
    return read(model, payload, model.__name__)
