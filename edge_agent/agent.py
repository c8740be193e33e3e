"""The agent itself: a frame comes in, events and the new memory go into the journal together.

It knows no camera, clock, broker or disk: they come in as arguments.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent import rules, slots
from edge_agent.align import Alignment, Matrix
from edge_agent.camera.base import Frame
from edge_agent.contracts import config, events, messages, planogram
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.events import CameraFault, Event, EventData, Kind, SlotCondition
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.scoring import Floats
from edge_agent.memory import Draft, Memory, Product, Slot
from edge_agent.sight import Seen, Sight


class Journal(Protocol):
    """Where events and memory go in one transaction; the outbox is one."""

    def memory(self) -> Memory:
        """Return what was remembered last."""

    def record(self, drafts: Iterable[Draft], memory: Memory, now: datetime, *, lost: int = 0) -> list[Event]:
        """Write events and the memory that they came from, all or nothing, and count those that are lost."""


class Model(Protocol):
    """What tells labels from crops; the classifier is one."""

    labels: list[str]
    height: int
    width: int

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """Return calibrated probabilities, (n, classes), of uint8 RGB crops."""


News = dict[int, rules.Reading | None]
"""What a frame says of slots, by their place in the planogram: None: it moves; absent: it is as it was."""

_MOST_UNWRITTEN = 1000
"""Events that are kept in memory while the journal takes none."""


class Examples(Protocol):
    """Looks for crops that are worth a person's label; `hard.HardExamples` is one."""

    def see(self, frame: Frame, to_frame: Matrix, news: News, chances: Mapping[int, Floats]) -> None:
        """Look at a frame, its news, and the probabilities behind each reading; raises nothing."""


