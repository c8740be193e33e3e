"""Labelled photos: not decoded yet, decoded, or left out with a reason."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.held import room
from edge_agent.contracts.pictures import read_picture
from edge_agent.contracts.preprocess import Image, fit

__all__ = (
    "MIN_SIDE_PX",
    "NO_CLASS",
    "Box",
    "Dataset",
    "Part",
    "Photo",
    "Pictures",
    "Progress",
    "Refuse",
    "Rejected",
    "content_hash",
    "decode",
    "read_picture",
    "sha256_of_lines",
    "together",
)

Part = Literal["train", "val", "test"]
MIN_SIDE_PX = 8
NO_CLASS = -1
"""The label of a photo that belongs to no class of the catalogue."""

_AT_ONCE = 256
"""Photos handed to the threads together: what they have decoded waits at model size, so it is little."""
_MOST_THREADS = 8

Box = tuple[int, int, int, int]
T = TypeVar("T")
Progress = Callable[[Iterable[T], int], Iterable[T]]
"""Shows how far a loop has come, given the loop and its length."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled picture, not decoded yet.

    Attributes:
        source: A file, or the picture itself: uint8, (height, width, 3), BGR.
        label: Index into the classes; `NO_CLASS` for a photo of something else.
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
            DataError: It cannot be read, is not what its name says, or too small to show anything.
        """
        picture = (
            read_picture(self.source, as_named=True)
            if isinstance(self.source, Path)
            else np.ascontiguousarray(self.source)
        )
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
    """Photos with their classes.

    Attributes:
        path: Where it was found.
        classes: In alphabetical order unless the data set has its own.
        photos: Those that are listed; none has been decoded.
        rejected: What cannot be used, and why.
        coarse: The coarse class of each class; empty where the data has one level only.
    """

    path: Path
    classes: list[LabelEntry]
    photos: list[Photo]
    rejected: list[Rejected] = field(default_factory=list)
    coarse: tuple[str, ...] = ()

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
        known = self.labels
        foreign = sorted({known[photo.label] for photo in self.photos} - places.keys())
        if foreign:
            raise DataError(
                f"Expected: classes of the model ({', '.join(labels):.200}). "
                f"Received: {', '.join(foreign):.200}.",
                hint="the folder names (or labels) must be those that the model was trained with",
            )
        moved = [places.get(label, NO_CLASS) for label in known]
        photos = [replace(photo, label=moved[photo.label]) for photo in self.photos]
        above = dict(zip(known, self.coarse, strict=True)) if self.coarse else {}
        coarse = tuple(above.get(label, label) for label in labels) if above else ()
        entries = [LabelEntry(label=label) for label in labels]
        return Dataset(self.path, entries, photos, self.rejected, coarse)

    def without(self, labels: Iterable[str]) -> tuple["Dataset", list[Photo]]:
        """Return the data set less some classes, and the photos of those, which have `NO_CLASS` now."""
        gone = set(labels)
        kept = [row for row, label in enumerate(self.labels) if label not in gone]
        places = {row: place for place, row in enumerate(kept)}
        photos = [replace(photo, label=places[photo.label]) for photo in self.photos if photo.label in places]
        others = [replace(photo, label=NO_CLASS) for photo in self.photos if photo.label not in places]
        coarse = tuple(self.coarse[row] for row in kept) if self.coarse else ()
        classes = [self.classes[row] for row in kept]
        return Dataset(self.path, classes, photos, self.rejected, coarse), others


@dataclass(frozen=True, slots=True)
class Pictures:
    """Decoded photos at model size.

    Attributes:
        images: uint8, (n, height, width, 3), RGB. Where the photos did not fit into memory it is a
            `np.memmap`: rows are read from the disk as they are asked for, and the page cache
            keeps what it can. Index the rows of a batch; `np.asarray(images)` alone copies nothing.
        labels: int64, (n,).
        ids: sha256 of each photo's decoded pixels before resizing, hex: equal photos have equal ids.
        photos: What each was made from.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    photos: tuple[Photo, ...]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Pictures":
        """Return some of the rows, in that order: a copy of these rows, in memory.

        Where the pictures lie on disk, take what fits into memory; `part` copies nothing.
        """
        chosen = [int(row) for row in rows]
        ids, photos = tuple(self.ids[row] for row in chosen), tuple(self.photos[row] for row in chosen)
        return Pictures(np.array(self.images[chosen]), self.labels[chosen], ids, photos)

    def part(self, first: int, last: int) -> "Pictures":
        """Return the rows from `first` up to `last` without copying a picture."""
        rows = slice(first, last)
        return Pictures(self.images[rows], self.labels[rows], self.ids[rows], self.photos[rows])

    @property
    def on_disk(self) -> bool:
        """Whether the pictures are read from a file as they are needed."""
        return isinstance(self.images, np.memmap)

    def __len__(self) -> int:
        return len(self.ids)


