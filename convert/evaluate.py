"""How good a bundle is on a data set, through the device's own classifier."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convert import labelled, trial
from edge_agent.classifier import calibrated
from edge_agent.contracts import bundle
from edge_agent.contracts.bundle import Manifest
from edge_agent.contracts.photos import Part, Photo, Progress, Rejected
from edge_agent.contracts.scoring import (
    Floats,
    Labels,
    accuracy,
    calibration_error,
    coarse_accuracy,
    confusion,
    precisions,
    recalls,
    top_k_accuracy,
    wilson,
)

_TOP = (2, 3, 5)


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: fractions of 1; None where nothing was there to divide by.

    Attributes:
        label: Of the class.
        n: Photos of it.
        recall: Share of its photos that were called by its name.
        interval: The 95 % Wilson interval of that.
        precision: Share of right ones among all that were called by its name.
    """

    label: str
    n: int
    recall: float | None
    interval: tuple[float, float]
    precision: float | None


@dataclass(frozen=True, slots=True)
class Confused:
    """Photos of one class that were called another."""

    label: str
    called: str
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a bundle made of labelled photos: fractions of 1.

    Attributes:
        n: Photos.
        accuracy: Share of them that is right.
        interval: The 95 % Wilson interval of that.
        top_k: Share whose label is among the k highest scores, by k; no k that covers every class.
        coarse_accuracy: Share whose answer is of the right coarse class; None where the data has none.
        calibration_error: Expected calibration error of the top probability.
        unknown: Share whose top probability is below the bundle's threshold: unknown to the device.
        classes: Each class of the model, in its order.
        confusion: int64, (true class, answer), in the model's order.
        rejected: Photos that could not be used.
    """

    n: int
    accuracy: float
    interval: tuple[float, float]
    top_k: dict[int, float]
    coarse_accuracy: float | None
    calibration_error: float
    unknown: float
    classes: list[ClassFigures]
    confusion: NDArray[np.int64]
    rejected: list[Rejected]

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the confusion matrix."""
        return [found.label for found in self.classes]

    def confused(self) -> list[Confused]:
        """Return which classes are taken for which, the most frequent first."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        true, called = np.nonzero(wrong)
        order = np.argsort(-wrong[true, called], kind="stable")
        names = self.labels
        return [
            Confused(names[true[row]], names[called[row]], int(wrong[true[row], called[row]]))
            for row in order.tolist()
        ]


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
    classifier = trial.classifier(bundle.read(path))
    found = labelled.read(data, classifier.labels, levels=levels)
    if part is not None:
        found = labelled.only(found, part)
    pictures, rejected = labelled.decode(found, classifier.height, classifier.width, progress)
    scores = classifier.scores(pictures.images)
    return judged(classifier.manifest, pictures.labels, scores, coarse=found.coarse, rejected=rejected)


def judged(
    manifest: Manifest, labels: Labels, scores: Floats, *, coarse: tuple[str, ...], rejected: list[Rejected]
) -> Evaluation:
    """Return all figures of a model's answers.

    Args:
        manifest: Of the bundle that gave them.
        labels: The truth: int64, (n,), n > 0.
        scores: The answers: float32, (n, classes).
        coarse: The coarse class of each class; empty: there are none.
        rejected: Photos that could not be used.
    """
    probabilities = calibrated(manifest, scores)
    right = accuracy(labels, scores)
    table = confusion(labels, scores)
    return Evaluation(
        n=len(labels),
        accuracy=right,
        interval=wilson(round(right * len(labels)), len(labels)),
        top_k={k: top_k_accuracy(labels, scores, k) for k in _TOP if k < scores.shape[1]},
        coarse_accuracy=coarse_accuracy(labels, scores, coarse) if coarse else None,
        calibration_error=calibration_error(labels, probabilities),
        unknown=float((probabilities.max(axis=1) < manifest.calibration.unknown_below).mean()),
        classes=_by_class(manifest.label_names, table),
        confusion=table,
        rejected=rejected,
    )


def _by_class(labels: list[str], table: NDArray[np.int64]) -> list[ClassFigures]:
    hits, totals = np.diag(table).tolist(), table.sum(axis=1).tolist()
    columns = zip(labels, hits, totals, recalls(table).tolist(), precisions(table).tolist(), strict=True)
    return [
        ClassFigures(label, n, _known(recall), wilson(right, n), _known(precision))
        for label, right, n, recall, precision in columns
    ]


def _known(share: float) -> float | None:
    return None if math.isnan(share) else share
