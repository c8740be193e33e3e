"""Labelled photos: not decoded yet, decoded, or left out with a reason."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.preprocess import Image, fit

Part = Literal["train", "val", "test"]
MIN_SIDE_PX = 8

Box = tuple[int, int, int, int]
T = TypeVar("T")
Progress = Callable[[Iterable[T], int], Iterable[T]]
"""Shows how far a loop has come, given the loop and its length."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled picture, not decoded yet.

    Attributes:
        source: A file, or the picture itself: uint8, (height, width, 3), BGR.
        label: Index into the classes.
        part: What the data set itself says; None where it leaves the split to us.
        group: Pictures of one group (a store, a camera, a day) never stand on two sides of a split.
        box: x0, y0, x1, y1 in px, where the picture shows more than the product.
        name: What to call it in a report.
    """

    source: Path | Image
    label: int
    part: Part | None
    group: str
    name: str
    box: Box | None = None

    def decode(self) -> Image:
        """Return the picture: uint8, (height, width, 3), BGR, upright, cut to its box.

        Raises:
            DataError: It cannot be read, or it is too small to show anything.
        """
        picture = read_picture(self.source) if isinstance(self.source, Path) else self.source
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            picture = picture[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        if min(picture.shape[:2], default=0) < MIN_SIDE_PX:
            raise DataError(
                f"Expected: sides of at least {MIN_SIDE_PX} px. "
                f"Received: {picture.shape[1]}x{picture.shape[0]} px."
            )
        return picture


@dataclass(frozen=True, slots=True)
class Rejected:
    """A photo that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Photos with their classes; `classes` is in alphabetical order unless the data set has its own."""

    path: Path
    classes: list[LabelEntry]
    photos: list[Photo]
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """The names of the classes."""
        return [entry.label for entry in self.classes]

    def counts(self) -> dict[str, int]:
        """Return the number of photos of each class."""
        found = Counter(photo.label for photo in self.photos)
        return {entry.label: found[index] for index, entry in enumerate(self.classes)}

    def relabelled(self, labels: Sequence[str]) -> "Dataset":
        """Return the same photos under a model's classes.

        Raises:
            DataError: The data set has a class with photos that the model does not know.
        """
        places = {label: index for index, label in enumerate(labels)}
        foreign = sorted({self.labels[photo.label] for photo in self.photos} - places.keys())
        if foreign:
            raise DataError(
                f"Expected: classes of the model ({', '.join(labels):.200}). "
                f"Received: {', '.join(foreign):.200}.",
                hint="the folder names (or labels) must be those that the model was trained with",
            )
        photos = [replace(photo, label=places[self.labels[photo.label]]) for photo in self.photos]
        return Dataset(self.path, [LabelEntry(label=label) for label in labels], photos, self.rejected)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Decoded photos at model size.

    Attributes:
        images: uint8, (n, height, width, 3), RGB.
        labels: int64, (n,).
        ids: sha256 of each photo's decoded pixels before resizing, hex: equal photos have equal ids.
        photos: What each was made from.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    photos: tuple[Photo, ...]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Pictures":
        """Return some of the rows, in that order."""
        chosen = [int(row) for row in rows]
        ids, photos = tuple(self.ids[row] for row in chosen), tuple(self.photos[row] for row in chosen)
        return Pictures(self.images[chosen], self.labels[chosen], ids, photos)

    def __len__(self) -> int:
        return len(self.ids)


def decode(
    dataset: Dataset,
    height: int,
    width: int,
    progress: Progress[Photo] = lambda items, _total: items,
) -> tuple[Pictures, list[Rejected]]:
    """Decode every photo once, to uint8 at model size: n * height * width * 3 bytes.

    Args:
        dataset: As `read` returned it.
        height: Of the model's input, px.
        width: Of the model's input, px.
        progress: Shows how far it is.

    Returns:
        The pictures, and everything that was left out.
    """
    images = np.zeros((len(dataset.photos), height, width, 3), np.uint8)
    ids: list[str] = []
    kept: list[Photo] = []
    rejected = list(dataset.rejected)
    for photo in progress(dataset.photos, len(dataset.photos)):
        try:
            picture = photo.decode()
        except DataError as exc:
            rejected.append(Rejected(photo.name, str(exc)))
            continue
        images[len(kept)] = fit(picture, height, width)
        ids.append(content_hash(picture))
        kept.append(photo)
    labels = np.array([photo.label for photo in kept], np.int64)
    return Pictures(images[: len(kept)], labels, tuple(ids), tuple(kept)), rejected


def content_hash(picture: Image) -> str:
    """Return the sha256 of a picture's size and pixels, as hex."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).data).hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Return the sha256 of lines of text, each ended, as hex."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def read_picture(path: Path) -> Image:
    """Read a photo: upright as its EXIF says; grey, CMYK, alpha and 16 bit become 8-bit BGR.

    Raises:
        DataError: Missing, empty, cut short, or no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise DataError(f"Expected: a photo. Received: {exc.strerror}.") from exc
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[len(data) // 2 :]:
        # OpenCV fills what is missing of a JPEG with grey and says nothing. The first half may hold
        # the end of a thumbnail; after the end of the picture itself cameras may append more.
        raise DataError("Expected: a whole JPEG. Received: one that was cut short.")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as exc:
        raise DataError(f"Expected: a photo. Received: {exc.err}.") from exc
    if picture is None:
        raise DataError(f"Expected: a photo. Received: {len(data)} bytes that are no picture.")
    return np.asarray(picture, np.uint8)
