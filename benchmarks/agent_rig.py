"""A rendered shelf at 1920x1080, and agents that look at it: what `agent_speed.py` measures."""

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.demo.expected import expect
from edge_agent.agent import Agent, Model
from edge_agent.camera.base import Frame
from edge_agent.camera.shelf import photos, truth
from edge_agent.camera.shelf.film import Film
from edge_agent.contracts import config, messages
from edge_agent.contracts.events import Event
from edge_agent.contracts.planogram import Planogram, Product, Slot
from edge_agent.contracts.preprocess import Image, fit
from edge_agent.contracts.scoring import Floats
from edge_agent.outbox import Limits, Outbox

SIZE = (1920, 1080)
FPS = 2.0
REFRESH_S = 60.0
NEVER_FRESH = 1e-9
"""As `refresh_s`: every answer is too old at the next frame: every slot that stands still is classified."""
STATIC_FRAMES = 20
_SLOT = (150, 230)
_LATE_S = 4.0
"""Of what happens so shortly before the end, the event may be missing."""
_START = datetime(2026, 11, 23, 8, tzinfo=UTC)

Pictures = NDArray[np.uint8]


class Lookalike:
    """Tells a product by the most similar of rendered photos; knows nothing of confidence.

    Args:
        seed: Of the photos.
        count: Photos of each class.
    """

    def __init__(self, seed: int = 1, count: int = 30) -> None:
        self.labels, self.height, self.width = list(photos.LABELS), 96, 96
        shots = [(label, fit(picture, 96, 96)) for label, picture in photos.shots(seed, count)]
        self._known = np.stack([_essence(picture) for _, picture in shots])
        self._classes = np.array([self.labels.index(label) for label, _ in shots])

    def probabilities(self, images: Pictures) -> Floats:
        """Return 1 for the class of the most similar photo, else 0: float32, (n, classes)."""
        likeness = np.stack([_essence(picture) for picture in images]) @ self._known.T
        return np.eye(len(self.labels), dtype=np.float32)[self._classes[likeness.argmax(axis=1)]]


def _essence(picture: Pictures) -> Floats:
    small = np.asarray(cv2.resize(picture, (24, 24), interpolation=cv2.INTER_AREA), np.float32).ravel()
    centred = small - small.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1.0), np.float32)


class Counted:
    """A model that counts what it is asked."""

    def __init__(self, model: Model) -> None:
        self._model, self.asked = model, 0
        self.labels, self.height, self.width = model.labels, model.height, model.width

    def probabilities(self, images: Pictures) -> Floats:
        """See `Model.probabilities`."""
        self.asked += len(images)
        return self._model.probabilities(images)


class Watch:
    """An agent, and the clock of its camera.

    Args:
        shelf: The planogram.
        reference: Its picture.
        model: Tells labels from crops.
        refresh_s: When an answer is too old.
        fps: Frames for each second of the camera.
    """

    def __init__(
        self, shelf: Planogram, reference: Image, model: Model, *, refresh_s: float, fps: float = FPS
    ) -> None:
        self.model = Counted(model)
        self._next, self._fps = 0, fps
        self._agent = Agent(
            store="1",
            shelf=shelf,
            reference=reference,
            model=self.model,
            identity=messages.ModelState(name="speed", version="1", sha256="0" * 64),
            policy=config.Rules(confirm_s=1.2, clear_s=1, refresh_s=refresh_s),
            unknown_below=0.0,
            journal=Outbox(":memory:", source="/stores/1/devices/speed", limits=Limits(2**40, 365_000)),
            wall=lambda at: _START + timedelta(seconds=at),
        )

    def see(self, image: Image) -> list[Event]:
        """Show it the next frame."""
        self._next += 1
        return self._agent.see(Frame(image, (self._next - 1) / self._fps))


