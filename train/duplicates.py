"""Photos that are the same picture, or nearly: what they may not do, and where they stand."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.photos import NO_CLASS, Photo, Pictures, Refuse
from train.fingerprint import AT_MOST, Prints, Rows, pairs
from train.split import Split

PartOf = Literal["train", "validation", "holdout"]
_PARTS: tuple[PartOf, ...] = ("train", "validation", "holdout")
_NO_PART = -1
_LARGEST = 0.2
"""Share of a class that may stand together only because its photos look alike."""
_PAIR = 2


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two pictures that look alike in two parts of a split.

    Attributes:
        first: Row of the one that stands in training, if one does.
        second: Row of the other.
        first_part: Where the first stands.
        second_part: Where the second stands.
        distance: Bits in which their hashes differ, 0 to 64.
    """

    first: int
    second: int
    first_part: PartOf
    second_part: PartOf
    distance: int


def near_duplicates(
    pictures: Pictures, parts: Split, *, at_most: int = AT_MOST, prints: Prints | None = None
) -> list[NearDuplicate]:
    """Return pictures that have a near copy in another part, each with its nearest, nearest pairs first.

    Args:
        pictures: All of them.
        parts: Who stands where.
        at_most: Bits of 64 in which the hashes of near copies differ.
        prints: Of the pictures, where they are known already.
    """
    prints = prints or Prints.of(pictures)
    side = np.full(len(pictures), _NO_PART, np.int64)
    for number, name in enumerate(_PARTS):
        side[getattr(parts, name)] = number
    nearest = np.full(len(pictures), at_most + 1, np.int64)
    mate = np.full(len(pictures), _NO_PART, np.int64)

    def wanted(one: Rows, other: Rows, apart: Rows) -> NDArray[np.bool_]:
        torn = (side[one] != side[other]) & (side[one] >= 0) & (side[other] >= 0)
        nearer: NDArray[np.bool_] = torn & ((apart < nearest[one]) | (apart < nearest[other]))
        return nearer

    for found in pairs(prints, at_most, wanted):
        for one, other, apart in zip(*(rows.tolist() for rows in found), strict=True):
            for row, with_row in ((one, other), (other, one)):
                if apart < nearest[row]:
                    nearest[row], mate[row] = apart, with_row
    couples = {
        tuple(sorted((row, int(mate[row])), key=lambda item: (side[item], item)))
        for row in np.flatnonzero(mate >= 0).tolist()
    }
    made = [
        NearDuplicate(
            first, second, _PARTS[side[first]], _PARTS[side[second]], _distance(prints, first, second)
        )
        for first, second in couples
    ]
    return sorted(made, key=lambda item: (item.distance, item.first, item.second))


def _distance(prints: Prints, first: int, second: int) -> int:
    return int(np.bitwise_count(prints.hashes[first] ^ prints.hashes[second]))


def alike(pictures: Pictures, *, at_most: int = AT_MOST, prints: Prints | None = None) -> Rows:
    """Return a number for each picture, int64 (n,): the same for near copies, which a split keeps together.

    Only photos without a group of their own: who gave groups has said what belongs together. Only
    photos of one class, and never more of them together than a fifth of it (but two): photos of one
    still shelf all look alike, and a chain of them would pull the whole class to one side.

    Args:
        pictures: All of them.
        at_most: Bits of 64 in which the hashes of near copies differ.
        prints: Of the pictures, where they are known already.
    """
    prints = prints or Prints.of(pictures)
    alone = np.array([photo.group == photo.name for photo in pictures.photos], np.bool_)
    labels = pictures.labels
    counts = np.bincount(labels, minlength=1)
    largest = np.maximum((_LARGEST * counts).astype(np.int64), _PAIR)
    parent = np.arange(len(pictures), dtype=np.int64)
    size = np.ones(len(pictures), np.int64)

    def wanted(one: Rows, other: Rows, _apart: Rows) -> NDArray[np.bool_]:
        first, second = _roots(parent, one), _roots(parent, other)
        fits = (first != second) & (size[first] + size[second] <= largest[labels[one]])
        may: NDArray[np.bool_] = fits & alone[one] & alone[other] & (labels[one] == labels[other])
        return may

    for one, other, _ in pairs(prints, at_most, wanted):
        for row, with_row in zip(one.tolist(), other.tolist(), strict=True):
            first, second = _roots(parent, np.array([row, with_row])).tolist()
            if first != second and size[first] + size[second] <= largest[labels[row]]:
                parent[second] = first
                size[first] += size[second]
    return _roots(parent, np.arange(len(pictures), dtype=np.int64))


def _roots(parent: Rows, rows: Rows) -> Rows:
    while not np.array_equal(above := parent[rows], rows):
        parent[rows] = parent[above]  # halves the way each time
        rows = above
    return rows


def unusable(labels: Sequence[str]) -> Refuse:
    """Return what leaves out equal photos that contradict each other.

    One picture under two labels is wrong under one of them at least, and nobody knows which: all of
    its copies are left out. Copies in two parts of a data set are not: they are an error of the split.
    A photo from outside of the catalogue that is in the catalogue, or comes again, is left out alone.

    Args:
        labels: Names of the classes.
    """

    def refuse(photos: Sequence[Photo], ids: Sequence[str]) -> Mapping[int, str]:
        copies: defaultdict[str, list[int]] = defaultdict(list)
        for row, identity in enumerate(ids):
            copies[identity].append(row)
        refused: dict[int, str] = {}
        for rows in copies.values():
            if len(rows) > 1:
                refused |= _contradictions(photos, rows, labels)
        return refused

    return refuse


def _contradictions(photos: Sequence[Photo], rows: list[int], labels: Sequence[str]) -> dict[int, str]:
    """Return which of some equal photos to leave out, and why."""
    inside = [row for row in rows if photos[row].label != NO_CLASS]
    outside = [row for row in rows if photos[row].label == NO_CLASS]
    first = photos[rows[0]] if not inside else photos[inside[0]]
    refused = dict.fromkeys(
        outside if inside else outside[1:],
        f"Expected: a photo of nothing in the catalogue, once. Received: the same picture as {first.name}.",
    )
    if len({photos[row].part for row in inside}) == 1 and len({photos[row].label for row in inside}) > 1:
        for row in inside:
            other = next(photos[item] for item in inside if photos[item].label != photos[row].label)
            refused[row] = (
                f"Expected: one class for one picture. Received: {labels[photos[row].label]} here, "
                f"{labels[other.label]} in {other.name}."
            )
    return refused
