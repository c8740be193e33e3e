"""`shelfkit agent collect`: crops of every slot, to be labelled and trained on.

A slot is seen as the device sees it: where the shelf is, what is wrong with the camera, and what stands
still is told by the agent's own code. What moves, and frames with a fault, are left out. Of a slot that does
not change a crop is taken every so often; at once when it shows another picture, or has moved.
"""

import csv
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_agent import crops, slots
from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts.dataset import write_index
from edge_agent.contracts.errors import DataError, DeviceError
from edge_agent.contracts.events import CameraFault
from edge_agent.contracts.photos import read_picture
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image
from edge_agent.sight import Sight

_GROUP_S = 2.0
"""Crops of one slot this close in time are near copies: they go to the same side of a split."""
_PATIENCE_S = 30.0
"""How long a camera may give nothing before it is given up."""
_AGAIN_S = 1.0
_COLUMNS = {"slot", "from", "until", "label"}


@dataclass(frozen=True, slots=True)
class Span:
    """What was in a slot from one moment to another, seconds of the source."""

    slot: str
    begin: float
    end: float
    label: str


def read_spans(path: Path, shelf: Planogram) -> list[Span]:
    """Read who was where when: CSV with slot, from, until, label.

    Raises:
        DataError: It cannot be read, or names a slot that there is not.
    """
    known = {slot.id for slot in shelf.slots}
    spans = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := _COLUMNS - set(reader.fieldnames or ()):
                raise DataError(
                    f"Expected: columns slot, from, until, label in {path}. "
                    f"Received: none named {', '.join(sorted(missing))}."
                )
            for number, row in enumerate(reader, start=2):
                span = Span(row["slot"], float(row["from"]), float(row["until"]), row["label"])
                if span.slot not in known or not span.label or span.begin >= span.end:
                    raise DataError(
                        f"Expected: a slot of the planogram ({', '.join(sorted(known))}), from < until, "
                        f"and a label. Received: {dict(row)} in {path}:{number}."
                    )
                spans.append(span)
    except (OSError, ValueError, TypeError) as exc:
        raise DataError(f"Expected: CSV with numbers of seconds in {path}. Received: {exc}.") from exc
    return spans


@dataclass(slots=True)
class Collected:
    """What was cut.

    Attributes:
        labels: How many crops of each label; "": to be labelled.
        frames: How many frames were seen.
        faults: How many of them were left out for each fault.
    """

    labels: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    faults: Counter[CameraFault] = field(default_factory=Counter)


def frames(camera: Camera, until_s: float) -> Iterator[Frame]:
    """Yield the frames of a source with an end, or its first seconds."""
    begin: float | None = None
    while (frame := camera.read()) is not None:
        begin = frame.at if begin is None else begin
        if frame.at - begin > until_s:
            return
        yield frame


def live_frames(
    camera: Camera,
    until_s: float,
    interval_s: float,
    *,
    steady: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Frame]:
    """Yield a frame of a camera every so often; one that does not come is waited for.

    Args:
        camera: In step with the clock.
        until_s: When to end.
        interval_s: How far frames are apart.
        steady: The clock.
        sleep: Waits, seconds.

    Raises:
        DeviceError: None has come for half a minute.
    """
    begin = due = last = steady()
    while (asked := steady()) - begin <= until_s:
        try:
            frame = camera.read()
        except DeviceError:
            if steady() - last > _PATIENCE_S:
                raise
            sleep(_AGAIN_S)
            continue
        if frame is None:
            return
        yield frame
        last = steady()
        # A slow frame is no reason to hurry afterwards.
        due = max(due, asked) + interval_s
        sleep(max(due - last, 0))