class Agent:
    """One camera before one shelf.

    Where the journal cannot take what is new (a full disk), `see`, `miss` and `started` raise
    DeviceError and forget nothing: it is written with the next frame that the journal takes.

    Args:
        store: Of the events.
        shelf: The planogram.
        reference: Its picture: uint8, (height, width, 3), BGR.
        model: Tells labels from crops.
        identity: Name, version and hash of the model, as events and snapshot carry them.
        policy: When a change counts.
        unknown_below: Confidence under which an answer is "unknown".
        journal: Keeps events and memory.
        wall: Turns a moment of the camera's clock into time.
        examples: Keeps hard examples; None: nothing is kept.
    """

    def __init__(  # noqa: PLR0913 - the collaborators that make an agent
        self,
        *,
        store: str,
        shelf: Planogram,
        reference: Image,
        model: Model,
        identity: messages.ModelState,
        policy: config.Rules,
        unknown_below: float,
        journal: Journal,
        wall: Callable[[float], datetime],
        examples: Examples | None = None,
    ) -> None:
        self._store, self._shelf, self._model, self._identity = store, shelf, model, identity
        self._policy, self._unknown_below = policy, unknown_below
        self._journal, self._wall, self._examples = journal, wall, examples
        self._planogram_sha256 = planogram.sha256(shelf)
        self._size = reference.shape[1], reference.shape[0]
        self._sight = Sight(reference)
        labels = [product.label for product in shelf.products]
        facings = {label: tuple(sorted(slot.id for slot in shelf.facings(label))) for label in labels}
        self._memory = self._written = journal.memory().under(self._planogram_sha256, shelf.shelf, facings)
        self._unwritten: list[Draft] = []
        self._lost = 0
        self._tracks = {slot.id: rules.Track() for slot in shelf.slots}
        self._faults = {fault: rules.FaultTrack(fault in self._memory.faults) for fault in CameraFault}
        self._corners = slots.corners(shelf)
        self._windows, self._gate = slots.Windows(self._corners), slots.Gate()

    def see(self, frame: Frame) -> list[Event]:
        """Judge one frame; what it changed is in the journal when this returns."""
        seen = self._sight.see(frame)
        memory, drafts = self._with_faults(self._memory, seen.faults, seen.can_tell, frame.at)
        placed = seen.placed
        if seen.faults or memory.faults or placed is None or self._lost_in_the_dark(seen):
            self._gate = slots.Gate()
            news: News = dict.fromkeys(range(len(self._corners)))
        else:
            news = self._read(frame, seen, placed)
        memory, more = self._with_news(memory, news, frame.at)
        return self._keep(memory, [*drafts, *more], frame.at)

    def _lost_in_the_dark(self, seen: Seen) -> bool:
        """Return whether a dim picture may show anything: noise hides that a lens is covered."""
        return not (self._sight.plain or seen.found) and slots.dim(seen.light, self._sight.light)

    def miss(self, at: float) -> list[Event]:
        """Note that the camera gave no frame at a moment when it should have."""
        memory, drafts = self._with_faults(self._memory, {CameraFault.LOST}, {CameraFault.LOST}, at)
        self._gate = slots.Gate()
        self._tracks = {slot: rules.step(track, None, 0)[0] for slot, track in self._tracks.items()}
        return self._keep(memory, drafts, at)

    def started(self, agent: str, at: float) -> list[Event]:
        """Note that the agent has started."""
        return self.tell(Kind.DEVICE_STARTED, agent, None, at)

    def tell(self, kind: Kind, agent: str, reason: str | None, at: float) -> list[Event]:
        """Note something of the device itself."""
        data = events.DeviceData(store=self._store, agent=agent, model=self._model_ref, reason=reason)
        draft = Draft(kind=kind, subject="device", time=self._wall(at), data=data)
        return self._keep(self._memory, [draft], at)

    @property
    def memory(self) -> Memory:
        """What is known now; another object whenever it has changed."""
        return self._memory

    @property
    def settled(self) -> bool:
        """Whether more frames of the same would tell nothing: each slot's answer counts, and each fault's."""
        tracks, faults = self._tracks.values(), self._faults.values()
        # Behind a fault no slot can settle.
        hidden = any(track.active for track in faults)
        return all(track.other_since is None for track in faults) and (
            hidden or all(rules.settled(track, self._policy.confirm_s) for track in tracks)
        )

    @property
    def _model_ref(self) -> events.ModelRef:
        return events.ModelRef(name=self._identity.name, version=self._identity.version)

    def _keep(self, memory: Memory, drafts: list[Draft], at: float) -> list[Event]:
        """Write down what is new; what the journal does not take now comes first the next time."""
        self._memory = memory
        self._unwritten += drafts
        if not self._unwritten and memory == self._written:
            return []
        try:
            recorded = self._journal.record(self._unwritten, memory, self._wall(at), lost=self._lost)
        except DeviceError:
            surplus = max(len(self._unwritten) - _MOST_UNWRITTEN, 0)
            del self._unwritten[:surplus]
            self._lost += surplus
            raise
        self._written, self._unwritten, self._lost = memory, [], 0
        return recorded

    def _with_faults(
        self, memory: Memory, found: AbstractSet[CameraFault], can_tell: AbstractSet[CameraFault], at: float
    ) -> tuple[Memory, list[Draft]]:
        drafts, held = [], dict(memory.faults)
        for fault, track in self._faults.items():
            self._faults[fault], changed = rules.fault_step(
                track,
                at,
                seen=fault in found if fault in can_tell else None,
                confirm_s=self._policy.confirm_s,
                clear_s=self._policy.clear_s,
            )
            if changed is None:
                continue
            active, since = self._faults[fault].active, self._wall(changed)
            held.pop(fault, None)
            if active:
                held[fault] = since
            drafts.append(
                Draft(
                    kind=Kind.CAMERA_FAULT if active else Kind.CAMERA_FAULT_CLEARED,
                    subject=f"shelf/{self._shelf.shelf}/camera",
                    time=self._wall(at),
                    data=events.CameraData(
                        store=self._store, shelf=self._shelf.shelf, fault=fault, since=since
                    ),
                )
            )
        return memory.model_copy(update={"faults": held}) if drafts else memory, drafts

    def _read(self, frame: Frame, seen: Seen, placed: Alignment) -> News:
        """Look at each slot, and let the model see those about which it can say something new."""
        settled = [rules.settled(track, self._policy.confirm_s) for track in self._tracks.values()]
        self._gate, verdict = self._gate.step(
            self._windows.thumbs(seen.glance, placed.exact),
            frame.at,
            settled=np.array(settled),
            refresh_s=self._policy.refresh_s,
        )
        news: News = dict.fromkeys(np.flatnonzero(~verdict.still).tolist())
        rows, chances = np.flatnonzero(verdict.due), np.zeros((0, len(self._model.labels)), np.float32)
        if len(rows):
            size = self._model.height, self._model.width
            crops = slots.crops(frame.image, self._corners[rows], placed.to_frame, *size)
            chances = self._model.probabilities(slots.lit(crops, seen.light, self._sight.light))
            news |= zip(rows.tolist(), self._readings(chances, frame.at), strict=True)
        if self._examples is not None and news:
            said = dict(zip(rows.tolist(), chances, strict=True))
            self._examples.see(frame, placed.to_frame, news, said)
        return news

    def _readings(self, chances: Floats, at: float) -> Iterator[rules.Reading]:
        for row in chances:
            confidence = float(row.max())
            known = confidence >= self._unknown_below
            yield rules.Reading(self._model.labels[int(row.argmax())] if known else None, confidence, at)

    def _with_news(self, memory: Memory, news: News, at: float) -> tuple[Memory, list[Draft]]:
        drafts: list[Draft] = []
        for row, slot in enumerate(self._shelf.slots):
            track = self._tracks[slot.id]
            if row not in news:
                self._tracks[slot.id] = rules.again(track, at)
                continue
            self._tracks[slot.id], confirmed = rules.step(track, news[row], self._policy.confirm_s)
            if confirmed is not None:
                memory, more = self._with_fact(memory, slot, confirmed, at)
                drafts += more
        return memory, drafts

    def _with_fact(
        self, memory: Memory, slot: planogram.Slot, fact: rules.Confirmed, at: float
    ) -> tuple[Memory, list[Draft]]:
        """Take a confirmed answer into the memory, and make its events."""
        condition = rules.condition_of(fact.label, slot.product)
        before = memory.slots.get(slot.id)
        if before is not None and (before.condition, before.label) == (condition, fact.label):
            return memory, []
        now = Slot(
            condition=condition,
            label=fact.label,
            confidence=fact.confidence,
            since=self._wall(fact.since),
        )
        memory = memory.model_copy(update={"slots": {**memory.slots, slot.id: now}})
        kinds = rules.slot_events(
            (before.condition, before.label) if before else None, (condition, fact.label)
        )
        data = self._slot_data(slot, now, before.condition if before else None)
        drafts = [self._draft(kind, slot.id, data, at) for kind in kinds]
        return self._with_product(memory, slot, data, drafts, at)

    def _slot_data(self, slot: planogram.Slot, now: Slot, previous: SlotCondition | None) -> events.SlotData:
        product = self._shelf.product_of(slot)
        return events.SlotData(
            store=self._store,
            shelf=self._shelf.shelf,
            slot=slot.id,
            state=now.condition,
            previous=previous,
            label=now.label,
            since=now.since,
            product=events.ProductRef(label=product.label, name=product.name, gtin=product.gtin),
            confidence=round(now.confidence, 4),
            model=self._model_ref,
        )

    def _draft(self, kind: Kind, name: str, data: EventData, at: float) -> Draft:
        subject = events.subject(self._shelf.shelf, kind.about, name)
        return Draft(kind=kind, subject=subject, time=self._wall(at), data=data)

    def _with_product(
        self, memory: Memory, slot: planogram.Slot, data: events.SlotData, drafts: list[Draft], at: float
    ) -> tuple[Memory, list[Draft]]:
        """Count the facings of a product again after one of its slots changed."""
        product, facings = self._shelf.product_of(slot), self._shelf.facings(slot.product)
        seen = [memory.slots[facing.id] for facing in facings if facing.id in memory.slots]
        if len(seen) < len(facings):
            return memory, drafts
        filled = sum(facing.condition is SlotCondition.PRESENT for facing in seen)
        level, before = rules.level_of(filled, product.low_at), memory.products.get(product.label)
        kind = rules.product_event(before.level if before else None, level)
        since = before.since if before is not None and before.level is level else data.since
        now = Product(level=level, filled=filled, since=since)
        memory = memory.model_copy(update={"products": {**memory.products, product.label: now}})
        if kind is None:
            return memory, drafts
        told = events.ProductData(**dict(data), facings=len(facings), filled=filled)
        return memory, [*drafts, self._draft(kind, product.label, told, at)]

    def snapshot(self, device: str, stream: str, oldest: int, last: int, at: float) -> messages.State:
        """Return everything that is known now.

        Args:
            device: Of the snapshot.
            stream: Of the journal.
            oldest: First sequence that nobody has acknowledged.
            last: Latest sequence.
            at: Now, seconds of the camera.
        """
        return messages.State(
            device=device,
            store=self._store,
            shelf=self._shelf.shelf,
            time=self._wall(at),
            stream=stream,
            oldest=oldest,
            last=last,
            model=self._identity,
            planogram=messages.PlanogramState(
                sha256=self._planogram_sha256,
                width=self._size[0],
                height=self._size[1],
                slots={slot.id: slot.quad for slot in self._shelf.slots},
                products={slot.id: slot.product for slot in self._shelf.slots},
            ),
            camera=messages.CameraState(faults=tuple(sorted(self._memory.faults))),
            products=list(self._product_states()),
            slots={slot.id: self._slot_state(slot.id, at) for slot in self._shelf.slots},
        )

    def _product_states(self) -> Iterator[messages.ProductState]:
        for product in self._shelf.products:
            known = self._memory.products.get(product.label)
            if known is not None:
                yield messages.ProductState(
                    label=product.label,
                    gtin=product.gtin,
                    name=product.name,
                    facings=len(self._shelf.facings(product.label)),
                    filled=known.filled,
                    state=known.level,
                    since=known.since,
                )

    def _slot_state(self, slot: str, at: float) -> messages.SlotState:
        known = self._memory.slots.get(slot)
        if known is None:
            return messages.SlotState()
        unseen = rules.stale(self._tracks[slot].seen, at, self._policy.refresh_s)
        return messages.SlotState(
            state=known.condition,
            label=known.label,
            confidence=round(known.confidence, 4),
            since=known.since,
            stale=unseen or bool(self._memory.faults),
        )
