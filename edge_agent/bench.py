"""`shelfkit agent bench`: what a frame costs on this very device, with the agent's own code.

Ways take turns on each frame, so that a device that gets hot slows all of them down alike. Getting the
frame is not part of it: each lies in memory as decoding leaves it.
"""

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from edge_agent import setup as setups
from edge_agent import slots
from edge_agent.align import Follower, Glance
from edge_agent.board import temperature_c
from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.open import open_camera
from edge_agent.classifier import Classifier, TfliteModel, pixel_table
from edge_agent.contracts.command import print_json, shown
from edge_agent.contracts.config import DeviceConfig, camera_of
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.events import source as event_source
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.scoring import Floats
from edge_agent.faults import Look, judge
from edge_agent.outbox import Limits, Outbox
from edge_agent.setup import Setup

_NEVER_FRESH = 1e-9
"""As `refresh_s`: every answer is too old at the next frame: every slot that stands still is classified."""
_NOISE_LEVELS = 2.0
_MOST_WARM = 60
_UNBOUNDED = Limits(max_bytes=2**40, max_days=365_000)
_START = datetime(2026, 1, 1, tzinfo=UTC)
_WITH_END = ("file:", "folder:", "shelf:")
_OWN_CAMERA = "camera"

Times = dict[str, list[float]]


