"""Labelled photos under the classes of a model: whose names count, which part judges."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts import dataset, photos
from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Dataset, Part, Photo, Pictures, Progress, Rejected


@dataclass(frozen=True, slots=True)
class Held:
    """Photos to judge a model by.

    Attributes:
        part: Of the data set; None: all of it.
        pictures: Decoded, at least one.
        coarse: The coarse class of each class; empty: there are none.
        rejected: Photos that could not be used.
    """

    part: Part | None
    pictures: Pictures
    coarse: tuple[str, ...]
    rejected: list[Rejected]


def read(data: Path, labels: Sequence[str], *, levels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """List photos under a model's labels.

    By name; the numbers of an .npz count the model's outputs, unless its labels are numbers themselves.

    Args:
        data: Any layout of `contracts.dataset`.
        labels: Of the model, in the order of its outputs.
        levels: For data sets with two levels of classes.

    Raises:
        DataError: The photos cannot be used, have classes that the model does not know, or numbers of
            other classes than it has.
    """
    found = dataset.read(data, levels=levels)
    if data.suffix == ".npz" and not set(found.labels) <= set(labels):
        found = _counted(found, labels)
    return found.relabelled(labels)


def _counted(found: Dataset, labels: Sequence[str]) -> Dataset:
    # One more or less is how a `background` class shows: all others would be one off, and nobody told.
    if len(found.labels) != len(labels):
        raise DataError(
            f"Expected: classes numbered 0 to {len(labels) - 1} in {found.path}, one for each of the "
            f"{len(labels)} labels. Received: 0 to {len(found.labels) - 1}.",
            hint="number n is line n + 1 of the labels; name classes in an index.csv if some lack photos",
        )
    return replace(found, classes=[LabelEntry(label=label) for label in labels])


def judging(listed: Iterable[Photo]) -> Part | None:
    """Return which part of a data set judges: test, else val; None where it names neither."""
    named = {photo.part for photo in listed}
    parts: tuple[Part, ...] = ("test", "val")
    return next((part for part in parts if part in named), None)


def only(found: Dataset, part: Part) -> Dataset:
    """Return the photos of one part.

    Raises:
        DataError: There are none.
    """
    kept = [photo for photo in found.photos if photo.part == part]
    if not kept:
        there = sorted({photo.part or "none named" for photo in found.photos})
        raise DataError(
            f"Expected: photos of the part {part!r}. Received: {', '.join(there)}.",
            hint="leave --split out to use every photo",
        )
    return replace(found, photos=kept)


def decode(
    found: Dataset, height: int, width: int, progress: Progress[Photo]
) -> tuple[Pictures, list[Rejected]]:
    """Decode photos to a model's size; see `contracts.photos.decode`.

    Raises:
        DataError: None can be read.
    """
    pictures, rejected = photos.decode(found, height, width, progress)
    if not len(pictures):
        raise DataError(
            f"Expected: readable photos in {found.path}. Received: {len(rejected)}, all unreadable."
        )
    return pictures, rejected


def held(data: Path, labels: Sequence[str], height: int, width: int, progress: Progress[Photo]) -> Held:
    """Return the photos of the part that judges, at a model's size.

    Args:
        data: Any layout of `contracts.dataset`.
        labels: Of the model.
        height: Of its input, px.
        width: Of its input, px.
        progress: Shows how far it is.

    Raises:
        DataError: The photos cannot be used, or have classes that the model does not know.
    """
    found = read(data, labels)
    part = judging(found.photos)
    if part is not None:
        found = only(found, part)
    pictures, rejected = decode(found, height, width, progress)
    return Held(part, pictures, found.coarse, rejected)


def spread(pictures: Pictures, limit: int) -> NDArray[np.int64]:
    """Return rows of different pictures, the classes by turns: the same ones for the same pictures.

    Args:
        pictures: Of any classes.
        limit: Rows at most.
    """
    first = {key: row for row, key in reversed(list(enumerate(pictures.ids)))}
    turn: dict[int, int] = {}
    order = []
    for key, row in sorted(first.items()):
        label = int(pictures.labels[row])
        turn[label] = turn.get(label, 0) + 1
        # By hash within a turn: with more classes than rows, any of them may come.
        order.append((turn[label], key, row))
    return np.array([row for *_, row in sorted(order)[:limit]], np.int64)
