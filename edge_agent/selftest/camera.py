"""The camera: whether it gives frames, fast enough and of the right size, and whether they show the shelf."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.open import open_camera
from edge_agent.contracts import config
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.errors import DeviceError, KitError
from edge_agent.contracts.preprocess import Image
from edge_agent.preview.words import advice, place_words
from edge_agent.selftest.finding import Check, Finding
from edge_agent.selftest.parts import Parts
from edge_agent.selftest.running import Running, running
from edge_agent.sight import Sight

FRAMES = Check("camera", DeviceError.exit_code, "frames, as many and as large as device.yaml says")
SHELF = Check("shelf", DeviceError.exit_code, "the shelf where the reference picture has it, and no fault")

_PATIENCE_S = 10.0
_SPAN_S = 2.5
_LEAST_FPS = 2.0
_SLOWER = 0.7
"""Of the wanted rate: less is too slow."""
_LOOKED_AT = 3
_ONE_READER = ("v4l2:", "picamera")
_AIM = "aim the camera: shelfkit agent preview"
_BUSY = "stop the agent, and test again"


@dataclass(frozen=True, slots=True)
class Take:
    """Frames that a camera gave: the last few, and how many a second there were."""

    frames: list[Frame]
    rate: float | None
    error: str = ""


def check_camera(
    parts: Parts, agent: Running | None, *, steady: Callable[[], float] = time.monotonic
) -> list[Finding]:
    """Take frames for a few seconds, and look at them.

    Args:
        parts: Of the device.
        agent: Where it runs: a camera that has but one reader is its own.
        steady: The clock.
    """
    device = parts.device
    if device is None:
        return [check.skipped("device.yaml cannot be read") for check in (FRAMES, SHELF)]
    if agent is not None and device.camera.source.startswith(_ONE_READER):
        return [_by_the_agent(device, agent), SHELF.skipped("the running agent has the camera", _BUSY)]
    settings = device.camera.model_copy(update={"fps": max(device.camera.fps, _LEAST_FPS)})
    try:
        with open_camera(settings, live=True, masks=device.privacy.masks) as camera:
            take = _taken(camera, steady)
    except KitError as exc:
        take = Take([], None, f"{exc} {exc.hint}".strip())
    if not take.frames:
        todo = "check cable, power and address; no other program may use the camera"
        return [FRAMES.failed(take.error or "no frame", todo), SHELF.skipped("there is no frame")]
    return [_frames(take, device.camera), _shelf(take.frames, parts.reference)]


def _taken(camera: Camera, steady: Callable[[], float]) -> Take:
    begin, error, count = steady(), "", 0
    first = last = begin
    frames: deque[Frame] = deque(maxlen=_LOOKED_AT)
    while steady() < (first + _SPAN_S if count else begin + _PATIENCE_S):
        try:
            frame = camera.read()
        except DeviceError as exc:
            error = str(exc)
            continue
        if frame is None:
            break
        last, count = steady(), count + 1
        first = first if count > 1 else last
        frames.append(frame)
    return Take(list(frames), (count - 1) / (last - first) if last > first else None, error)


def _frames(take: Take, wanted: config.Camera) -> Finding:
    tall, wide = take.frames[-1].image.shape[:2]
    told = f"{wide}x{tall} px" + ("" if take.rate is None else f", {take.rate:.1f} frames/s")
    size = (wanted.width, wanted.height)
    if wanted.rotate in {90, 270}:
        size = size[::-1]
    if None not in size and size != (wide, tall):
        todo = "set camera.width and camera.height to a size that the camera has, or change the camera's own"
        return FRAMES.failed(f"{told} instead of {size[0]}x{size[1]} px", todo)
    if take.rate is not None and take.rate < _SLOWER * wanted.fps:
        todo = "lower camera.fps, or the size of the frames; a USB camera needs light and a fast port"
        return FRAMES.failed(f"{told} instead of {wanted.fps:g}", todo)
    return FRAMES.passed(told)


def _shelf(frames: list[Frame], reference: Image | None) -> Finding:
    """Judge the last frames; the best of them counts: an arm that passes is no fault."""
    if reference is None:
        return SHELF.skipped("there is no reference picture")
    sight = Sight(reference)
    failed = SHELF.skipped("there is no frame")
    for frame in frames:
        seen = sight.see(frame)
        place = place_words(seen)
        if seen.faults:
            names = ", ".join(sorted(seen.faults))
            where = f": {place['text']}" if place and seen.move else ""
            failed = SHELF.failed(f"{names}{where}", " ".join(map(advice, sorted(seen.faults))))
        elif seen.move is None and sight.plain:
            failed = SHELF.skipped("the reference picture has too little structure to be found", _AIM)
        elif seen.move is None:
            failed = SHELF.failed("not found in the picture", _AIM)
        else:
            return SHELF.passed(f"found, {seen.move.px:.1f} px from its place")
    return failed


def _by_the_agent(device: DeviceConfig, before: Running) -> Finding:
    """Judge a camera by what the running agent makes of it."""
    time.sleep(_SPAN_S)
    after = running(device)
    if before.frames is None or after is None or after.frames is None:
        return FRAMES.skipped("the running agent has the camera, and tells nothing", _BUSY)
    rate = (after.frames - before.frames) / _SPAN_S
    if rate < _SLOWER * device.camera.fps and rate * _SPAN_S < 1:
        return FRAMES.failed(
            "the running agent gets no frames", "look at the agent's log: camera-fault, lost"
        )
    return FRAMES.passed(f"the running agent judges {rate:.1f} frames/s")
