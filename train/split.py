"""Who sees which photo: training, choices (validation), the final figures (holdout)."""

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Pictures, together
from train.config import TrainConfig

Rows = NDArray[np.int64]
_MIN_PHOTOS = 5
_NAMED = 5
_LARGEST = 300_000
"""Groups times classes up to which the exact, slow way of dividing is quick enough."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of the decoded pictures, disjoint; `calibration` is some of `train`."""

    train: Rows
    validation: Rows
    holdout: Rows
    calibration: Rows


def split(pictures: Pictures, labels: list[str], config: TrainConfig, *, alike: Rows | None = None) -> Split:
    """Decide which photo serves what.

    The holdout is the data set's own test part, or else its validation part, or else a share of
    all photos. Validation is the data set's own where another part is the holdout, else a share of
    the rest. Photos of one group, and equal photos, always stay together.

    Args:
        pictures: Decoded photos.
        labels: Names of the classes.
        config: Gives shares and seed.
        alike: A number for each picture, int64 (n,): those with the same one stay together, too,
            where the data set has not split them itself; None: nothing is known.

    Raises:
        DataError: A class has too few photos, or equal photos stand in two of the data set's own parts.
    """
    _refuse_few(pictures, labels)
    own = np.array([photo.part or "" for photo in pictures.photos])
    _refuse_shared(pictures, own)
    held = "test" if (own == "test").any() else "val"
    holdout = np.flatnonzero(own == held)
    rest = np.flatnonzero(own != held)
    if not len(holdout):
        rest, holdout = _divide(pictures, rest, config.holdout_share, config.seed, alike)
    validation = np.flatnonzero(own == "val") if held == "test" else rest[:0]
    rest = np.setdiff1d(rest, validation)
    if not len(validation):
        rest, validation = _divide(pictures, rest, config.validation_share, config.seed + 1, alike)
    absent = sorted(set(range(len(labels))) - set(pictures.labels[rest].tolist()))
    if absent:
        raise DataError(
            f"Expected: training photos of every class. Received: none of "
            f"{', '.join(repr(labels[row]) for row in absent)}.",
            hint="their photos are all in one group or in another part of the data set; add some",
        )
    return Split(rest, validation, holdout, _calibration(pictures, rest, config))


def _refuse_few(pictures: Pictures, labels: list[str]) -> None:
    found = Counter(pictures.labels.tolist())
    few = [f"{label} ({found[index]})" for index, label in enumerate(labels) if found[index] < _MIN_PHOTOS]
    if few:
        raise DataError(
            f"Expected: at least {_MIN_PHOTOS} readable photos of each class. Received: {', '.join(few)}.",
            hint="add photos of these classes, or leave the classes out",
        )


def _refuse_shared(pictures: Pictures, own: NDArray[np.str_]) -> None:
    """Refuse equal photos, and groups, in two of the data set's own parts."""
    seen: dict[str, int] = {}
    shared = [
        f"{pictures.photos[first].name} and {pictures.photos[row].name}"
        for row, identity in enumerate(pictures.ids)
        if own[first := seen.setdefault(identity, row)] != own[row]
    ]
    if shared:
        raise DataError(
            "Expected: no photo in two parts of the data set. "
            f"Received: {_some(shared)}, which are the same picture.",
            hint="remove one of each two: figures on photos that training has seen mean nothing",
        )
    sides: dict[str, str] = {}
    torn = [
        f"group {photo.group!r} in '{known}' and '{part}'"
        for photo, part in zip(pictures.photos, own, strict=True)
        if (known := sides.setdefault(photo.group, part)) != part
    ]
    if torn:
        raise DataError(
            f"Expected: each group of photos in one part of the data set. "
            f"Received: {_some(list(dict.fromkeys(torn)))}.",
            hint="photos of one store, camera or day know each other: keep them on one side",
        )


def _some(told: list[str]) -> str:
    """Name the first few, and count the rest."""
    more = f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return "; ".join(told[:_NAMED]) + more


def _divide(pictures: Pictures, rows: Rows, share: float, seed: int, alike: Rows | None) -> tuple[Rows, Rows]:
    """Split rows by group and equal content; the fold with most classes on both sides."""
    groups = together(pictures, rows, alike)
    most = int(np.bincount(pictures.labels[rows]).max(initial=0))
    folds = min(round(1 / share), len(set(groups.tolist())), most)
    if folds < 2:  # noqa: PLR2004 - one group cannot be split
        raise DataError(
            f"Expected: at least two groups of photos to split. Received: {len(set(groups.tolist()))} of "
            f"{len(rows)} photos.",
            hint="photos of one group never stand on two sides of a split; add another group",
        )
    ways = _ways(pictures.labels[rows], groups, folds, seed)

    def classes_in_both(way: tuple[Rows, Rows]) -> int:
        kept, taken = (set(pictures.labels[rows[part]].tolist()) for part in way)
        return len(kept) * folds + len(kept & taken)

    # Among equals the first, which the seed has made.
    kept, taken = max(ways, key=classes_in_both)
    return rows[kept], rows[taken]


def _ways(labels: Rows, groups: Rows, folds: int, seed: int) -> list[tuple[Rows, Rows]]:
    """Return each fold against the rest, as places in the rows; about as many of each class in each."""
    numbers, first, where = np.unique(groups, return_index=True, return_inverse=True)
    classes = int(labels.max()) + 1
    with warnings.catch_warnings():
        # They warn that a class has fewer photos than there are folds; that is checked elsewhere.
        warnings.simplefilter("ignore", UserWarning)
        if len(numbers) * classes <= _LARGEST:
            folding = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            return list(folding.split(labels, labels, groups))
        # It looks at every class for every group: minutes for thousands of classes. Among so many
        # groups it is enough to deal them out by the class of their first photo.
        whole = labels[first]
        most = int(np.bincount(whole).max())
        if most < 2:  # noqa: PLR2004 - one group cannot be split
            raise DataError(
                "Expected: at least two groups of photos of a class. Received: one of each class.",
                hint="photos of one group never stand on two sides of a split; add other groups",
            )
        dealing = StratifiedKFold(min(folds, most), shuffle=True, random_state=seed)
        taken = [np.isin(where, some) for _, some in dealing.split(whole, whole)]
    return [(np.flatnonzero(~side), np.flatnonzero(side)) for side in taken]


def _calibration(pictures: Pictures, rows: Rows, config: TrainConfig) -> Rows:
    """Draw training photos for the quantizer, the classes by turns so that none is missing."""
    rng = np.random.default_rng([config.seed, 3])
    shuffled = rng.permutation(rows)
    turn: Counter[int] = Counter()
    order: list[tuple[int, int, int]] = []
    for row in shuffled:
        label = int(pictures.labels[row])
        order.append((turn[label], len(order), int(row)))
        turn[label] += 1
    return np.array(sorted(row for _, _, row in sorted(order)[: config.calibration_count]), np.int64)
