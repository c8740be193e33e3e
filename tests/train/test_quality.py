"""What is measured about a model: choices see validation only, figures the holdout, and JSON holds it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import NO_CLASS, Dataset, Pictures
from edge_agent.contracts.scoring import Floats, fit_temperature
from tests.train.test_robustness import pictures
from train.quality import Quality, measure
from train.robustness import CLEAN, CORRUPTIONS

SIDE = 8


def dataset(classes: int, coarse: tuple[str, ...] = ()) -> Dataset:
    return Dataset(Path(), [LabelEntry(label=f"c{row:03d}") for row in range(classes)], [], [], coarse)


def photos(seed: int, labels: list[int]) -> Pictures:
    """Photos of one light each, which tells the class most of the time."""
    rng = np.random.default_rng(seed)
    grey = np.array(labels, np.int64) * 37 % 200 + 28 + rng.normal(0, 12, len(labels))
    light = np.clip(grey, 0, 255).astype(np.uint8)[:, None, None, None]
    return pictures(np.broadcast_to(light, (len(labels), SIDE, SIDE, 3)).copy(), labels)


class Model:
    """Tells classes by light; the sharper, the surer of itself."""

    def __init__(self, classes: int, sharpness: float = 0.1) -> None:
        self._greys = np.arange(classes) * 37 % 200 + 28
        self._sharpness = sharpness

    def __call__(self, images: NDArray[np.uint8]) -> Floats:
        light = images.mean(axis=(1, 2, 3))
        return np.asarray(-self._sharpness * np.abs(light[:, None] - self._greys[None]), np.float32)


def measured(classes: int, holdout: list[int], outside: int | None = None, **more: int) -> Quality:
    labels = np.random.default_rng(1).integers(0, classes, 120).tolist()
    foreign = None if outside is None else photos(5, [NO_CLASS] * outside)
    coarse = tuple("ab"[row % 2] for row in range(classes)) if more.get("coarse") else ()
    return measure(
        Model(classes), dataset(classes, coarse), photos(2, labels), photos(3, holdout), foreign, seed=7
    )


@pytest.mark.parametrize(
    ("classes", "holdout", "outside"),
    [
        (2, [0, 1] * 20, None),
        (2, [1] * 10, 12),
        (2, [], 12),
        (5, [0, 1, 2, 3] * 5, 0),
        (11, list(range(11)) * 3, 1),
        (300, list(range(300)), 30),
    ],
    ids=["two classes", "one class held out", "nothing held out", "none outside", "one outside", "300"],
)
def test_what_comes_out_is_json_and_whole(classes: int, holdout: list[int], outside: int | None) -> None:
    found = measured(classes, holdout, outside)
    metrics = found.metrics
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["holdout_n"] == len(holdout)
    assert found.scores.shape == (len(holdout), classes)
    assert found.scores.dtype == np.float32
    assert found.temperature > 0
    assert 0 <= found.threshold <= 1
    assert ("holdout_top5" in metrics) == (classes > 10)
    assert set(metrics["holdout_recall"]) == {f"c{label:03d}" for label in holdout}
    assert (metrics["holdout_accuracy"] is None) == (not holdout)
    assert set(metrics["robustness"]) == ({CLEAN, *CORRUPTIONS} if holdout else set())
    assert (metrics["open_set"] is not None) == bool(holdout and (outside or 0) > 1)


def test_precision_and_recall_are_the_known_ones() -> None:
    holdout = np.random.default_rng(4).integers(0, 6, 200)
    found = measured(6, holdout.tolist())
    precision, recall, _, _ = precision_recall_fscore_support(
        holdout, found.scores.argmax(axis=1), labels=range(6), zero_division=np.nan
    )
    assert list(found.metrics["holdout_recall"].values()) == pytest.approx(recall)
    assert list(found.metrics["holdout_precision"].values()) == pytest.approx(precision)
    assert found.metrics["holdout_macro_recall"] == pytest.approx(recall.mean())
    assert found.metrics["robustness"][CLEAN] == [pytest.approx(found.metrics["holdout_accuracy"])]


def test_coarse_accuracy_where_there_are_coarse_classes() -> None:
    holdout = list(range(12)) * 4
    metrics = measured(12, holdout, coarse=1).metrics
    assert metrics["holdout_coarse_accuracy"] >= metrics["holdout_accuracy"]
    assert metrics["holdout_top5"] >= metrics["holdout_accuracy"]
    assert "holdout_coarse_accuracy" not in measured(12, holdout).metrics


def test_temperature_mends_what_training_overdid() -> None:
    labels = np.random.default_rng(1).integers(0, 6, 400).tolist()
    overdone = Model(6, sharpness=2)
    found = measure(overdone, dataset(6), photos(2, labels), photos(3, labels), None, seed=7)
    assert found.temperature > 1.5
    assert found.metrics["holdout_calibration_error"] < found.metrics["holdout_calibration_error_raw"]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=12), st.integers(0, 9))
def test_choices_do_not_see_the_holdout(holdout: list[int], outside: int) -> None:
    one, other = measured(5, holdout, outside), measured(5, [4, 0], outside)
    labels = np.random.default_rng(1).integers(0, 5, 120).tolist()
    assert one.temperature == other.temperature
    assert one.threshold == other.threshold
    assert one.temperature == fit_temperature(np.array(labels), Model(5)(photos(2, labels).images))


def test_the_half_that_judges_does_not_choose() -> None:
    outside = photos(5, [NO_CLASS] * 10)
    changed = outside.images.copy()
    found = []
    for light in (28, 46):
        # Every second content hash judges; their pictures change, and the choice must not.
        changed[1::2] = light
        foreign = Pictures(changed.copy(), outside.labels, outside.ids, outside.photos)
        labels = list(range(5)) * 20
        found.append(measure(Model(5), dataset(5), photos(2, labels), photos(3, labels), foreign, seed=7))
    assert found[0].threshold == found[1].threshold
    assert found[0].metrics["open_set"] != found[1].metrics["open_set"]
    assert found[0].outside_scores is not None
    assert found[0].outside_scores.shape == (5, 5)


def test_the_same_twice() -> None:
    one, other = (measured(4, [0, 1, 2, 3] * 4, 9) for _ in range(2))
    assert one.metrics == other.metrics


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_model_is_told(bad: float) -> None:
    def diverged(images: NDArray[np.uint8]) -> Floats:
        return np.full((len(images), 3), bad, np.float32)

    with pytest.raises(DataError, match="diverged"):
        measure(diverged, dataset(3), photos(1, [0, 1, 2]), photos(2, [0, 1, 2]), None, seed=1)