def bench(
    config: Annotated[Path, typer.Option(help="The device's device.yaml.")],
    source: Annotated[
        str,
        typer.Option(help="`camera`: the config's; or one as there. Default: the reference picture, noisy."),
    ] = "",
    frames: Annotated[int, typer.Option(min=10, max=100_000, help="That count.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure on this device what a frame costs: slots per second, latency, stages, memory, heat.

    Every slot of every frame classified; with the gate, as the agent works; the bare interpreter on
    crops that are ready; and each stage by itself. Reading and decoding frames is left out.

    \b
    Examples:
      shelfkit agent bench --config device.yaml
      shelfkit agent bench --config device.yaml --source camera --frames 500 --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    made = setups.read(config)
    with ExitStack() as stack:
        pictures = _noisy(made.reference)
        if source:
            pictures = _read(stack.enter_context(_opened(made.config, source)))
        figures = measured(made, pictures, frames)
    if as_json:
        print_json(figures)
    else:
        typer.echo(_told(figures))


def _opened(device: DeviceConfig, source: str) -> Camera:
    named = device.camera.source if source == _OWN_CAMERA else source
    settings = camera_of(device.camera.model_dump() | {"source": named})
    live = not settings.source.startswith(_WITH_END)
    return open_camera(settings, live=live, masks=device.privacy.masks)


def _read(camera: Camera) -> Iterator[Image]:
    while (frame := camera.read()) is not None:
        yield frame.image


def _noisy(picture: Image) -> Iterator[Image]:
    """Yield a picture with other noise each time: the same noise elsewhere, for new noise takes longer."""
    rng = np.random.default_rng(0)
    noise = np.round(rng.normal(0, _NOISE_LEVELS, picture.shape)).astype(np.int16)
    while True:
        shift = rng.integers(0, picture.shape[0]), rng.integers(0, picture.shape[1])
        yield np.clip(picture + np.roll(noise, shift, axis=(0, 1)), 0, 255).astype(np.uint8)


class _Counted(Classifier):
    """A classifier that counts what it is asked."""

    asked = 0

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """See `Classifier.probabilities`."""
        self.asked += len(images)
        return super().probabilities(images)


class _Watch:
    """An agent of its own, with a clock that goes on by one frame at a time."""

    def __init__(self, made: Setup, refresh_s: float) -> None:
        self.model = _Counted(made.bundle)
        rules = made.config.rules.model_copy(update={"refresh_s": refresh_s})
        rig = replace(made, config=made.config.model_copy(update={"rules": rules}))
        source = event_source(made.config.store, made.config.device)
        self.outbox = Outbox(":memory:", source=source, limits=_UNBOUNDED)
        self.model.check_golden()
        self._agent = rig.agent(self.model, self.outbox, lambda at: _START + timedelta(seconds=at))
        self._fps, self._next = made.config.camera.fps, 0

    def see(self, image: Image) -> None:
        """Judge the next frame."""
        self._agent.see(Frame(image, self._next / self._fps))
        self._next += 1


class _Stages:
    """The agent's steps, one by one, with every slot going through all of them."""

    def __init__(self, made: Setup) -> None:
        self._corners, self._fps = slots.corners(made.planogram), made.config.camera.fps
        self._follower, self._reference = Follower(made.reference), Look.of(made.reference)
        self._windows, self._gate = slots.Windows(self._corners), slots.Gate()
        self._model = Classifier(made.bundle)
        self._refresh_s = made.config.rules.refresh_s
        self._next = 0

    def see(self, image: Image, spent: Times) -> slots.Crops:
        """Take one frame through all steps, note what each took, and return the crops."""
        at, self._next = self._next / self._fps, self._next + 1
        moments = [time.perf_counter()]
        glance = Glance.of(image)
        judge(Look.at(glance), self._reference)
        moments.append(time.perf_counter())
        placed = self._follower.align(image, glance, at)
        moments.append(time.perf_counter())
        settled = np.ones(len(self._corners), np.bool_)
        thumbs = self._windows.thumbs(glance, placed.exact)
        self._gate, _ = self._gate.step(thumbs, at, settled=settled, refresh_s=self._refresh_s)
        moments.append(time.perf_counter())
        size = self._model.height, self._model.width
        crops = slots.crops(image, self._corners, placed.to_frame, *size)
        moments.append(time.perf_counter())
        self._model.probabilities(crops)
        moments.append(time.perf_counter())
        for name, took in zip(("look", "align", "gate", "crop", "classify"), np.diff(moments), strict=True):
            spent.setdefault(name, []).append(float(took))
        return crops


class _Turns:
    """All ways on one frame after another, and what each took."""

    def __init__(self, made: Setup) -> None:
        self._gated, self._every = _Watch(made, made.config.rules.refresh_s), _Watch(made, _NEVER_FRESH)
        self._stages, self._bare = _Stages(made), TfliteModel(made.bundle.model)
        self._table = pixel_table(made.bundle.manifest.input, self._bare.input)
        self._slots = len(made.planogram.slots)
        self.shape: tuple[int, ...] = (0, 0)
        self.forget()

    def close(self) -> None:
        """Let what the agents have written go."""
        self._gated.outbox.close()
        self._every.outbox.close()

    def forget(self) -> None:
        """Begin to count here."""
        self._spent: Times = {"every": [], "gated": [], "bare": []}
        self._steps: Times = {}
        self._asked = self._every.model.asked, self._gated.model.asked

    def frame(self, image: Image) -> None:
        """Let all ways look at a frame, which lies where decoding leaves it: in the cache, new."""
        self._spent["every"].append(_took(self._every.see, image.copy()))
        self._spent["gated"].append(_took(self._gated.see, image.copy()))
        crops = self._stages.see(image.copy(), self._steps)
        fed = crops if self._table is None else cv2.LUT(crops, self._table)
        self._spent["bare"].append(_took(self._alone, fed))
        self.shape = image.shape

    def _alone(self, crops: NDArray[Any]) -> None:
        for crop in crops:
            self._bare.scores(crop)

    def figures(self) -> dict[str, Any]:
        """Return them.

        Raises:
            DeviceError: There was no frame, or none showed the shelf.
        """
        total = len(self._spent["every"])
        if not total or not self._every.model.asked:
            raise DeviceError(
                f"Expected: frames with the shelf in them, standing still. Received: {total} others.",
                hint="`shelfkit agent preview` shows what the camera sees",
            )
        every, gated = self._every.model.asked - self._asked[0], self._gated.model.asked - self._asked[1]
        classified = {"every": every / total, "gated": gated / total, "bare": float(self._slots)}
        names = {"every": "every_slot", "gated": "with_gate", "bare": "bare_interpreter"}
        return {
            "frames": total,
            "frame": {"width": self.shape[1], "height": self.shape[0]},
            "slots": self._slots,
            "stages": {name: _latency(times) for name, times in self._steps.items()},
            **{names[way]: _figures(self._spent[way], self._slots, classified[way]) for way in names},
        }


def measured(made: Setup, pictures: Iterator[Image], count: int, *, root: Path = Path("/")) -> dict[str, Any]:
    """Measure, and return the figures.

    Args:
        made: The device.
        pictures: uint8, (height, width, 3), BGR each.
        count: How many of them count.
        root: Of the file system, where the board tells its temperature.

    Raises:
        DeviceError: There is no picture, or none shows the shelf.
        BundleError: The bundle does not compute here what it was proven to.
    """
    before = temperature_c(root)
    # Until what stands still is settled, unknown ones included.
    warm = min(ceil(2 * made.config.rules.confirm_s * made.config.camera.fps) + 6, _MOST_WARM)
    with closing(_Turns(made)) as turns:
        for number, image in enumerate(shown("measuring")(islice(pictures, warm + count), warm + count)):
            if number == warm:
                turns.forget()
            turns.frame(image)
        figures = turns.figures()
    return {
        "model": {"name": made.identity.name, "version": made.identity.version},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count() or 1},
        **figures,
        "fps": made.config.camera.fps,
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        "cpu_temperature_c": {"before": before, "after": temperature_c(root)},
    }


def _took(way: Callable[[Any], None], image: NDArray[Any]) -> float:
    begin = time.perf_counter()
    way(image)
    return time.perf_counter() - begin


def _latency(times: list[float]) -> dict[str, float]:
    return {
        "median_ms": round(1000 * float(np.median(times)), 3),
        "p95_ms": round(1000 * float(np.percentile(times, 95)), 3),
    }


def _figures(times: list[float], count: int, classified: float) -> dict[str, float]:
    """Return latency, and rate over all frames: what is refreshed now and then is part of it."""
    return {
        **_latency(times),
        "slots_per_s": round(count * len(times) / sum(times), 1),
        "classified_a_frame": round(classified, 2),
    }


def _told(figures: dict[str, Any]) -> str:
    model, machine, frame = figures["model"], figures["machine"], figures["frame"]
    size = f"{figures['frames']} frames of {frame['width']}x{frame['height']} px"
    busy = figures["fps"] * figures["slots"] / figures["with_gate"]["slots_per_s"]
    heat = figures["cpu_temperature_c"]
    degrees = "not told here"
    if None not in heat.values():
        degrees = f"{heat['before']:.1f} °C before, {heat['after']:.1f} °C after"
    lines = [
        f"{model['name']} {model['version']} on {machine['processor']}, {machine['cores']} cores",
        f"{figures['slots']} slots in {size}",
        "",
        *_table(figures),
        "",
        f"at {figures['fps']:g} frames/s the agent is busy for {busy:.1%} of the time",
        f"memory: {figures['memory_mb']:.0f} MB at most",
        f"processor's temperature: {degrees}",
    ]
    return "\n".join(lines)


def _table(figures: dict[str, Any]) -> Iterator[str]:
    yield f"{'a frame':<24}{'median':>10}{'p95':>10}{'slots/s':>10}{'classified':>12}"
    for key in ("every_slot", "with_gate", "bare_interpreter"):
        row = figures[key]
        rate = f"{row['slots_per_s']:>10.0f}{row['classified_a_frame']:>12.1f}"
        yield f"{key.replace('_', ' '):<24}{row['median_ms']:>7.2f} ms{row['p95_ms']:>7.2f} ms{rate}"
    for name, row in figures["stages"].items():
        yield f"  {name:<22}{row['median_ms']:>7.2f} ms{row['p95_ms']:>7.2f} ms"
