"""The gate: is the int8 model as good as the float one, on photos that neither has seen?"""

from dataclasses import dataclass

import numpy as np

from edge_agent.contracts.bundle import Score, Scorecard
from edge_agent.contracts.errors import GateError, UsageError
from edge_agent.contracts.run import Samples
from edge_agent.contracts.scoring import Floats, accuracy, confusion, recalls

_VERY_FEW, _FEW = 4, 10
"""Photos of a class under which a single one says little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What quantization may cost.

    One photo is always allowed, two of a class with four to nine: there they are many points and
    no evidence. Agreement is a coarse net for a model that computes something else altogether: where
    the float model guesses, the int8 one may well guess differently.

    Attributes:
        max_drop_points: Of accuracy, percentage points.
        max_recall_drop_points: Of any one class, percentage points.
        min_agreement: Share of photos on which both models say the same.
    """

    max_drop_points: float = 1.0
    max_recall_drop_points: float = 10.0
    min_agreement: float = 0.9

    def __post_init__(self) -> None:
        for name, high in (("max_drop_points", 100), ("max_recall_drop_points", 100), ("min_agreement", 1)):
            if not 0 <= (value := getattr(self, name)) <= high:
                raise UsageError(f"Expected: {name} from 0 to {high}. Received: {value}.")


def compare(holdout: Samples, float32: Floats, int8: Floats, labels: list[str]) -> Scorecard:
    """Return both models' figures on the same photos.

    Args:
        holdout: The truth.
        float32: Scores of the float model, (n, classes).
        int8: Scores of the device's classifier, (n, classes).
        labels: Of the classes.
    """
    found = [_score(holdout, scores, labels) for scores in (float32, int8)]
    return Scorecard(
        n=len(holdout.labels),
        float32=found[0],
        int8=found[1],
        drop_points=round(100 * (found[0].accuracy - found[1].accuracy), 6),
        agreement=float((float32.argmax(axis=1) == int8.argmax(axis=1)).mean()),
    )


def _score(holdout: Samples, scores: Floats, labels: list[str]) -> Score:
    recall = recalls(confusion(holdout.labels, scores))
    told = {label: float(value) for label, value in zip(labels, recall, strict=True) if not np.isnan(value)}
    return Score(accuracy=accuracy(holdout.labels, scores), recall=told)


def judge(card: Scorecard, holdout: Samples, labels: list[str], budget: Budget) -> None:
    """Say yes by returning.

    Raises:
        GateError: What was lost; everything that is over budget.
    """
    counts = dict(zip(labels, np.bincount(holdout.labels, minlength=len(labels)).tolist(), strict=True))
    lost = []
    if _over(card.drop_points, budget.max_drop_points, card.n):
        lost.append(
            f"accuracy fell by {card.drop_points:.2f} points (at most {budget.max_drop_points:g}), "
            f"from {100 * card.float32.accuracy:.2f} to {100 * card.int8.accuracy:.2f} %"
        )
    apart = 1 - card.agreement
    if _over(100 * apart, 100 * (1 - budget.min_agreement), card.n):
        lost.append(
            f"both models agree on {100 * card.agreement:.2f} % (at least {100 * budget.min_agreement:g})"
        )
    for label, before in card.float32.recall.items():
        drop = 100 * (before - card.int8.recall[label])
        if _over(drop, budget.max_recall_drop_points, counts[label]):
            lost.append(
                f"recall of {label!r} fell by {drop:.1f} points (at most {budget.max_recall_drop_points:g})"
            )
    if lost:
        raise GateError(
            f"Expected: an int8 model as good as the float one on {card.n} photos. "
            f"Received: {'; '.join(lost)}.",
            hint="train longer or with more photos of these classes, or convert with --quantization qat",
        )


def _over(points: float, allowed: float, photos: int) -> bool:
    spared = 2 if _VERY_FEW <= photos < _FEW else 1
    # Recalls are float32: a thousandth of a point is rounding.
    return points > max(allowed, 100 * spared / photos) + 1e-3
