"""Products outside the catalogue: told from the catalogue's by the top probability, as the device does.

The threshold is chosen on photos that the figures do not use. A product of the catalogue that is
called unknown costs most: the shelf counts as not filled, and somebody walks there for nothing.
So that error is bounded (Neyman & Pearson 1933): of the right answers on validation photos at least
99 % stay. Within that bound the threshold is the one with the best balanced accuracy (Youden 1950)
between right answers kept and outside photos told as unknown; among equals, the one in the
widest gap. Where nobody has photos from outside, 1 % of the right answers fall under it, and it is at
most 0.5: an answer that holds more than half of the probability has no rival.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import bootstrap, mannwhitneyu
from sklearn.metrics import roc_auc_score

from edge_agent.contracts.photos import Pictures
from edge_agent.contracts.scoring import Floats, softmax, wilson

_LOST_AT_MOST = 0.01
_BLIND_AT_MOST = 0.5
_DRAWS = 1000
_DRAWS_AT_ONCE = 100

Doubles = NDArray[np.float64]


def halves(outside: Pictures) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows that choose the threshold, and rows that are reported.

    The content hashes decide, by turns in their order: the order of reading does not matter, and equal
    photos stay together.
    """
    turns = np.unique(np.array(outside.ids), return_inverse=True)[1] % 2 if len(outside) else np.zeros(0)
    return np.flatnonzero(turns == 0), np.flatnonzero(turns == 1)


def energy(logits: Floats, temperature: float) -> Doubles:
    """Return minus the free energy, float64 (n,), of logits (Liu et al. 2020, equation 4)."""
    return temperature * np.asarray(logsumexp(logits.astype(np.float64) / temperature, axis=1))


def choose_threshold(
    labels: NDArray[np.int64], probabilities: Floats, outside: Floats | None = None
) -> float:
    """Return the confidence, 0 to 1, below which the device says "unknown".

    Args:
        labels: int64, (n,): of the validation photos.
        probabilities: float32, (n, classes): of the same, after temperature.
        outside: float32, (m, classes): of photos outside the catalogue; None, or none: the rule without.
    """
    right = probabilities.max(axis=1)[probabilities.argmax(axis=1) == labels].astype(np.float64)
    if not len(right):
        return 0.0
    if outside is None or not len(outside):
        return float(min(np.quantile(right, _LOST_AT_MOST), _BLIND_AT_MOST))
    least = 1 / probabilities.shape[1]
    return _between(least, np.sort(right), np.sort(outside.max(axis=1).astype(np.float64)))


def _between(least: float, right: Doubles, outside: Doubles) -> float:
    """Return the threshold by the rule above, of sorted confidences, which are `least` or more."""
    values = np.unique(np.concatenate([[least], right, outside, [1.0]]))
    middles, gaps = (values[1:] + values[:-1]) / 2, np.diff(values)
    kept = 1 - np.searchsorted(right, middles) / len(right)
    told = np.searchsorted(outside, middles) / len(outside)
    allowed = kept >= 1 - _LOST_AT_MOST
    balanced = np.where(allowed, kept + told, -1)
    return float(middles[np.lexsort((gaps, balanced))[-1]])


def auroc(known: Doubles, outside: Doubles) -> float:
    """Return how often, 0 to 1, a known photo's score is above an outside one's (ties count half)."""
    truth = np.repeat([1, 0], [len(known), len(outside)])
    return float(roc_auc_score(truth, np.concatenate([known, outside])))


def auroc_interval(known: Doubles, outside: Doubles, *, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the AUROC, by bootstrap over photos (Efron 1979, percentiles)."""
    if min(len(known), len(outside)) < 2:  # noqa: PLR2004 - one photo says nothing about its spread
        return 0.0, 1.0
    drawn = bootstrap(
        (known, outside),
        _ranked,
        n_resamples=_DRAWS,
        batch=_DRAWS_AT_ONCE,
        method="percentile",
        rng=np.random.default_rng([seed, 11]),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _ranked(known: Doubles, outside: Doubles, axis: int = -1) -> Doubles:
    """Return the same as `auroc`, of many draws at once, by ranks (Hanley & McNeil 1982)."""
    above = mannwhitneyu(known, outside, axis=axis, method="asymptotic").statistic
    return np.asarray(above / (known.shape[axis] * outside.shape[axis]))


def open_set(
    labels: NDArray[np.int64],
    scores: Floats,
    outside: Floats,
    *,
    temperature: float,
    threshold: float,
    seed: int,
) -> dict[str, Any] | None:
    """Return how well outside photos are told from the catalogue's; None where either is missing.

    Args:
        labels: int64, (n,): of the holdout.
        scores: float32, (n, classes): logits of the holdout.
        outside: float32, (m, classes): logits of outside photos that have chosen nothing.
        temperature: Of the device.
        threshold: Of the device.
        seed: Of the bootstrap.

    Returns:
        `outside_n`; `auroc` by the device's rule with `auroc_95`; `auroc_energy`, for comparison;
        `told_unknown`, the share of outside photos, with `told_unknown_95`; `right_lost`, the share of
        right answers on the holdout that are called unknown, with `right_lost_95`.
    """
    if not len(scores) or not len(outside):
        return None
    known, foreign = (softmax(part, temperature).max(axis=1).astype(np.float64) for part in (scores, outside))
    right = known[scores.argmax(axis=1) == labels]
    told, lost = int((foreign < threshold).sum()), int((right < threshold).sum())
    return {
        "outside_n": len(outside),
        "auroc": auroc(known, foreign),
        "auroc_95": list(auroc_interval(known, foreign, seed=seed)),
        "auroc_energy": auroc(energy(scores, temperature), energy(outside, temperature)),
        "told_unknown": told / len(foreign),
        "told_unknown_95": list(wilson(told, len(foreign))),
        "right_lost": lost / len(right) if len(right) else None,
        "right_lost_95": list(wilson(lost, len(right))),
    }
