"""The calibration set."""

import numpy as np
import pytest

from convert import calibration
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.run import Samples


def samples(labels: list[int], ids: list[str] | None = None) -> Samples:
    n = len(labels)
    images = np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    return Samples(
        images, np.array(labels, np.int64), tuple(ids or [f"{row * 7919 % 1000:03}" for row in range(n)])
    )


NONE = Samples(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, np.int64), ())


def test_classes_take_turns_however_many_photos_they_have() -> None:
    found = calibration.chosen(samples([0] * 90 + [1] * 6 + [2] * 4), NONE, 15)
    assert np.bincount(found.labels).tolist() == [6, 5, 4]
    assert len(set(found.ids)) == 15


def test_the_same_pictures_give_the_same_set_in_any_order() -> None:
    given = samples([row % 3 for row in range(60)])
    order = np.random.default_rng(1).permutation(60)
    shuffled = Samples(given.images[order], given.labels[order], tuple(given.ids[row] for row in order))
    one, other = (calibration.chosen(each, NONE, 20) for each in (given, shuffled))
    assert one.ids == other.ids
    assert (one.images == other.images).all()
    assert calibration.content_hash(given.ids) == calibration.content_hash(shuffled.ids)
    assert calibration.content_hash(one.ids) != calibration.content_hash(given.ids)


def test_a_picture_counts_once() -> None:
    found = calibration.chosen(samples([0, 0, 1, 1, 1], ["a", "a", "b", "c", "d"]), NONE)
    assert sorted(found.ids) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (NONE, "Received: none"),
        (samples([1, 1, 1]), "of class 1 only"),
        (samples([0, 1] * 4, ["a", "b"] * 4), "2 among 8, each more than once"),
        (samples([0, 1, 2], ["x", "held", "y"]), "1 of both, e.g. held"),
    ],
)
def test_what_calibrates_nothing(given: Samples, said: str) -> None:
    with pytest.raises(DataError, match=said):
        calibration.chosen(given, samples([0], ["held"]))


def test_black_and_white_are_always_there() -> None:
    grey = np.full((3, 2, 2, 3), 90, np.uint8)
    found = calibration.with_extremes(grey)
    assert (found.min(), found.max(), len(found)) == (0, 255, 5)
