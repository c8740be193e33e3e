"""What a person should know of the photos before believing the figures."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from edge_agent.contracts.photos import Pictures
from train.duplicates import NearDuplicate
from train.split import Split

_FEW = 20
_IMBALANCE = 10
_NAMED = 8


def notes(
    pictures: Pictures, labels: Sequence[str], parts: Split, near: Sequence[NearDuplicate]
) -> list[str]:
    """Return warnings, each a sentence or two: few photos, imbalance, copies, classes that nothing judges.

    Args:
        pictures: All that training knows.
        labels: Names of the classes.
        parts: Who stands where.
        near: Near copies in two parts.
    """
    training = np.bincount(pictures.labels[parts.train], minlength=len(labels))
    held = np.bincount(pictures.labels[parts.holdout], minlength=len(labels))
    said = [
        _few(training.tolist(), labels),
        _imbalance(training.tolist(), labels),
        _unjudged(held.tolist(), labels),
        _copies(pictures, parts),
        _near(pictures, near),
        _on_disk(pictures),
    ]
    return [note for note in said if note]


def _few(counts: Sequence[int], labels: Sequence[str]) -> str:
    few = [f"{label} ({count})" for label, count in zip(labels, counts, strict=True) if count < _FEW]
    if not few:
        return ""
    return f"{len(few)} of {len(labels)} classes have fewer than {_FEW} training photos: {_some(few)}."


def _imbalance(counts: Sequence[int], labels: Sequence[str]) -> str:
    most, least = max(counts), min(counts)
    if most <= _IMBALANCE * least:
        return ""
    large, small = labels[counts.index(most)], labels[counts.index(least)]
    return (
        f"Classes are unequal: {most} training photos of {large}, {least} of {small}. "
        "Rare classes weigh more in training; more photos of them help more."
    )


def _unjudged(counts: Sequence[int], labels: Sequence[str]) -> str:
    absent = [label for label, count in zip(labels, counts, strict=True) if not count]
    if not absent:
        return ""
    return (
        f"{len(absent)} of {len(labels)} classes have no photo in the holdout, so that no figure speaks of "
        f"them: {_some(absent)}."
    )


def _copies(pictures: Pictures, parts: Split) -> str:
    again = 0
    for rows in (parts.train, parts.validation, parts.holdout):
        again += sum(count - 1 for count in Counter(pictures.ids[row] for row in rows).values())
    return f"{again} photos are exact copies of another one in the same part." if again else ""


def _near(pictures: Pictures, near: Sequence[NearDuplicate]) -> str:
    if not near:
        return ""
    rows = {row for pair in near for row in (pair.first, pair.second)}
    first, second = pictures.photos[near[0].first].name, pictures.photos[near[0].second].name
    return (
        f"{len(rows)} photos have a near copy in another part, e.g. {first} ({near[0].first_part}) "
        f"and {second} ({near[0].second_part}): figures may be too good. Give photos of one visit, "
        "camera or burst one group (column group of an index.csv)."
    )


def _on_disk(pictures: Pictures) -> str:
    if not pictures.on_disk:
        return ""
    size = f"{pictures.images.nbytes / 1e6:.0f} MB"
    return f"{size} of decoded photos did not fit into memory: they are read from disk."


def _some(told: list[str]) -> str:
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return ", ".join(told[:_NAMED]) + more
