"""The figures, against scikit-learn and against what is true by construction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from edge_agent.contracts import scoring


def sample(seed: int, *, n: int = 400, classes: int = 5) -> tuple[scoring.Labels, scoring.Floats]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 2 * np.eye(classes)[labels]
    return labels.astype(np.int64), logits.astype(np.float32)


@settings(max_examples=25, deadline=None)
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


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_no_mistake_among_a_few_photos_is_no_certainty(n: int) -> None:
    labels = np.arange(n) % 5
    logits = 8 * np.eye(5, dtype=np.float32)[labels]
    sure = scoring.softmax(logits, scoring.fit_temperature(labels, logits)).max(axis=1)
    # Laplace: one photo of n + 1 may be any of five.
    assert sure.mean() == pytest.approx(1 - 0.8 / (n + 1), abs=0.2 / n)


@given(st.integers(0, 500), st.integers(0, 500))
def test_an_interval_holds_the_share(hits: int, others: int) -> None:
    low, high = scoring.wilson(hits, hits + others)
    assert 0 <= low <= high <= 1
    if hits + others:
        assert low <= hits / (hits + others) <= high


def test_the_interval_of_a_known_case() -> None:
    # Newcombe 1998, table I: 81 of 263, 95 % Wilson interval 0.2553 to 0.3662.
    assert scoring.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=2e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_top_k_is_the_known_one(seed: int, k: int) -> None:
    labels, logits = sample(seed)
    expected = top_k_accuracy_score(labels, logits, k=k, labels=range(5))
    assert scoring.top_k_accuracy(labels, logits, k) == pytest.approx(expected)


def test_every_label_is_among_all_scores() -> None:
    labels, logits = sample(1)
    assert scoring.top_k_accuracy(labels, logits, 5) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_coarse_accuracy_forgives_mistakes_within_a_coarse_class(seed: int) -> None:
    labels, logits = sample(seed)
    fine = scoring.accuracy(labels, logits)
    assert scoring.coarse_accuracy(labels, logits, "abcde") == pytest.approx(fine)
    assert scoring.coarse_accuracy(labels, logits, "aaabb") >= fine
    assert scoring.coarse_accuracy(labels, logits, "aaaaa") == pytest.approx(1)


def test_coarse_accuracy_of_a_known_case() -> None:
    apples_and_milk = ["apple", "apple", "milk"]
    answers = np.eye(3, dtype=np.float32)[[1, 2, 2]]
    assert scoring.coarse_accuracy(np.array([0, 0, 2]), answers, apples_and_milk) == pytest.approx(2 / 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_a_reliability_diagram_counts_every_answer(seed: int) -> None:
    labels, logits = sample(seed)
    found = scoring.reliability(labels, scoring.softmax(logits))
    filled = found.counts > 0
    assert found.counts.sum() == len(labels)
    assert (np.isnan(found.right) == ~filled).all()
    hits = (found.right[filled] * found.counts[filled]).sum()
    assert hits / len(labels) == pytest.approx(scoring.accuracy(labels, logits))
    edges = np.arange(16) / 15
    assert (found.confidence[filled] >= edges[:-1][filled] - 1e-6).all()
    assert (found.confidence[filled] <= edges[1:][filled] + 1e-6).all()


def test_the_calibration_error_of_a_known_case() -> None:
    # Two answers at 0.9, one of them right; two at 0.6, both right: 0.5 * 0.4 + 0.5 * 0.4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]], np.float32)
    assert scoring.calibration_error(np.array([0, 1, 0, 0]), probabilities) == pytest.approx(0.4)


def test_nothing_has_no_figures() -> None:
    none, scores = np.zeros(0, np.int64), np.zeros((0, 3), np.float32)
    assert np.isnan(scoring.top_k_accuracy(none, scores, 2))
    assert np.isnan(scoring.coarse_accuracy(none, scores, "aab"))
    assert scoring.calibration_error(none, scores) == 0
