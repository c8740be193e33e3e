"""Whose class names count, which part judges, and which photos are shown."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from convert import labelled
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Part, Photo, Pictures

NAMES = ["milk", "tea", "jam"]


def unseen(items: Iterable[Photo], _total: int) -> Iterable[Photo]:
    return items


def arrays(path: Path, labels: list[int], *, size: int = 8) -> Path:
    """An .npz with as many test pictures, each a shade of its own."""
    shades = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(shades, (len(labels), size, size, 3))
    numbers = np.array(labels, np.int64)
    np.savez(path, x_train=images[:1] + 200, y_train=numbers[:1], x_test=images, y_test=numbers)
    return path


def labels_of(path: Path, names: list[str]) -> list[int]:
    return [photo.label for photo in labelled.read(path, names).photos if photo.part == "test"]


def test_numbers_count_the_outputs(tmp_path: Path) -> None:
    found = labelled.read(arrays(tmp_path / "a.npz", [2, 0, 1]), NAMES)
    assert found.labels == NAMES
    assert [photo.label for photo in found.photos if photo.part == "test"] == [2, 0, 1]


def test_labels_that_are_these_numbers_go_by_name(tmp_path: Path) -> None:
    """Also in another order, and where some of them have no photos."""
    assert labels_of(arrays(tmp_path / "a.npz", [0, 1, 2]), ["2", "0", "1"]) == [1, 2, 0]
    assert labels_of(arrays(tmp_path / "b.npz", [0, 1]), ["0", "1", "2"]) == [0, 1]


def test_labels_that_count_from_one_are_places_all_the_same(tmp_path: Path) -> None:
    assert labels_of(arrays(tmp_path / "a.npz", [0, 1, 2]), ["1", "2", "3"]) == [0, 1, 2]


@pytest.mark.parametrize("numbers", [[0, 1], [0, 3], [0, 1, 2, 3]])
def test_another_number_of_classes_is_refused(tmp_path: Path, numbers: list[int]) -> None:
    """A list with `background` in front has one more, and every class would be taken for its neighbour."""
    path = arrays(tmp_path / "a.npz", numbers)
    said = rf"numbered 0 to 2 .*3 labels\. Received: 0 to {max(numbers)}\."
    with pytest.raises(DataError, match=said) as caught:
        labelled.read(path, NAMES)
    assert "line n + 1" in caught.value.hint


def photo(part: Part | None) -> Photo:
    return Photo(np.zeros((8, 8, 3), np.uint8), 0, part, "", "")


@pytest.mark.parametrize(
    ("parts", "judges"),
    [
        (["train", "val", "test"], "test"),
        (["train", "val"], "val"),
        (["val", "test"], "test"),
        (["train"], None),
        ([None], None),
        ([None, "test"], "test"),
    ],
)
def test_the_part_that_judges(parts: list[Part | None], judges: Part | None) -> None:
    assert labelled.judging(photo(part) for part in parts) == judges


def test_only_the_part_that_judges_is_read(tmp_path: Path) -> None:
    held = labelled.held(arrays(tmp_path / "a.npz", [2, 0, 1]), NAMES, 8, 8, unseen)
    assert held.part == "test"
    assert held.pictures.labels.tolist() == [2, 0, 1]
    assert held.rejected == []


def test_photos_that_are_too_small_are_no_photos(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Received: 3, all unreadable"):
        labelled.held(arrays(tmp_path / "a.npz", [2, 0, 1], size=4), NAMES, 8, 8, unseen)


def pictures(labels: list[int], ids: list[str]) -> Pictures:
    images = np.zeros((len(labels), 8, 8, 3), np.uint8)
    return Pictures(images, np.array(labels), tuple(ids), tuple(photo(None) for _ in labels))


def test_what_is_shown_is_spread_over_the_classes() -> None:
    """Photos come class after class: the first hundred would be of one."""
    labels = [0] * 100 + [1] * 30 + [2] * 5
    rows = labelled.spread(pictures(labels, [f"{row:03}" for row in range(135)]), 30)
    assert np.bincount(np.array(labels)[rows]).tolist() == [13, 12, 5]
    assert len(set(rows.tolist())) == 30


def test_with_many_classes_it_is_not_the_first_ones() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(1000), 2).tolist()
    rows = labelled.spread(pictures(labels, [f"{key:05}" for key in rng.permutation(2000)]), 200)
    seen = np.array(labels)[rows]
    assert len(set(seen.tolist())) == 200
    assert seen.max() > 900
    assert 400 < seen.mean() < 600


def test_copies_are_shown_once_and_the_same_photos_are_chosen_in_any_order() -> None:
    one = pictures([0, 0, 1, 0, 1], ["d", "a", "b", "a", "c"])
    rows = labelled.spread(one, 10)
    assert sorted(one.ids[row] for row in rows) == ["a", "b", "c", "d"]
    other = pictures([1, 1, 0, 0, 0], ["c", "b", "a", "a", "d"])
    chosen = [{each.ids[row] for row in labelled.spread(each, 2)} for each in (one, other)]
    assert chosen[0] == chosen[1] == {"a", "b"}
