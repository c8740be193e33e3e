"""How good a trained model is: choices on validation photos, figures on the holdout, nothing on both."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Dataset, Pictures, Progress
from edge_agent.contracts.scoring import (
    Floats,
    accuracy,
    calibration_error,
    coarse_accuracy,
    confusion,
    fit_temperature,
    negative_log_likelihood,
    precisions,
    recalls,
    softmax,
    top_k_accuracy,
    wilson,
)
from train.open_set import choose_threshold, halves, open_set
from train.robustness import Predict, robustness

_TOP = 5
_TOP_FROM_CLASSES = 11
_ROBUSTNESS_PHOTOS = 1000


@dataclass(frozen=True, slots=True)
class Quality:
    """What is known about a model.

    Attributes:
        temperature: Divides the logits; chosen on validation photos.
        threshold: Confidence below which the device says "unknown"; chosen on validation photos, and
            on half of the outside photos where there are some.
        metrics: JSON values, without NaN: None where a figure has nothing to stand on.
        scores: float32, (n, classes): logits of the holdout.
        outside_scores: float32, (m, classes): logits of the outside photos that chose nothing; None
            where there are none.
    """

    temperature: float
    threshold: float
    metrics: dict[str, Any]
    scores: Floats
    outside_scores: Floats | None = None


def measure(
    predict: Predict,
    found: Dataset,
    validation: Pictures,
    holdout: Pictures,
    outside: Pictures | None,
    *,
    seed: int,
    progress: Progress[tuple[str, int]] = lambda items, _total: items,
) -> Quality:
    """Choose temperature and threshold, and measure the rest.

    Args:
        predict: The model.
        found: Gives the classes, and their coarse ones where it has them.
        validation: Photos for choices.
        holdout: Photos that neither training nor any choice has seen; may lack classes.
        outside: Photos of products outside the catalogue.
        seed: Of what is drawn.
        progress: Shows how far the robustness figures are.

    Raises:
        DataError: The model gives no numbers.
    """
    answers = predict(validation.images)
    scores = predict(holdout.images)
    _require_numbers(answers, scores)
    temperature = fit_temperature(validation.labels, answers)
    choosing, judging = _outside(predict, outside)
    threshold = choose_threshold(
        validation.labels,
        softmax(answers, temperature),
        None if choosing is None else softmax(choosing, temperature),
    )
    metrics = _figures(found, holdout.labels, scores, temperature)
    metrics["robustness"] = robustness(
        predict, holdout, seed=seed, progress=progress, at_most=_ROBUSTNESS_PHOTOS
    )
    metrics["robustness_n"] = min(len(holdout), _ROBUSTNESS_PHOTOS)
    metrics["open_set"] = None
    if judging is not None:
        metrics["open_set"] = open_set(
            holdout.labels, scores, judging, temperature=temperature, threshold=threshold, seed=seed
        )
    return Quality(temperature, threshold, metrics, scores, judging)


def _require_numbers(*answers: Floats) -> None:
    if not all(np.isfinite(part).all() for part in answers):
        raise DataError(
            "Expected: a model that gives numbers. Received: one that diverged in training.",
            hint="lower --learning-rate",
        )


def _outside(predict: Predict, outside: Pictures | None) -> tuple[Floats | None, Floats | None]:
    """Return logits of outside photos: those that choose, those that judge."""
    if outside is None or not len(outside):
        return None, None
    scores = predict(outside.images)
    _require_numbers(scores)
    choosing, judging = halves(outside)
    return scores[choosing], scores[judging]


def _figures(found: Dataset, labels: NDArray[np.int64], scores: Floats, temperature: float) -> dict[str, Any]:
    hits = int((scores.argmax(axis=1) == labels).sum())
    table = confusion(labels, scores)
    recall = recalls(table)
    figures: dict[str, Any] = {
        "holdout_n": len(labels),
        "holdout_accuracy": _number(accuracy(labels, scores)),
        "holdout_accuracy_95": list(wilson(hits, len(labels))),
        "holdout_calibration_error": None,
        "holdout_calibration_error_raw": None,
        "holdout_negative_log_likelihood": None,
        "holdout_macro_recall": _mean(recall.tolist()),
        "holdout_recall": _named(found.labels, recall),
        "holdout_precision": _named(found.labels, precisions(table)),
    }
    if len(labels):
        figures |= {
            "holdout_calibration_error": calibration_error(labels, softmax(scores, temperature)),
            "holdout_calibration_error_raw": calibration_error(labels, softmax(scores)),
            "holdout_negative_log_likelihood": negative_log_likelihood(labels, scores, temperature),
        }
    if len(found.classes) >= _TOP_FROM_CLASSES:
        figures["holdout_top5"] = _number(top_k_accuracy(labels, scores, _TOP))
    if found.coarse:
        figures["holdout_coarse_accuracy"] = _number(coarse_accuracy(labels, scores, found.coarse))
    return figures


def _named(labels: list[str], values: Floats) -> dict[str, float]:
    """Return the values by class; a class without one is left out."""
    return {label: float(value) for label, value in zip(labels, values, strict=True) if not math.isnan(value)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None