def collect(
    seen: Iterable[Frame],
    shelf: Planogram,
    out: Path,
    *,
    every_s: float,
    spans: list[Span] | None,
    name: str,
) -> Collected:
    """Write crops of still slots, and an `index.csv` to be completed or trained on.

    Args:
        seen: Frames, in order.
        shelf: Where the slots are.
        out: New folder.
        every_s: How far crops of a slot that does not change are apart; 0: one of each frame.
        spans: Labels, by seconds since the first frame; crops outside of all of them are left out.
            None: crops have no label yet.
        name: Of the source; part of each crop's group.

    Raises:
        DataError: The folder is not empty, cannot be written, or nothing stood still.
        DeviceError: The camera has been lost; what was cut before has its index.
    """
    refuse_full(out)
    eye, found = _Eye(shelf, every_s), Collected()
    rows: list[dict[str, object]] = []
    begin: float | None = None
    try:
        for frame in seen:
            begin = frame.at if begin is None else begin
            at = frame.at - begin
            cuts, faults = eye.see(frame)
            found.frames += 1
            found.faults.update(faults)
            for slot, picture in cuts:
                label = _label(spans, slot, at)
                if label is not None:
                    file = Path(slot) / f"{at:09.2f}.jpg"
                    _write(out / file, picture)
                    group = f"{name}/{slot}/{int(at / _GROUP_S)}"
                    rows.append({"path": str(file), "label": label, "group": group})
                    found.labels[label] += 1
    finally:
        # Also after Ctrl-C or a lost camera: what has been cut is worth keeping.
        if rows:
            _index(out, rows)
    if not rows:
        raise DataError(f"Expected: slots that stand still. Received: none in {_told(found)}.")
    return found


def refuse_full(out: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        DataError: It has.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"Expected: --out as a new or empty folder. Received: {out}, which is not empty.")


class _Eye:
    """Looks at frames as the agent does, but asks no model.

    Args:
        shelf: Where the slots are.
        every_s: How far crops of a slot that does not change are apart.
    """

    def __init__(self, shelf: Planogram, every_s: float) -> None:
        self._sight = Sight(read_picture(shelf.reference))
        self._names, self._corners = [slot.id for slot in shelf.slots], slots.corners(shelf)
        self._windows, self._gate = slots.Windows(self._corners), slots.Gate()
        self._settled, self._every_s = np.ones(len(self._names), np.bool_), every_s

    def see(self, frame: Frame) -> tuple[list[tuple[str, Image]], set[CameraFault]]:
        """Return the slots of which a crop is due, each with it, and what is wrong with the frame."""
        seen = self._sight.see(frame)
        # Pictures that are the same to the last bit are a fault of a camera, and usual in a folder.
        faults, placed = {*seen.faults} - {CameraFault.FROZEN}, seen.placed
        if faults or placed is None:
            self._gate = slots.Gate()
            return [], faults
        thumbs = self._windows.thumbs(seen.glance, placed.exact)
        self._gate, verdict = self._gate.step(
            thumbs, frame.at, settled=self._settled, refresh_s=self._every_s
        )
        due = np.flatnonzero(verdict.due).tolist()
        return [
            (self._names[row], crops.cut(frame.image, self._corners[row], placed.to_frame)) for row in due
        ], faults


def _told(found: Collected) -> str:
    faults = ", ".join(f"{fault} in {count}" for fault, count in sorted(found.faults.items()))
    return f"{found.frames} frames" + (f" (camera fault: {faults})" if faults else "")


def _label(spans: list[Span] | None, slot: str, at: float) -> str | None:
    if spans is None:
        return ""
    return next((span.label for span in spans if span.slot == slot and span.begin <= at <= span.end), None)


def _write(path: Path, picture: Image) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(crops.jpeg(picture))
    except OSError as exc:
        raise DataError(f"Expected: room for crops. Received: {path}: {exc.strerror}.") from exc


def _index(out: Path, rows: list[dict[str, object]]) -> None:
    try:
        write_index(out, rows)
    except OSError as exc:
        raise DataError(f"Expected: room for the index. Received: {out}: {exc.strerror}.") from exc
