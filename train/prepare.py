"""Photos, decoded and divided; knows no Keras, so that bad data is told before anything slow is imported.

(The one exception is a data set that Keras itself downloads.)
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from edge_agent.contracts import dataset, photos
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Dataset, Photo, Pictures, Progress, Rejected
from train import downloads
from train.config import TrainConfig
from train.duplicates import NearDuplicate, alike, near_duplicates, unusable
from train.fingerprint import Prints
from train.notes import notes
from train.split import Split, split

_FEWEST_CLASSES = 2


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training run starts from.

    Attributes:
        dataset: Classes and photos of the catalogue; classes that were left out are gone.
        pictures: Its photos, decoded.
        parts: Who sees which of them.
        rejected: What was left out, and why.
        notes: Warnings for a person.
        near: Near copies in two parts, nearest first.
        outside: Photos of products that the model must not know; `labels` are `NO_CLASS`.
    """

    dataset: Dataset
    pictures: Pictures
    parts: Split
    rejected: list[Rejected]
    notes: list[str] = field(default_factory=list)
    near: list[NearDuplicate] = field(default_factory=list)
    outside: Pictures | None = None


def prepare(
    data: Path,
    config: TrainConfig,
    *,
    levels: Literal["fine", "coarse"],
    progress: Progress[Photo],
    memory_mb: int | None = None,
    spill: Path | None = None,
    leave_out: Sequence[str] = (),
    outside: Path | None = None,
) -> Prepared:
    """Read a data set, decode its photos at model size, and decide who sees which.

    Args:
        data: Any layout of `contracts.dataset`, or `cifar10`, which Keras downloads.
        config: Gives size, shares and seed.
        levels: For data sets with two levels of classes.
        progress: Shows how far decoding is.
        memory_mb: Memory that decoded photos may take, 10^6 bytes; None: half of what is available.
        spill: Folder for the file that takes them where they need more; it has no name and goes by itself.
        leave_out: Classes that the model must not know; their photos become `outside`.
        outside: More photos of products outside the catalogue, in any layout; their labels do not matter.

    Raises:
        DataError: The photos cannot be used.
    """
    found, others = _without(_read(data, levels), leave_out)
    strangers = dataset.unlabelled(outside) if outside is not None else None
    if strangers is not None:
        others = [*others, *strangers.photos]
    rejected = [*found.rejected, *(strangers.rejected if strangers is not None else ())]
    # One pass for both, so that memory, progress and equal photos are one matter.
    everything = Dataset(found.path, found.classes, [*found.photos, *others], rejected)
    decoded, rejected = photos.decode(
        everything,
        config.image_px,
        config.image_px,
        progress,
        memory_mb=memory_mb,
        spill=spill,
        refuse=unusable(found.labels),
    )
    known = int(np.count_nonzero(decoded.labels != photos.NO_CLASS))
    pictures, beyond = decoded.part(0, known), decoded.part(known, len(decoded))
    prints = Prints.of(pictures)
    parts = split(pictures, found.labels, config, alike=alike(pictures, prints=prints))
    near = near_duplicates(pictures, parts, prints=prints)
    told = notes(pictures, found.labels, parts, near)
    if others:
        told.append(_told_of_others(len(others), len(beyond)))
    return Prepared(found, pictures, parts, rejected, told, near, beyond if len(beyond) else None)


def _read(data: Path, levels: Literal["fine", "coarse"]) -> Dataset:
    if str(data) == downloads.CIFAR10 and not data.exists():
        return downloads.cifar10()
    return dataset.read(data, levels=levels)


def _without(found: Dataset, leave_out: Sequence[str]) -> tuple[Dataset, list[Photo]]:
    """Take classes out of a data set.

    Raises:
        DataError: It has no such class, or fewer than two others.
    """
    labels = found.labels
    if unknown := [label for label in leave_out if label not in labels]:
        told = []
        for label in unknown:
            close = difflib.get_close_matches(label, labels, 1)
            told.append(f"{label!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
        raise DataError(
            f"Expected: classes of {found.path} to leave out. Received: {', '.join(told)}.",
            hint=f"its classes are {', '.join(labels[:30])}{', ...' if len(labels) > 30 else ''}",  # noqa: PLR2004
        )
    kept, others = found.without(leave_out)
    if len(kept.classes) < _FEWEST_CLASSES:
        raise DataError(
            f"Expected: at least {_FEWEST_CLASSES} classes to tell apart. "
            f"Received: {', '.join(kept.labels) or 'none'}.",
            hint="add a folder of photos for another class, for example `empty`",
        )
    return kept, others


def _told_of_others(given: int, used: int) -> str:
    gone = given - used
    lost = f"; {gone} more are left out: unreadable, in the catalogue, too, or there twice" if gone else ""
    return f"{used} photos of products outside the catalogue serve to judge how well those are told{lost}."
