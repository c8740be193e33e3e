"""How good a bundle is on a data set, through the device's own classifier."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle, dataset, photos
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Dataset, Part, Photo, Progress, Rejected
from edge_agent.contracts.scoring import accuracy, calibration_error, confusion, recalls, softmax, wilson


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures as fractions of 1; `interval` is the 95 % Wilson interval of the accuracy."""

    n: int
    accuracy: float
    interval: tuple[float, float]
    calibration_error: float
    recall: dict[str, float]
    rejected: list[Rejected]


def evaluate(
    path: Path,
    data: Path,
    *,
    part: Part | None,
    levels: Literal["fine", "coarse"],
    progress: Progress[Photo],
) -> Evaluation:
    """Run a bundle over labelled photos.

    Args:
        path: The bundle.
        data: Any layout of `contracts.dataset`.
        part: Only this part of the data set; None: all of it.
        levels: For data sets with two levels of classes.
        progress: Shows how far it is.

    Raises:
        BundleError: The bundle cannot be used.
        DataError: The photos cannot be used, or have classes that the model does not know.
    """
    classifier = Classifier(bundle.read(path))
    found = dataset.read(data, levels=levels).relabelled(classifier.labels)
    if part is not None:
        found = _only(found, part)
    pictures, rejected = photos.decode(found, classifier.height, classifier.width, progress)
    if not len(pictures):
        raise DataError(f"Expected: readable photos in {data}. Received: {len(rejected)}, all unreadable.")
    scores = classifier.scores(pictures.images)
    right = accuracy(pictures.labels, scores)
    recall = recalls(confusion(pictures.labels, scores))
    probabilities = (
        scores
        if classifier.manifest.output.kind == "probabilities"
        else softmax(scores, classifier.manifest.calibration.temperature)
    )
    return Evaluation(
        n=len(pictures),
        accuracy=right,
        interval=wilson(round(right * len(pictures)), len(pictures)),
        calibration_error=calibration_error(pictures.labels, probabilities),
        recall={
            label: float(value)
            for label, value in zip(classifier.labels, recall, strict=True)
            if not np.isnan(value)
        },
        rejected=rejected,
    )


def _only(found: Dataset, part: Part) -> Dataset:
    kept = [photo for photo in found.photos if photo.part == part]
    if not kept:
        there = sorted({photo.part or "none named" for photo in found.photos})
        raise DataError(
            f"Expected: photos of the part {part!r}. Received: {', '.join(there)}.",
            hint="leave --split out to use every photo",
        )
    return Dataset(found.path, found.classes, kept, found.rejected)
