"""Looks through the camera all the time, and keeps the latest picture with everything measured of it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from edge_agent import slots
from edge_agent.align import Matrix, moved
from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts.errors import KitError
from edge_agent.contracts.events import CameraFault
from edge_agent.contracts.pictures import jpeg
from edge_agent.contracts.preprocess import Image
from edge_agent.preview.meters import Detail, seen_part
from edge_agent.preview.scene import Scene
from edge_agent.preview.words import advice, place_words
from edge_agent.rules import condition_of
from edge_agent.sight import Seen, Sight

_LEAST_S = 0.1
_CLASSIFY_S = 0.5
_RETRY_S = 0.5
_KEPT = 4
_WIDEST = 2000
_QUALITY, _BEST_QUALITY = 80, 95


@dataclass(frozen=True)
class Shot:
    """A frame, and what is told of it.

    Attributes:
        number: From 1.
        image: uint8, (height, width, 3), BGR, private places black.
        told: For JSON.
    """

    number: int
    image: Image
    told: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def jpeg(self) -> bytes:
        """The picture for the page, halved where it is wider than any screen."""
        image = self.image
        while image.shape[1] > _WIDEST:
            image = np.asarray(cv2.pyrDown(image), np.uint8)
        return jpeg(image, _QUALITY)

    @cached_property
    def best_jpeg(self) -> bytes:
        """The picture at full size, fit for a reference picture."""
        return jpeg(self.image, _BEST_QUALITY)


class Watch:
    """Reads a camera in a thread of its own; a context manager.

    Args:
        camera: Open, live.
        scene: What it looks at.
        steady: Seconds; how old pictures and answers are.
    """

    def __init__(self, camera: Camera, scene: Scene, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._camera, self._scene, self._steady = camera, scene, steady
        self._gauge = _Gauge(scene)
        self._shots: deque[Shot] = deque(maxlen=_KEPT)
        self._taken: float | None = None
        self._error = ""
        self._fresh, self._ending = threading.Condition(), threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._work: Future[None] | None = None

    def shot(self, number: int = 0) -> Shot | None:
        """Return a shot that is still kept, else the latest; None before the first."""
        with self._fresh:
            kept = {shot.number: shot for shot in self._shots}
            return kept.get(number, self._shots[-1] if self._shots else None)

    def status(self, after: int, patience_s: float) -> dict[str, Any]:
        """Wait a moment for a shot later than another, and return what is told of the latest."""
        with self._fresh:
            self._fresh.wait_for(lambda: self._later(after), timeout=patience_s)
            latest = self._shots[-1] if self._shots else None
            age = None if self._taken is None else round(self._steady() - self._taken, 1)
            told = latest.told if latest else {}
            return {"number": 0, **told, "age_s": age, "error": self._error, "problems": self._scene.problems}

    def _later(self, after: int) -> bool:
        return self._ending.is_set() or bool(self._shots and self._shots[-1].number > after)

    def check(self) -> None:
        """Raise what has ended the work, if something has."""
        if self._work is not None and self._work.done():
            self._work.result()

    def _run(self) -> None:
        number = 0
        while not self._ending.is_set():
            due = self._steady() + _LEAST_S
            try:
                frame = self._camera.read()
            except KitError as exc:
                self._fail(str(exc))
                self._ending.wait(_RETRY_S)
                continue
            if frame is None:
                self._fail("The source has come to its end.")
                return
            number += 1
            shot = Shot(number, frame.image, self._gauge.told(frame) | {"number": number})
            with self._fresh:
                self._shots.append(shot)
                self._taken, self._error = self._steady(), ""
                self._fresh.notify_all()
            self._ending.wait(max(due - self._steady(), 0))

    def _fail(self, text: str) -> None:
        with self._fresh:
            self._error = text

    def __enter__(self) -> Self:
        self._work = self._pool.submit(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        with self._fresh:
            self._fresh.notify_all()
        self._pool.shutdown()


class _Gauge:
    """Measures frames, one after another, against what there is to measure them by."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._counts = scene, np.zeros((0, 0), np.uint8)
        self._sight = None if scene.reference is None else Sight(scene.reference)
        self._corners = np.zeros((0, 4, 2)) if scene.shelf is None else slots.corners(scene.shelf)
        self._reference_sharpness: float | None = None
        self._slot_sharpness: list[float] = []
        self._answers: list[dict[str, Any]] = []
        self._asked: float | None = None

    def told(self, frame: Frame) -> dict[str, Any]:
        """Return all that is told of a frame, for JSON."""
        image = frame.image
        if self._counts.shape != image.shape[:2]:
            self._resized(image)
        detail = Detail.of(image, self._counts)
        meters = detail.meters()
        seen = None if self._sight is None else self._sight.see(frame)
        best = self._reference_sharpness
        return {
            "size": [image.shape[1], image.shape[0]],
            "sharpness": round(meters.sharpness, 2),
            "of_reference": round(meters.sharpness / best, 3) if best else None,
            "light": {
                "mean": round(meters.light / 255, 3),
                "under": round(meters.under, 3),
                "over": round(meters.over, 3),
            },
            "place": place_words(seen),
            "faults": [] if seen is None else [[fault, advice(fault)] for fault in sorted(seen.faults)],
            "slots": self._slots(frame, detail, seen),
        }

    def _resized(self, image: Image) -> None:
        """Begin anew with frames of this size; what is sharp in another size is not comparable."""
        self._counts = seen_part(image.shape, self._scene.masks, self._scene.camera.rotate)
        reference = self._scene.reference
        self._reference_sharpness, self._slot_sharpness = None, []
        if reference is not None and reference.shape == image.shape:
            detail = Detail.of(reference, self._counts)
            self._reference_sharpness = detail.meters().sharpness
            self._slot_sharpness = detail.sharpness(self._corners)

    def _slots(self, frame: Frame, detail: Detail, seen: Seen | None) -> list[dict[str, Any]]:
        shelf, placed = self._scene.shelf, None if seen is None else seen.placed
        if shelf is None or self._scene.reference is None:
            return []
        tall, wide = self._scene.reference.shape[:2]
        unmoved = np.diag([frame.image.shape[1] / wide, frame.image.shape[0] / tall, 1.0])
        to_frame = unmoved if placed is None else placed.to_frame
        quads = moved(self._corners.reshape(-1, 2), to_frame).reshape(-1, 4, 2)
        sharp = detail.sharpness(quads)
        ratios = [
            round(now / best, 3) if best else None
            for now, best in zip(sharp, self._slot_sharpness or [0.0] * len(sharp), strict=True)
        ]
        readable = seen is not None and not seen.faults - {CameraFault.MOVED}
        answers = self._answered(frame, to_frame) if readable else []
        nothing: dict[str, Any] = {"label": None, "confidence": None, "state": None}
        return [
            {
                "id": slot.id,
                "product": slot.product,
                "quad": [[round(x, 1), round(y, 1)] for x, y in quad.tolist()],
                "of_reference": ratio,
                **answer,
            }
            for slot, quad, ratio, answer in zip(
                shelf.slots, quads, ratios, answers or [nothing] * len(quads), strict=True
            )
        ]

    def _answered(self, frame: Frame, to_frame: Matrix) -> list[dict[str, Any]]:
        """Ask the model of every slot, now and then: a slow board must not slow the focus meter down."""
        model, shelf = self._scene.model, self._scene.shelf
        if model is None or shelf is None:
            return []
        if self._asked is not None and 0 <= frame.at - self._asked < _CLASSIFY_S:
            return self._answers
        crops = slots.crops(frame.image, self._corners, to_frame, model.height, model.width)
        answers = []
        for row, slot in zip(model.probabilities(crops), shelf.slots, strict=True):
            label, confidence = model.labels[int(row.argmax())], float(row.max())
            known = label if confidence >= self._scene.unknown_below else None
            state = condition_of(known, slot.product)
            answers.append({"label": label, "confidence": round(confidence, 3), "state": state})
        self._answers, self._asked = answers, frame.at
        return answers
