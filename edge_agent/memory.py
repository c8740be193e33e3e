"""What the agent remembers from one frame, and one start, to the next; stored with its events."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from edge_agent.contracts.events import CameraFault, EventData, Kind, SlotCondition, StockLevel
from edge_agent.contracts.times import Timestamp


class Remembered(BaseModel):
    """Base: frozen; written and read by this version of the agent alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Slot(Remembered):
    """The last thing that was confirmed of a slot; `label` is null where it is unknown."""

    condition: SlotCondition
    label: str | None
    confidence: Annotated[float, Field(ge=0, le=1)]
    since: Timestamp


class Product(Remembered):
    """How much was left of a product, and since when."""

    level: StockLevel
    filled: int
    since: Timestamp


class Memory(Remembered):
    """Everything; slots and products that were not judged yet are absent."""

    planogram: str = ""
    slots: dict[str, Slot] = {}
    products: dict[str, Product] = {}
    faults: dict[CameraFault, Timestamp] = {}


class Draft(Remembered):
    """An event before it enters the outbox, which gives it id, stream and sequence."""

    kind: Kind
    subject: str
    time: Timestamp
    data: EventData
