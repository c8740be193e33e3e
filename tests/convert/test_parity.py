"""The gate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.parity import Answers, compare, matched_temperature, over_budget, paired_interval
from convert.recipe import Budget
from edge_agent.contracts.bundle import Scorecard
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.scoring import Floats, Labels, softmax

LABELS = ["empty", "milk", "tea"]
N = 300
TRUTH: Labels = (np.arange(N) % 3).astype(np.int64)


def answers(wrong: list[int], truth: Labels = TRUTH, confidence: float = 0.9) -> Answers:
    """Scores that are right but for some rows, which say the next class."""
    said = truth.copy()
    said[wrong] = (said[wrong] + 1) % 3
    probabilities = np.full((len(truth), 3), (1 - confidence) / 2, np.float32)
    probabilities[np.arange(len(truth)), said] = confidence
    return Answers(np.log(probabilities), probabilities)


def card_of(float_wrong: list[int], int8_wrong: list[int], n: int = N) -> Scorecard:
    return compare(TRUTH[:n], answers(float_wrong, TRUTH[:n]), answers(int8_wrong, TRUTH[:n]), LABELS)


def milk(count: int) -> list[int]:
    return [row for row in range(N) if TRUTH[row] == 1][:count]


LOOSE = {"max_drop_points": 50, "min_agreement": 0, "max_calibration_rise_points": 100}


@pytest.mark.parametrize(
    ("float_wrong", "int8_wrong", "budget", "said"),
    [
        ([], [], {}, None),
        ([], [0], {}, None),
        ([0, 1, 2], [], {}, None),
        ([], [0, 1], {}, "accuracy fell by 0.67 points"),
        ([], [0, 1], {"max_drop_points": 1}, None),
        (list(range(3)), list(range(3, 6)), {}, None),
        (list(range(4)), list(range(4, 8)), {}, "agree on 97.33 %"),
        (list(range(4)), list(range(4, 8)), {"min_agreement": 0.97}, None),
        ([], milk(11), LOOSE, "recall of 'milk' fell by 11.0 points on 100 photos (95 % interval 4."),
        ([], milk(5), LOOSE, None),
        ([], milk(11), LOOSE | {"max_recall_drop_points": 11}, None),
    ],
)
def test_the_gate(
    float_wrong: list[int], int8_wrong: list[int], budget: dict[str, float], said: str | None
) -> None:
    card = card_of(float_wrong, int8_wrong)
    assert card.drop_points == pytest.approx((len(int8_wrong) - len(float_wrong)) / 3)
    lost = over_budget(card, Budget(**budget))
    if said is None:
        assert lost == []
    else:
        assert [said in text for text in lost] == [True]


def test_everything_that_is_lost_is_told_at_once() -> None:
    lost = "; ".join(over_budget(card_of([], list(range(150))), Budget()))
    assert all(word in lost for word in ("accuracy", "agree", "'empty'", "'milk'", "'tea'", "calibration"))


def test_a_small_holdout_may_lose_one_photo() -> None:
    assert over_budget(card_of([], [0], 12), Budget()) == []
    assert len(over_budget(card_of([], [0, 1], 12), Budget())) == 2


@pytest.mark.parametrize(("lost", "evident"), [(2, False), (3, False), (7, True)])
def test_a_class_with_few_photos_has_lost_only_what_chance_cannot_explain(lost: int, evident: bool) -> None:
    card = card_of([], milk(lost), 24)
    assert card.recall_drop["milk"].n == 8
    assert card.recall_drop["milk"].points == pytest.approx(100 * lost / 8)
    assert bool(over_budget(card, Budget(**LOOSE))) == evident


def test_confidence_that_means_less_than_before_is_a_loss() -> None:
    wrong = list(range(30))
    modest, boastful = answers(wrong, confidence=0.9), answers(wrong, confidence=0.99)
    card = compare(TRUTH, modest, boastful, LABELS)
    assert card.drop_points == 0
    assert over_budget(card, Budget(max_calibration_rise_points=10)) == []
    assert over_budget(card, Budget()) == ["the calibration error rose from 0.0 to 9.0 points (by at most 2)"]
    assert over_budget(compare(TRUTH, boastful, modest, LABELS), Budget()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_drop_points", -1), ("min_agreement", 1.1), ("max_recall_drop_points", float("nan"))],
)
def test_a_budget_that_is_none_is_refused(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"Expected: {field} from 0"):
        Budget(**{field: value})


@given(st.data())
def test_the_interval_holds_the_difference_and_narrows(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 500))
    lost = data.draw(st.integers(0, n))
    won = data.draw(st.integers(0, n - lost))
    low, high = paired_interval(lost, won, n)
    assert -1 <= low <= high <= 1
    assert paired_interval(won, lost, n) == pytest.approx((-high, -low))
    wide = high - low
    low, high = paired_interval(10 * lost, 10 * won, 10 * n)
    assert high - low < wide


def test_an_interval_worked_by_hand() -> None:
    """14 lost and 3 won of 50: (15 - 4) / 52, and 1.96 roots of (19/52 - (11/52)^2) / 52 to either side."""
    assert paired_interval(14, 3, 50) == pytest.approx((0.0576, 0.3654), abs=2e-4)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_the_temperature_follows_the_logits(factor: float) -> None:
    exact: Floats = np.random.default_rng(1).normal(0, 3, (200, 5)).astype(np.float32)
    found = matched_temperature(exact, factor * exact, 1.3)
    assert found == pytest.approx(1.3 * factor, rel=1e-3)
    assert np.allclose(softmax(exact, 1.3), softmax(factor * exact, found), atol=1e-3)
