"""The figures, against scikit-learn and against what is true by construction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss

from edge_agent.contracts import scoring


def sample(seed: int, *, n: int = 400, classes: int = 5) -> tuple[scoring.Labels, scoring.Floats]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 2 * np.eye(classes)[labels]
    return labels.astype(np.int64), logits.astype(np.float32)


@given(st.integers(0, 1000))
def test_confusion_and_likelihood_are_the_known_ones(seed: int) -> None:
    labels, logits = sample(seed)
    table = scoring.confusion(labels, logits)
    assert (table == confusion_matrix(labels, logits.argmax(1), labels=range(5))).all()
    probabilities = scoring.softmax(logits, 1.7).astype(np.float64)
    expected = log_loss(labels, probabilities / probabilities.sum(1, keepdims=True), labels=range(5))
    assert scoring.negative_log_likelihood(labels, logits, 1.7) == pytest.approx(expected, rel=1e-4)
    assert scoring.accuracy(labels, logits) == pytest.approx(table.trace() / table.sum())


def test_recall_is_unknown_where_there_is_nothing_to_recall() -> None:
    table = np.array([[3, 1], [0, 0]])
    assert scoring.recalls(table)[0] == pytest.approx(0.75)
    assert np.isnan(scoring.recalls(table)[1])
    assert scoring.precisions(table)[0] == pytest.approx(1.0)


def test_a_temperature_undoes_what_overconfidence_did() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20_000, 4)).astype(np.float32) * 2
    labels = np.array(
        [rng.choice(4, p=row / row.sum()) for row in scoring.softmax(logits).astype(np.float64)]
    )
    assert scoring.fit_temperature(labels, logits * 3) == pytest.approx(3.0, rel=0.06)
    before = scoring.calibration_error(labels, scoring.softmax(logits * 3))
    after = scoring.calibration_error(labels, scoring.softmax(logits * 3, 3.0))
    assert after < 0.02 < before


@given(st.integers(0, 500), st.integers(0, 500))
def test_an_interval_holds_the_share(hits: int, others: int) -> None:
    low, high = scoring.wilson(hits, hits + others)
    assert 0 <= low <= high <= 1
    if hits + others:
        assert low <= hits / (hits + others) <= high


def test_the_interval_of_a_known_case() -> None:
    # Newcombe 1998, table I: 81 of 263, 95 % Wilson interval 0.2553 to 0.3662.
    assert scoring.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=2e-4)
