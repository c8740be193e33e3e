"""The gate: is the int8 model as good as the float one, on photos that neither has seen?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from convert.recipe import Budget
from edge_agent.contracts.bundle import RecallDrop, Score, Scorecard
from edge_agent.contracts.scoring import (
    Floats,
    Labels,
    accuracy,
    calibration_error,
    confusion,
    recalls,
    softmax,
)

_Z = 1.96
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Answers:
    """What one form of the model says about the holdout.

    Attributes:
        scores: float32, (n, classes).
        probabilities: Calibrated, float32, (n, classes).
    """

    scores: Floats
    probabilities: Floats


def compare(truth: Labels, float32: Answers, int8: Answers, labels: Sequence[str]) -> Scorecard:
    """Return both models' figures on the same photos.

    Args:
        truth: int64, (n,).
        float32: Of the float model.
        int8: Of the device's classifier.
        labels: Of the classes.
    """
    before, after = (_score(truth, answers, labels) for answers in (float32, int8))
    same = float32.scores.argmax(axis=1) == int8.scores.argmax(axis=1)
    return Scorecard(
        n=len(truth),
        float32=before,
        int8=after,
        drop_points=round(100 * (before.accuracy - after.accuracy), 6),
        agreement=float(same.mean()),
        recall_drop=_recall_drops(truth, float32.scores, int8.scores, labels),
    )


def _score(truth: Labels, answers: Answers, labels: Sequence[str]) -> Score:
    recall = recalls(confusion(truth, answers.scores))
    told = {label: float(value) for label, value in zip(labels, recall, strict=True) if not np.isnan(value)}
    return Score(
        accuracy=accuracy(truth, answers.scores),
        recall=told,
        calibration_error=calibration_error(truth, answers.probabilities),
    )


def _recall_drops(
    truth: Labels, float32: Floats, int8: Floats, labels: Sequence[str]
) -> dict[str, RecallDrop]:
    before, after = float32.argmax(axis=1) == truth, int8.argmax(axis=1) == truth
    found = {}
    for number, label in enumerate(labels):
        rows = truth == number
        if n := int(rows.sum()):
            lost, won = int((before & ~after & rows).sum()), int((~before & after & rows).sum())
            low, high = paired_interval(lost, won, n)
            found[label] = RecallDrop(
                n=n,
                points=round(100 * (lost - won) / n, 4),
                low_points=round(100 * low, 4),
                high_points=round(100 * high, 4),
            )
    return found


def paired_interval(lost: int, won: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a difference between two shares of the same n photos.

    Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data": it holds for small n too.

    Args:
        lost: Photos that only the first has right.
        won: Photos that only the second has right.
        n: Of all.
    """
    down, up = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = _Z * float(np.sqrt((down + up - (down - up) ** 2) / (n + 2)))
    return max(-1.0, down - up - half), min(1.0, down - up + half)


def over_budget(card: Scorecard, budget: Budget) -> list[str]:
    """Return everything that was lost, in words; nothing: the int8 model is as good."""
    lost = []
    one = 100 / card.n
    if _over(card.drop_points, max(budget.max_drop_points, one)):
        lost.append(
            f"accuracy fell by {card.drop_points:.2f} points (at most {budget.max_drop_points:g}), "
            f"from {100 * card.float32.accuracy:.2f} to {100 * card.int8.accuracy:.2f} %"
        )
    if _over(100 * (1 - card.agreement), max(100 * (1 - budget.min_agreement), one)):
        lost.append(
            f"both models agree on {100 * card.agreement:.2f} % (at least {100 * budget.min_agreement:g})"
        )
    for label, drop in card.recall_drop.items():
        if _over(drop.points, max(budget.max_recall_drop_points, 100 / drop.n)) and drop.low_points > 0:
            lost.append(
                f"recall of {label!r} fell by {drop.points:.1f} points on {drop.n} photos (95 % interval "
                f"{drop.low_points:.1f} to {drop.high_points:.1f}; at most {budget.max_recall_drop_points:g})"
            )
    before, after = card.float32.calibration_error, card.int8.calibration_error
    if (
        before is not None
        and after is not None
        and _over(100 * (after - before), budget.max_calibration_rise_points)
    ):
        lost.append(
            f"the calibration error rose from {100 * before:.1f} to {100 * after:.1f} points "
            f"(by at most {budget.max_calibration_rise_points:g})"
        )
    return lost


def _over(points: float, allowed: float) -> bool:
    # Recalls are float32: a thousandth of a point is rounding.
    return points > allowed + 1e-3


def matched_temperature(float32: Floats, int8: Floats, temperature: float) -> float:
    """Return the temperature at which int8 logits mean what the float ones mean at theirs.

    The float model's temperature was fitted on photos that training had not seen, which are gone by now.
    Its calibrated probabilities stand for them: the least mean Kullback-Leibler divergence from these.

    Args:
        float32: Logits, (n, classes).
        int8: Logits of the same pictures.
        temperature: Of the float model.
    """
    wanted = softmax(float32, temperature).astype(np.float64)

    def apart(log_temperature: float) -> float:
        given = softmax(int8, float(np.exp(log_temperature))).astype(np.float64)
        return float(-(wanted * np.log(given + _TINY)).sum(axis=1).mean())

    near = np.log(temperature)
    found = minimize_scalar(apart, bounds=(near - 1.0, near + 1.0), method="bounded")
    # Rounded: the last digits depend on the machine, and the same run must give the same bytes.
    return round(float(np.exp(found.x)), 4)
