"""How good is a classifier: the same few figures for train, convert, gate and agent. Pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

_BINS = 15
_TEMPERATURES = np.geomspace(0.05, 20.0, 400)


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return probabilities, float32 (n, classes), of logits divided by a temperature."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float32)


def accuracy(labels: Labels, scores: Floats) -> float:
    """Return the share, 0 to 1, of rows whose highest score is the label's."""
    return float((scores.argmax(axis=1) == labels).mean()) if len(labels) else float("nan")


def top_k_accuracy(labels: Labels, scores: Floats, k: int) -> float:
    """Return the share, 0 to 1, of rows whose label is among the k highest scores; NaN of none."""
    if not len(labels):
        return float("nan")
    highest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((highest == labels[:, None]).any(axis=1).mean())


def coarse_accuracy(labels: Labels, scores: Floats, coarse: Sequence[str]) -> float:
    """Return the share, 0 to 1, of rows whose answer is of the label's coarse class; NaN of none.

    Args:
        labels: int64, (n,).
        scores: float32, (n, classes).
        coarse: The coarse class of each class.
    """
    places = np.unique(list(coarse), return_inverse=True)[1]
    return float((places[scores.argmax(axis=1)] == places[labels]).mean()) if len(labels) else float("nan")


def confusion(labels: Labels, scores: Floats) -> NDArray[np.int64]:
    """Return counts (true class, predicted class)."""
    classes = scores.shape[1]
    pairs = labels * classes + scores.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def recalls(table: NDArray[np.int64]) -> Floats:
    """Return the recall of each class, NaN where the class has no sample."""
    totals = table.sum(axis=1)
    return np.where(totals > 0, np.diag(table) / np.maximum(totals, 1), np.nan).astype(np.float32)


def precisions(table: NDArray[np.int64]) -> Floats:
    """Return the precision of each class, NaN where nothing was predicted as it."""
    return recalls(table.T)


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a share (Wilson 1927), which holds for small n too."""
    if n == 0:
        return 0.0, 1.0
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * float(np.sqrt(share * (1 - share) / n + spread / (4 * n)))
    # Rounding must not push the bounds past the share itself at 0 and at 1.
    return min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often answers of equal confidence are right: 15 equal bins of the top probability.

    Attributes:
        counts: int64, (bins,): answers in each.
        confidence: float64, (bins,): their mean top probability; NaN where there are none.
        right: float64, (bins,): the share of them that is right; NaN where there are none.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.float64]


def reliability(labels: Labels, probabilities: Floats) -> Reliability:
    """Return what a reliability diagram shows (DeGroot & Fienberg 1983)."""
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS).astype(np.int64)
    sums = [np.bincount(bins, weights=weights, minlength=_BINS) for weights in (confidence, hit)]
    means = [np.where(counts > 0, total / np.maximum(counts, 1), np.nan) for total in sums]
    return Reliability(counts, *means)


def calibration_error(labels: Labels, probabilities: Floats) -> float:
    """Return the expected calibration error over 15 equal bins (Guo et al. 2017, equation 3)."""
    found = reliability(labels, probabilities)
    gaps = np.nan_to_num(np.abs(found.right - found.confidence)) * found.counts
    return float(gaps.sum() / max(len(labels), 1))


def negative_log_likelihood(labels: Labels, logits: Floats, temperature: float) -> float:
    """Return the mean negative log likelihood of the labels, in nats."""
    scaled = logits.astype(np.float64) / temperature
    top = scaled.max(axis=1)
    log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return float((log_sum - scaled[np.arange(len(labels)), labels]).mean())


def fit_temperature(labels: Labels, logits: Floats) -> float:
    """Return the temperature with the least negative log likelihood (Guo et al. 2017, section 4.2).

    One more photo of no known class counts along (Laplace's rule): without a single mistake among a few
    photos the likelihood alone asks for certainty.
    """
    if not len(labels):
        return 1.0

    def doubtful(temperature: float) -> float:
        known = negative_log_likelihood(labels, logits, temperature)
        # For every class alike, the log likelihood differs from that of the top by the mean distance to it.
        tops = logits.argmax(axis=1)
        distance = float((logits.max(axis=1) - logits.mean(axis=1)).mean()) / temperature
        unknown = negative_log_likelihood(tops, logits, temperature) + distance
        return (len(labels) * known + unknown) / (len(labels) + 1)

    return float(min(_TEMPERATURES, key=lambda t: doubtful(float(t))))
