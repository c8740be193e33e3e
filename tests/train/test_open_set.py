"""Telling products outside the catalogue: the threshold's rule, and figures that are known beforehand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from edge_agent.contracts.photos import NO_CLASS
from edge_agent.contracts.scoring import Floats, softmax
from tests.train.test_robustness import pictures
from train.open_set import auroc, auroc_interval, choose_threshold, energy, halves, open_set


def sure(confidences: list[float] | NDArray[np.float64]) -> Floats:
    """Probabilities of two classes whose first is the answer, as confident as this."""
    top = np.asarray(confidences, np.float32)
    return np.stack([top, 1 - top], axis=1)


def of_class(confidences: NDArray[np.float64]) -> Floats:
    return np.log(sure(confidences))


def truth(n: int) -> NDArray[np.int64]:
    return np.zeros(n, np.int64)


@pytest.mark.parametrize(
    ("right", "outside", "low", "high"),
    [
        # Well apart: in the middle of the gap.
        ([0.9] * 50, [0.6] * 50, 0.7499, 0.7501),
        # One right answer of fifty is more than 1 %: it must stay, whatever it costs.
        ([0.9] * 49 + [0.55], [0.6] * 50, 0.5, 0.55),
        # One of two hundred may go, and it pays.
        ([0.9] * 199 + [0.55], [0.6] * 50, 0.6, 0.9),
        # Outside photos surer than the catalogue's: nothing to gain, nothing lost.
        ([0.6] * 50, [0.9] * 50, 0.5, 0.6),
    ],
    ids=["apart", "one of fifty", "one of two hundred", "the wrong way round"],
)
def test_the_threshold_keeps_right_answers_first(
    right: list[float], outside: list[float], low: float, high: float
) -> None:
    assert low <= choose_threshold(truth(len(right)), sure(right), sure(outside)) <= high


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 400), st.integers(0, 300))
def test_the_bound_holds_whatever_comes(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    right, outside = rng.uniform(0.5, 1, n), rng.uniform(0.5, 1, m)
    threshold = choose_threshold(truth(n), sure(right), sure(outside))
    assert 0 <= threshold <= 1
    assert (sure(right).max(axis=1) < threshold).mean() <= 0.01 + 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_within_the_bound_no_threshold_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right, outside = sure(rng.beta(8, 2, 300) / 2 + 0.5), sure(rng.beta(3, 3, 100) / 2 + 0.5)

    def balanced(threshold: float) -> float:
        kept, told = (right.max(axis=1) >= threshold).mean(), (outside.max(axis=1) < threshold).mean()
        return float(kept + told) if kept >= 0.99 else -1

    best = max(balanced(threshold) for threshold in np.linspace(0, 1, 500))
    assert balanced(choose_threshold(truth(300), right, outside)) >= best - 1e-9


@pytest.mark.parametrize(
    ("confidences", "expected"),
    [([0.9] * 100, 0.5), ([0.3] * 100, 0.3), ([], 0.0)],
    ids=["at most one half", "a weak model", "never right"],
)
def test_without_outside_photos(confidences: list[float], expected: float) -> None:
    probabilities = np.column_stack([confidences, *[(1 - np.array(confidences)) / 9] * 9]).astype(np.float32)
    for outside in (None, np.zeros((0, 10), np.float32)):
        found = choose_threshold(truth(len(confidences)), probabilities, outside)
        assert found == pytest.approx(expected)


def test_wrong_answers_have_no_say() -> None:
    right, wrong = sure([0.9] * 100), sure([0.51] * 100)
    labels = np.repeat(np.array([0, 1], np.int64), 100)
    assert choose_threshold(labels, np.concatenate([right, wrong]), sure([0.6] * 10)) == pytest.approx(0.75)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(20)))
def test_halves_go_by_content(order: list[int]) -> None:
    outside = pictures(np.zeros((20, 8, 8, 3), np.uint8), [NO_CLASS] * 20)
    choosing, judging = halves(outside)
    assert len(choosing) == len(judging) == 10
    mixed = outside.take(order)
    chosen, judged = halves(mixed)
    assert {mixed.ids[row] for row in chosen} == {outside.ids[row] for row in choosing}
    assert {mixed.ids[row] for row in judged} == {outside.ids[row] for row in judging}


@pytest.mark.parametrize(("n", "expected"), [(0, (0, 0)), (1, (1, 0)), (2, (1, 1)), (5, (3, 2))])
def test_halves_of_few(n: int, expected: tuple[int, int]) -> None:
    choosing, judging = halves(pictures(np.zeros((n, 8, 8, 3), np.uint8), [NO_CLASS] * n))
    assert (len(choosing), len(judging)) == expected


def test_equal_photos_stay_together() -> None:
    twice = pictures(np.zeros((6, 8, 8, 3), np.uint8), [NO_CLASS] * 6).take([0, 1, 2, 0, 1, 2])
    choosing, judging = halves(twice)
    assert not {twice.ids[row] for row in choosing} & {twice.ids[row] for row in judging}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_auroc_is_the_rank_statistic_and_lies_in_its_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, outside = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 40).round(1)
    expected = mannwhitneyu(known, outside).statistic / (60 * 40)
    assert auroc(known, outside) == pytest.approx(expected)


def test_the_interval_is_reproducible_and_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(1)
    known, outside = rng.normal(1, 1, 200), rng.normal(0, 1, 200)
    low, high = auroc_interval(known, outside, seed=7)
    assert (low, high) == auroc_interval(known, outside, seed=7)
    area = auroc(known, outside)
    assert low < area < high
    # Hanley & McNeil 1982, equation 1.
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 199 * (q1 + q2 - 2 * area**2)) / 200**2)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 50), (50, 1)])
def test_one_photo_has_no_spread(n: int, m: int) -> None:
    assert auroc_interval(np.linspace(0, 1, n), np.linspace(0, 1, m), seed=1) == (0.0, 1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_energy_is_what_softmax_divides_by(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (20, 6)).astype(np.float32)
    by_top = logits.max(axis=1) - temperature * np.log(softmax(logits, temperature).max(axis=1))
    assert energy(logits, temperature) == pytest.approx(by_top, abs=1e-3)


def test_figures_of_a_known_case() -> None:
    scores = of_class(np.array([0.9, 0.9, 0.9, 0.6]))
    outside = of_class(np.array([0.55, 0.55, 0.8]))
    found = open_set(truth(4), scores, outside, temperature=1.0, threshold=0.7, seed=1)
    assert found is not None
    assert found["outside_n"] == 3
    assert found["told_unknown"] == pytest.approx(2 / 3)
    assert found["right_lost"] == pytest.approx(1 / 4)
    assert found["auroc"] == pytest.approx(11 / 12)
    assert found["auroc_95"][0] <= found["auroc"] <= found["auroc_95"][1]


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0)])
def test_no_claim_without_photos(n: int, m: int) -> None:
    known, outside = np.zeros((n, 3), np.float32), np.zeros((m, 3), np.float32)
    assert open_set(truth(n), known, outside, temperature=1, threshold=0.5, seed=1) is None


def test_never_right_loses_nothing() -> None:
    found = open_set(
        np.ones(4, np.int64), of_class(np.full(4, 0.9)), of_class(np.full(4, 0.6)),
        temperature=1, threshold=0.7, seed=1,
    )  # fmt: skip
    assert found is not None
    assert found["right_lost"] is None