def together(
    pictures: Pictures, rows: NDArray[np.int64], alike: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return a number for each row, int64 (n,): the same for photos that must stay on one side of a split.

    These are the photos of one group, and of groups that share a picture.

    Args:
        pictures: Decoded.
        rows: Which of them, int64 (n,).
        alike: A number for each of all pictures: those with the same one count as the same picture.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            # Halving the way each time keeps it short for large groups, too.
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for row in rows:
        parents[root(f"group {pictures.photos[row].group}")] = root(f"picture {pictures.ids[row]}")
        if alike is not None:
            parents[root(f"alike {alike[row]}")] = root(f"picture {pictures.ids[row]}")
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(root(f"picture {pictures.ids[row]}"), len(numbers)) for row in rows], np.int64
    )


Refuse = Callable[[Sequence[Photo], Sequence[str]], Mapping[int, str]]
"""Says which rows to leave out, and why, given all decoded photos and their ids."""


def decode(
    dataset: Dataset,
    height: int,
    width: int,
    progress: Progress[Photo] = lambda items, _total: items,
    *,
    memory_mb: int | None = None,
    spill: Path | None = None,
    refuse: Refuse = lambda _photos, _ids: {},
) -> tuple[Pictures, list[Rejected]]:
    """Decode every photo once, to uint8 at model size: n * height * width * 3 bytes.

    Threads decode; the order is the data set's. What does not fit into memory goes to a file under
    `spill`, once, and `Pictures.images` reads from it. That file has no name: nobody has to remove
    it, it is gone with the last array over it, also when the process is killed.

    Args:
        dataset: As `read` returned it.
        height: Of the model's input, px.
        width: Of the model's input, px.
        progress: Shows how far it is.
        memory_mb: Memory that the pictures may take, 10^6 bytes; None: half of what is available.
        spill: Folder for the file; None: one for large temporary files (TMPDIR, /var/tmp).
        refuse: Leaves out some of the decoded photos, too.

    Returns:
        The pictures, and everything that was left out.

    Raises:
        DataError: They must go to a file, and the disk is full or the folder cannot be written.
    """
    ids: list[str] = []
    kept: list[Photo] = []
    rejected = list(dataset.rejected)
    with closing(room(len(dataset.photos), height, width, memory_mb=memory_mb, spill=spill)) as held:
        found = _decoded(dataset.photos, height, width)
        for photo in progress(dataset.photos, len(dataset.photos)):
            outcome = next(found)
            if isinstance(outcome, str):
                rejected.append(Rejected(photo.name, outcome))
                continue
            held.add(outcome[0])
            ids.append(outcome[1])
            kept.append(photo)
        if refused := refuse(kept, ids):
            rejected += [Rejected(kept[row].name, refused[row]) for row in sorted(refused)]
            rows = [row for row in range(len(kept)) if row not in refused]
            held.keep(rows)
            ids, kept = [ids[row] for row in rows], [kept[row] for row in rows]
        labels = np.array([photo.label for photo in kept], np.int64)
        return Pictures(held.array(), labels, tuple(ids), tuple(kept)), rejected


def _decoded(
    photos: Sequence[Photo], height: int, width: int
) -> Iterator[tuple[NDArray[np.uint8], str] | str]:
    """Yield each photo at model size with its id, or why it cannot be used, in order."""

    def one(photo: Photo) -> tuple[NDArray[np.uint8], str] | str:
        try:
            picture = photo.decode()
        except DataError as exc:
            return str(exc)
        return fit(picture, height, width), content_hash(picture)

    # OpenCV and hashlib let go of the interpreter while they work.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS), "decode") as threads:
        for first in range(0, len(photos), _AT_ONCE):
            yield from threads.map(one, photos[first : first + _AT_ONCE])


def content_hash(picture: Image) -> str:
    """Return the sha256 of a picture's size and pixels, as hex."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).data).hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Return the sha256 of lines of text, each ended, as hex."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
