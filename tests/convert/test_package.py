"""Golden vectors: what they are chosen by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.package import goldens
from edge_agent.contracts.errors import GateError

IMAGES = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1).repeat(3, axis=3)


@given(st.integers(0, 10**6), st.floats(0.01, 20), st.floats(0.001, 0.2))
def test_no_golden_answer_turns_within_the_tolerance(seed: int, spread: float, step: float) -> None:
    scores = np.random.default_rng(seed).normal(0, spread, (60, 5)).astype(np.float32)
    found = goldens(IMAGES, scores, step)
    ranked = np.sort(found.scores, axis=1)
    assert len(found.images) == len(found.scores) >= 1
    assert (ranked[:, -1] - ranked[:, -2]).min() > found.tolerance > 0
    assert found.tolerance <= 64 * step
    assert (found.scores == scores[found.images[:, 0, 0, 0]]).all()


def test_classes_take_turns() -> None:
    scores = np.eye(5, dtype=np.float32)[np.arange(60) % 5] * 100
    assert len(set(goldens(IMAGES, scores, 0.1).scores.argmax(axis=1).tolist())) == 5


def test_a_model_that_tells_nothing_apart_is_no_bundle() -> None:
    with pytest.raises(GateError, match="prefers one class"):
        goldens(IMAGES, np.ones((60, 5), np.float32), 0.1)
