"""The agent with a shelf of coloured squares: memory over restarts, faults, masks, products, snapshots."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.agent import Agent
from edge_agent.camera.base import Frame
from edge_agent.contracts import config, messages
from edge_agent.contracts.events import CameraFault, Event, ProductData, SlotData
from edge_agent.contracts.planogram import Planogram, Product, Slot
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.scoring import Floats
from edge_agent.memory import Memory
from edge_agent.outbox import Limits, Outbox

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
COLOURS = {"empty": (90, 90, 90), "tea": (40, 160, 40), "jam": (160, 40, 160), "other": (30, 200, 220)}
SLOTS = {"A1": (60, "tea"), "A2": (160, "tea"), "B1": (260, "jam")}


class ColourModel:
    """Knows a crop by its colour, and nothing that is none of them."""

    labels = ["empty", "tea", "jam"]  # noqa: RUF012 - the protocol's form
    height = width = 32

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        colours = np.array([COLOURS[label][::-1] for label in self.labels], np.float64)
        means = images.reshape(len(images), 32 * 32, 3).mean(axis=1)
        near = np.exp(-np.linalg.norm(means[:, None] - colours[None], axis=2) / 12)
        return np.asarray((near + 1e-3) / (near + 1e-3).sum(axis=1, keepdims=True), np.float32)


def picture(seed: int = 0, **contents: str) -> Image:
    """Draw the shelf: wallpaper with structure, a square of colour in each slot, noise."""
    wallpaper = np.random.default_rng(7).integers(60, 200, (45, 80, 3), np.uint8)
    drawn = np.asarray(cv2.resize(wallpaper, (400, 225), interpolation=cv2.INTER_NEAREST), np.uint8)
    for slot, (left, product) in SLOTS.items():
        drawn[60:160, left : left + 80] = COLOURS[contents.get(slot, product)]
    noise = np.random.default_rng(seed).integers(0, 6, drawn.shape, np.uint8)
    return np.asarray(cv2.add(drawn, noise), np.uint8)


class Shelf:
    """An agent, its journal, and a clock that the test moves."""

    def __init__(self, folder: Path, journal: Path | str = ":memory:") -> None:
        cv2.imwrite(str(folder / "reference.png"), picture())
        self.planogram = Planogram(
            shelf="12",
            reference=folder / "reference.png",
            products=[Product(label="tea", name="Tea", low_at=1), Product(label="jam", name="Jam")],
            slots=[
                Slot(id=name, quad=((x, 60), (x + 80, 60), (x + 80, 160), (x, 160)), product=product)
                for name, (x, product) in SLOTS.items()
            ],
        )
        self.outbox = Outbox(journal, source="/stores/1/devices/cam", limits=Limits(10**9, 30))
        self.at = 0.0
        self.agent = self.fresh()

    def fresh(self) -> Agent:
        return Agent(
            store="1",
            shelf=self.planogram,
            reference=picture(),
            model=ColourModel(),
            identity=messages.ModelState(name="colours", version="1", sha256="ab" * 32),
            policy=config.Rules(confirm_s=1, clear_s=1, refresh_s=20),
            unknown_below=0.5,
            journal=self.outbox,
            wall=lambda at: START + timedelta(seconds=at),
        )

    def show(self, seconds: float = 3, image: Image | None = None, **contents: str) -> list[str]:
        """Show one scene for a while; return the events, in words."""
        found: list[Event] = []
        for _ in range(round(seconds * 5)):
            self.at = round(self.at + 0.2, 3)
            shown = picture(round(self.at * 10), **contents) if image is None else image
            found += self.agent.see(Frame(shown, self.at))
        return [words(event) for event in found]

    def snapshot(self) -> messages.State:
        return self.agent.snapshot("cam", self.outbox.stream, self.outbox.oldest, self.outbox.last, self.at)


def words(event: Event) -> str:
    data = event.data
    if isinstance(data, ProductData):
        return f"{event.kind.value} {data.product.label} {data.filled}/{data.facings}"
    return f"{event.kind.value} {data.slot if isinstance(data, SlotData) else getattr(data, 'fault', '')}"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_full_shelf_says_nothing_and_shows_everything(shelf: Shelf) -> None:
    assert shelf.show() == []
    state = shelf.snapshot()
    assert {slot: known.state for slot, known in state.slots.items()} == dict.fromkeys(SLOTS, "present")
    assert [(product.label, product.filled, product.state) for product in state.products] == [
        ("tea", 2, "ok"),
        ("jam", 1, "ok"),
    ]
    assert (state.oldest, state.last) == (1, 0)


def test_nothing_is_claimed_before_it_was_seen(shelf: Shelf) -> None:
    state = shelf.snapshot()
    assert state.slots["A1"].state is None
    assert state.products == []


def test_a_gap_at_first_sight_is_told(shelf: Shelf) -> None:
    assert shelf.show(A1="empty") == ["slot-changed A1", "low-stock tea 1/2"]


def test_a_story(shelf: Shelf) -> None:
    shelf.show()
    assert shelf.show(A1="empty") == ["slot-changed A1", "low-stock tea 1/2"]
    assert shelf.show(A1="empty", A2="empty") == ["slot-changed A2", "out-of-stock tea 0/2"]
    assert shelf.show(A1="jam", A2="empty") == ["slot-changed A1", "misplaced A1"]
    assert shelf.show(A1="tea", A2="empty") == [
        "slot-changed A1",
        "misplaced-cleared A1",
        "low-stock tea 1/2",
    ]
    assert shelf.show() == ["slot-changed A2", "restocked tea 2/2"]


def test_what_the_model_does_not_know_is_unknown_and_takes_longer(shelf: Shelf) -> None:
    shelf.show()
    assert shelf.show(1.6, B1="other") == []
    assert shelf.show(3, B1="other") == ["slot-changed B1", "unknown-product B1", "out-of-stock jam 0/1"]
    known = shelf.snapshot().slots["B1"]
    assert (known.state, known.label) == ("unknown", None)


def test_since_is_when_it_began_and_time_is_when_it_was_decided(shelf: Shelf) -> None:
    shelf.show(3)
    shelf.show(3, A1="empty")
    event = shelf.outbox.events()[0]
    assert isinstance(event.data, SlotData)
    assert event.data.since == START + timedelta(seconds=3.2)
    assert event.time == START + timedelta(seconds=4.2)


def test_a_restart_repeats_nothing_and_forgets_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, tmp_path / "outbox")
    shelf.show()
    shelf.show(A1="empty")
    before = shelf.snapshot()
    shelf.agent = shelf.fresh()
    assert shelf.snapshot().products == before.products
    assert shelf.show(A1="empty") == []
    assert shelf.show() == ["slot-changed A1", "restocked tea 2/2"]


def test_another_planogram_begins_anew(shelf: Shelf) -> None:
    shelf.show()
    shelf.planogram = shelf.planogram.model_copy(update={"shelf": "13"})
    shelf.agent = shelf.fresh()
    assert shelf.snapshot().slots["A1"].state is None


def test_while_a_fault_lasts_slots_keep_what_was_last_seen_and_are_stale(shelf: Shelf) -> None:
    shelf.show()
    covered = np.full((225, 400, 3), (30, 40, 60), np.uint8)
    noise = np.random.default_rng(1).integers(0, 6, covered.shape, np.uint8)
    assert shelf.show(3, image=np.asarray(cv2.add(covered, noise), np.uint8)) == ["camera-fault blocked"]
    state = shelf.snapshot()
    assert state.camera.faults == (CameraFault.BLOCKED,)
    assert all(known.stale and known.state == "present" for known in state.slots.values())
    assert shelf.show(4, A1="empty") == [
        "camera-fault-cleared blocked",
        "slot-changed A1",
        "low-stock tea 1/2",
    ]
    assert not shelf.snapshot().slots["A1"].stale


def test_a_camera_without_frames_is_lost_and_comes_back(shelf: Shelf) -> None:
    shelf.show()
    found: list[Event] = []
    for _ in range(10):
        shelf.at += 0.2
        found += shelf.agent.miss(shelf.at)
    assert [words(event) for event in found] == ["camera-fault lost"]
    assert shelf.show(3) == ["camera-fault-cleared lost"]


def test_a_slot_that_is_hidden_for_long_is_stale(shelf: Shelf) -> None:
    shelf.show()
    rng = np.random.default_rng(3)
    for _ in range(110):
        restless = picture()
        restless[60:160, 60:140] = rng.integers(0, 256, (100, 80, 3))
        assert shelf.show(0.2, image=restless) == []
    state = shelf.snapshot()
    assert state.slots["A1"].stale
    assert not state.slots["B1"].stale


def test_the_start_is_an_event_and_changes_nothing(shelf: Shelf) -> None:
    (event,) = shelf.agent.started("0.1.0", 0.0)
    assert event.kind.value == "device-started"
    assert shelf.outbox.memory().slots == Memory().slots


def test_a_fault_that_another_hides_is_not_over(shelf: Shelf) -> None:
    shelf.show()
    elsewhere = np.asarray(np.roll(picture(), 90, axis=1), np.uint8)
    assert shelf.show(3, image=elsewhere) == ["camera-fault moved"]
    night = np.zeros((225, 400, 3), np.uint8)
    assert shelf.show(3, image=night) == ["camera-fault dark"]
    assert shelf.show(3, image=elsewhere) == ["camera-fault-cleared dark"]
    assert shelf.show(3) == ["camera-fault-cleared moved"]


def test_a_fault_outlives_a_change_of_the_planogram(shelf: Shelf) -> None:
    shelf.show()
    shelf.show(3, image=np.zeros((225, 400, 3), np.uint8))
    shelf.planogram = shelf.planogram.model_copy(update={"shelf": "13"})
    shelf.agent = shelf.fresh()
    assert shelf.show(3) == ["camera-fault-cleared dark"]
