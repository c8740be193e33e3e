"""The gate."""

import numpy as np
import pytest

from convert.parity import Budget, compare, judge
from edge_agent.contracts.errors import GateError
from edge_agent.contracts.run import Samples
from edge_agent.contracts.scoring import Floats

LABELS = ["empty", "milk", "tea"]
N = 300
TRUTH = np.arange(N) % 3


def holdout() -> Samples:
    return Samples(np.zeros((N, 8, 8, 3), np.uint8), TRUTH.astype(np.int64), tuple(map(str, range(N))))


def answers(wrong: list[int]) -> Floats:
    """Scores that are right but for some rows, which say the next class."""
    said = TRUTH.copy()
    said[wrong] = (said[wrong] + 1) % 3
    return np.eye(3, dtype=np.float32)[said]


def milk(count: int) -> list[int]:
    return [row for row in range(N) if TRUTH[row] == 1][:count]


@pytest.mark.parametrize(
    ("float_wrong", "int8_wrong", "budget", "said"),
    [
        ([], [], Budget(), None),
        ([], [0], Budget(), None),
        ([0, 1, 2], [], Budget(), None),
        ([], [0, 1, 2], Budget(), None),
        ([], [0, 1, 2, 3], Budget(), "accuracy fell by 1.33 points"),
        ([], [0, 1, 2, 3], Budget(max_drop_points=2), None),
        (list(range(18)), list(range(18, 36)), Budget(), "agree on 88.00 %"),
        (list(range(6)), list(range(6, 12)), Budget(), None),
        (list(range(6)), list(range(6, 12)), Budget(min_agreement=0.97), "agree on 96.00 %"),
        ([], milk(11), Budget(max_drop_points=9, min_agreement=0), "recall of 'milk' fell by 11.0"),
        ([], milk(10), Budget(max_drop_points=9, min_agreement=0), None),
    ],
)
def test_the_gate(float_wrong: list[int], int8_wrong: list[int], budget: Budget, said: str | None) -> None:
    card = compare(holdout(), answers(float_wrong), answers(int8_wrong), LABELS)
    assert card.drop_points == pytest.approx((len(int8_wrong) - len(float_wrong)) / 3)
    if said is None:
        judge(card, holdout(), LABELS, budget)
    else:
        with pytest.raises(GateError, match=said):
            judge(card, holdout(), LABELS, budget)


def test_everything_that_is_lost_is_told_at_once() -> None:
    card = compare(holdout(), answers([]), answers(list(range(150))), LABELS)
    with pytest.raises(GateError) as error:
        judge(card, holdout(), LABELS, Budget())
    assert all(word in str(error.value) for word in ("accuracy", "agree", "'empty'", "'milk'", "'tea'"))


def test_a_small_holdout_may_lose_one_photo() -> None:
    small = Samples(np.zeros((12, 8, 8, 3), np.uint8), TRUTH[:12].astype(np.int64), tuple("abcdefghijkl"))
    for lost, good in (([0], True), ([0, 1], False)):
        card = compare(small, answers([])[:12], answers(lost)[:12], LABELS)
        if good:
            judge(card, small, LABELS, Budget())
        else:
            with pytest.raises(GateError):
                judge(card, small, LABELS, Budget())


def test_a_class_with_few_photos_may_lose_two() -> None:
    budget = Budget(max_drop_points=50, min_agreement=0)
    few = Samples(np.zeros((24, 8, 8, 3), np.uint8), TRUTH[:24].astype(np.int64), tuple(map(str, range(24))))
    for lost, good in ((milk(2), True), (milk(3), False)):
        card = compare(few, answers([])[:24], answers(lost)[:24], LABELS)
        if good:
            judge(card, few, LABELS, budget)
        else:
            with pytest.raises(GateError, match="milk"):
                judge(card, few, LABELS, budget)
