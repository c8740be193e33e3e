"""`shelfkit agent collect`: crops of every slot, to be labelled and trained on.

They are cut by the same code that cuts them on the device, and only while the slot stands still:
the device never judges one that does not.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge_agent import slots
from edge_agent.align import Aligner
from edge_agent.camera.base import Camera
from edge_agent.contracts.dataset import write_index
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import read_picture
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image

_QUALITY = 95
_GROUP_S = 2.0
"""Crops of one slot this close in time are near copies: they go to the same side of a split."""
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


def collect(
    camera: Camera,
    shelf: Planogram,
    out: Path,
    *,
    until_s: float,
    spans: list[Span] | None,
    name: str,
) -> dict[str, int]:
    """Write a crop of every still slot of every frame, and an `index.csv` to be completed or trained on.

    Args:
        camera: Source of frames; what it gives is what is cut.
        shelf: Where the slots are.
        out: New folder.
        until_s: Seconds of the source.
        spans: Labels; crops outside of all of them are left out. None: crops have no label yet.
        name: Of the source; part of each crop's group.

    Returns:
        The number of crops of each label.

    Raises:
        DataError: The folder is not empty, cannot be written, or nothing stood still.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(f"Expected: --out as a new or empty folder. Received: {out}, which is not empty.")
    aligner = Aligner(read_picture(shelf.reference))
    still = slots.Stillness()
    rows: list[dict[str, object]] = []
    begin: float | None = None
    while (frame := camera.read()) is not None:
        begin = frame.at if begin is None else begin
        at = frame.at - begin
        if at > until_s:
            break
        cuts = _cuts(frame.image, shelf, aligner)
        still, rest = still.step(cuts.thumbs)
        for slot, picture, quiet in zip(shelf.slots, cuts.pictures, rest, strict=True):
            label = _label(spans, slot.id, at)
            if quiet and label is not None:
                file = Path(slot.id) / f"{at:09.2f}.jpg"
                _write(out / file, picture)
                group = f"{name}/{slot.id}/{int(at / _GROUP_S)}"
                rows.append({"path": str(file), "label": label, "group": group})
    if not rows:
        raise DataError("Expected: slots that stand still. Received: none in the whole source.")
    write_index(out, rows)
    labels = [str(row["label"]) for row in rows]
    return {label: labels.count(label) for label in sorted(set(labels))}


@dataclass(frozen=True, slots=True)
class _Cuts:
    thumbs: slots.Crops
    pictures: list[Image]


def _cuts(image: Image, shelf: Planogram, aligner: Aligner) -> _Cuts:
    """Cut each slot at its own size, for people, and small, for the gate."""
    to_frame = aligner.align(image).to_frame
    pictures = [
        slots.cut(image, shelf.model_copy(update={"slots": [slot]}), to_frame, *_size(slot.quad))[0]
        for slot in shelf.slots
    ]
    return _Cuts(slots.cut(image, shelf, to_frame, 64, 64), pictures)


def _size(quad: tuple[tuple[float, float], ...]) -> tuple[int, int]:
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad
    wide = max(abs(x1 - x0), abs(x2 - x3))
    tall = max(abs(y3 - y0), abs(y2 - y1))
    return round(tall), round(wide)


def _label(spans: list[Span] | None, slot: str, at: float) -> str | None:
    if spans is None:
        return ""
    return next((span.label for span in spans if span.slot == slot and span.begin <= at <= span.end), None)


def _write(path: Path, picture: Image) -> None:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as exc:
        raise DataError(f"Expected: room for crops. Received: {path}: {exc.strerror}.") from exc
