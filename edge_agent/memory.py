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
    """Everything; slots and products that were not judged yet are absent.

    `planogram`, `shelf` and `facings` (the slots of each product) say what all of it belongs to.
    """

    planogram: str = ""
    shelf: str = ""
    facings: dict[str, tuple[str, ...]] = {}
    slots: dict[str, Slot] = {}
    products: dict[str, Product] = {}
    faults: dict[CameraFault, Timestamp] = {}

    def under(self, planogram: str, shelf: str, facings: dict[str, tuple[str, ...]]) -> "Memory":
        """Return what of it still means the same under a planogram.

        A product that has the same facings as before is the same, wherever they are now: what is seen of
        it is compared with what was known, and nothing is told twice. Of the others nothing is known, and
        nothing at all of another shelf.

        Args:
            planogram: Hash of the one that holds now.
            shelf: Its name.
            facings: Its slots by product.
        """
        if planogram == self.planogram:
            return self
        if shelf != self.shelf:
            return Memory(planogram=planogram, shelf=shelf, facings=facings, faults=self.faults)
        same = {label: slots for label, slots in facings.items() if self.facings.get(label) == slots}
        kept = {slot for slots in same.values() for slot in slots}
        return Memory(
            planogram=planogram,
            shelf=shelf,
            facings=facings,
            slots={slot: known for slot, known in self.slots.items() if slot in kept},
            products={label: known for label, known in self.products.items() if label in same},
            faults=self.faults,
        )


class Draft(Remembered):
    """An event before it enters the outbox, which gives it id, stream and sequence."""

    kind: Kind
    subject: str
    time: Timestamp
    data: EventData