@dataclass(frozen=True, slots=True)
class Scene:
    """What is looked at: frames of a shelf that stands still, and its reference picture."""

    frames: list[Image]
    reference: Image
    folder: Path

    @classmethod
    def rendered(cls, seed: int, folder: Path) -> "Scene":
        """Render it; the planogram's picture goes into a folder."""
        film = Film(seed)
        # Before its script begins nothing happens but light, shake and noise.
        moments = [-1 - number / FPS for number in reversed(range(STATIC_FRAMES))]
        scene = cls([_large(film.frame(at)) for at in moments], _large(film.reference()), folder)
        cv2.imwrite(str(folder / "reference.png"), scene.reference)
        return scene

    def shelf(self, count: int, labels: list[str], *, skew: int = 0) -> Planogram:
        """Return a planogram of slots in a grid.

        Args:
            count: Of slots.
            labels: Of products that belong there, by turns.
            skew: How far a quad is from an upright rectangle, px.
        """
        names = sorted({label for _, label in zip(range(count), itertools.cycle(labels), strict=False)})
        grid = [
            Slot(id=f"S{number}", quad=quad, product=label)
            for number, (quad, label) in enumerate(
                zip(_grid(count, skew), itertools.cycle(labels), strict=False)
            )
        ]
        products = [Product(label=name, name=name) for name in names]
        return Planogram(shelf="1", reference=self.folder / "reference.png", products=products, slots=grid)


def _large(picture: Image) -> Image:
    return np.asarray(cv2.resize(picture, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)


def _grid(count: int, skew: int) -> Iterator[Any]:
    columns = max(round((count * SIZE[0] / SIZE[1] * 230 / 150) ** 0.5 * 0.93), 1)
    rows = -(-count // columns)
    cell = SIZE[0] / columns, SIZE[1] / rows
    wide, tall = min(_SLOT[0], int(cell[0]) - 8), min(_SLOT[1], int(cell[1]) - 8)
    for number in range(count):
        x, y = round(number % columns * cell[0]) + 4, round(number // columns * cell[1]) + 4
        yield ((x, y + skew), (x + wide, y), (x + wide, y + tall - skew), (x, y + tall))


def told(seed: int, fps: float, *, until_s: float | None = None) -> dict[str, Any]:
    """Let an agent with the gate, and one without it, watch the same rendered script at 1920x1080.

    Args:
        seed: Of the script.
        fps: Frames for each second.
        until_s: Seconds of the script; None: all of it.

    Returns:
        How many events must be told, how many are missing and how many too much, for both; whether both
        tell the same in the same order; and how many crops each model was shown.
    """
    film, model = Film(seed), Lookalike()
    with tempfile.TemporaryDirectory() as name:
        reference = Path(name) / "reference.png"
        cv2.imwrite(str(reference), _large(film.reference()))
        shelf = _enlarged(truth.planogram(reference))
        watches = {
            way: Watch(shelf, _large(film.reference()), model, refresh_s=refresh_s, fps=fps)
            for way, refresh_s in (("gated", REFRESH_S), ("every", NEVER_FRESH))
        }
    found: dict[str, list[Event]] = {way: [] for way in watches}
    end = film.script.duration_s if until_s is None else until_s
    for number in range(int(end * fps)):
        image = _large(film.frame(number / fps))
        for way, watch in watches.items():
            found[way] += watch.see(image)
    items = expect(truth.as_json(film.script), shelf)
    due = {moment: Counter(item.key for item in items if item.at < moment) for moment in (end - _LATE_S, end)}
    counts = {way: Counter(map(_key, events)) for way, events in found.items()}
    return {
        "expected": due[end - _LATE_S].total(),
        "missed": {way: (due[end - _LATE_S] - seen).total() for way, seen in counts.items()},
        "extra": {way: (seen - due[end]).total() for way, seen in counts.items()},
        "same_events": _series(found["gated"]) == _series(found["every"]),
        "asked": {way: watch.model.asked for way, watch in watches.items()},
    }


def _series(events: list[Event]) -> list[tuple[str, ...]]:
    return [_key(event) for event in events]


def _key(event: Event) -> tuple[str, ...]:
    """Return what an event is about, as `Expected.key` does."""
    data = event.data.model_dump(mode="json")
    about = {"slot": "slot", "camera": "fault"}.get(event.kind.about)
    name = data[about] if about else data["product"]["label"]
    return event.kind.value, name, data["state"] if event.kind.about == "slot" else ""


def _enlarged(shelf: Planogram) -> Planogram:
    """Return a planogram of 1280x720 px for frames of 1920x1080 px."""
    return shelf.model_copy(
        update={
            "slots": [
                slot.model_copy(update={"quad": tuple((x * 3 // 2, y * 3 // 2) for x, y in slot.quad)})
                for slot in shelf.slots
            ]
        }
    )
