"""Who sees which photo."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Part, Photo, Pictures
from train import split as division
from train.config import TrainConfig
from train.split import split

LABELS = ["empty", "milk", "tea"]
TRAIN: list[Part] = ["train"] * 9
TEST: list[Part] = ["test"] * 9


def pictures(
    labels: Sequence[int],
    *,
    parts: Sequence[Part | None] | None = None,
    groups: Sequence[object] | None = None,
    ids: Sequence[object] | None = None,
) -> Pictures:
    photos = tuple(
        Photo(
            np.zeros((8, 8, 3), np.uint8),
            label,
            parts[row] if parts else None,
            str(groups[row] if groups else row),
            f"{row}.jpg",
        )
        for row, label in enumerate(labels)
    )
    names = tuple(str(ids[row] if ids else row) for row in range(len(labels)))
    return Pictures(np.zeros((len(labels), 8, 8, 3), np.uint8), np.array(labels, np.int64), names, photos)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(0, 1000))
def test_parts_are_disjoint_and_groups_and_equal_photos_stay_together(
    chance: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(chance)
    labels = np.repeat([0, 1, 2], 40)
    groups = rng.integers(0, 120 // size, 120)
    ids = rng.integers(0, 100, 120)
    made = pictures(labels.tolist(), groups=groups.tolist(), ids=ids.tolist())
    try:
        parts = split(made, LABELS, TrainConfig(seed=seed))
    except DataError:
        assume(False)
    three = [set(parts.train.tolist()), set(parts.validation.tolist()), set(parts.holdout.tolist())]
    assert set.union(*three) == set(range(120))
    assert sum(map(len, three)) == 120
    for of in (groups, ids):
        sides = [{int(of[row]) for row in part} for part in three]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
    assert set(parts.calibration.tolist()) <= three[0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 6), st.booleans())
def test_what_looks_alike_stays_together_however_it_chains(
    chance: int, size: int, classes: int, quick: bool
) -> None:
    """Also where so many groups and classes are divided in the quick way."""
    rng = np.random.default_rng(chance)
    count = 40 * classes
    labels = np.repeat(np.arange(classes), 40)
    groups = np.where(rng.random(count) < 0.1, rng.integers(0, count, count), np.arange(count))
    alike = rng.integers(0, count // size + 1, count)
    made = pictures(labels.tolist(), groups=groups.tolist())
    names = [f"p{number}" for number in range(classes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(division, "_LARGEST", 0 if quick else division._LARGEST)
        try:
            parts = split(made, names, TrainConfig(seed=chance), alike=alike)
        except DataError:
            assume(False)
    rows = np.concatenate([parts.train, parts.validation, parts.holdout])
    assert sorted(rows.tolist()) == list(range(count))
    side = np.zeros(count, int)
    side[parts.validation], side[parts.holdout] = 1, 2
    for of in (groups, alike):
        for number in set(of.tolist()):
            assert len(set(side[of == number].tolist())) == 1
    assert set(labels[parts.train].tolist()) == set(range(classes))


def test_the_data_sets_own_parts_count_more_than_likeness() -> None:
    own: list[Part] = [*TRAIN, *TRAIN, *TRAIN, *TEST, *TEST, *TEST]
    made = pictures([row // 9 % 3 for row in range(54)], parts=own)
    found = split(made, LABELS, TrainConfig(), alike=np.arange(54, dtype=np.int64) % 27)
    assert found.holdout.tolist() == list(range(27, 54))


def test_three_thousand_classes_are_divided() -> None:
    labels = np.repeat(np.arange(3000), 20)
    groups = np.arange(len(labels)) // 2
    found = split(
        pictures(labels.tolist(), groups=groups.tolist()), [str(row) for row in range(3000)], TrainConfig()
    )
    three = (found.train, found.validation, found.holdout)
    found_in = [len(set(labels[rows].tolist())) for rows in three]
    assert found_in == [3000, pytest.approx(3000, rel=0.3), pytest.approx(3000, rel=0.3)]
    assert 0.1 < len(found.holdout) / len(labels) < 0.2
    sides = [set(groups[rows].tolist()) for rows in three]
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_shares_are_about_those_that_were_asked_for() -> None:
    parts = split(pictures([0, 1, 2] * 200), LABELS, TrainConfig())
    assert 0.10 < len(parts.holdout) / 600 < 0.20
    assert 0.08 < len(parts.validation) / 600 < 0.20


@pytest.mark.parametrize(
    ("own", "holdout", "validation"),
    [
        (["train", "test"], "test", "train"),
        (["train", "val"], "val", "train"),
        (["train", "val", "test"], "test", "val"),
    ],
)
def test_the_data_sets_own_parts_are_respected(own: list[Part], holdout: str, validation: str) -> None:
    parts: list[Part] = [own[row % len(own)] for row in range(180)]
    made = pictures([row // 3 % 3 for row in range(180)], parts=list(parts))
    found = split(made, LABELS, TrainConfig())
    assert {parts[row] for row in found.holdout} == {holdout}
    assert len(found.holdout) == parts.count(holdout)  # type: ignore[arg-type]
    assert {parts[row] for row in found.validation} == {validation}
    assert {parts[row] for row in found.train} == {"train"}


@pytest.mark.parametrize("seed", range(10))
def test_a_class_with_few_groups_is_on_every_side(seed: int) -> None:
    labels = [0] * 200 + [1] * 40
    groups = [*range(200), *(200 + row // 10 for row in range(40))]
    parts = split(pictures(labels, groups=groups), LABELS[:2], TrainConfig(seed=seed))
    for part in (parts.train, parts.validation, parts.holdout):
        assert {labels[row] for row in part} == {0, 1}


def test_the_same_seed_splits_the_same() -> None:
    made = pictures([0, 1, 2] * 50)
    one, same, other = (split(made, LABELS, TrainConfig(seed=seed)) for seed in (1, 1, 2))
    assert (one.holdout == same.holdout).all()
    assert not np.array_equal(one.holdout, other.holdout)


def test_calibration_has_every_class() -> None:
    labels = [0] * 200 + [1] * 30 + [2] * 10
    parts = split(pictures(labels), LABELS, TrainConfig(calibration_count=20))
    assert len(parts.calibration) == 20
    found = [labels[row] for row in parts.calibration]
    assert min(found.count(label) for label in range(3)) >= 5


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (pictures([0] * 9 + [1] * 9 + [2] * 4), r"tea \(4\)"),
        (pictures([0] * 9 + [1] * 9), r"tea \(0\)"),
        (pictures([0, 1, 2] * 9, groups=[0] * 27), "two groups"),
        (
            pictures([0, 1, 2] * 9, parts=["train", "train", "test"] * 9, ids=[*range(25), 1, 2]),
            "same picture|every class",
        ),
        (
            pictures([0] * 9 + [1] * 9 + [2] * 9, parts=[*TRAIN, *TRAIN, *TEST], ids=[*range(18), *range(9)]),
            r"0.jpg and 18.jpg; 1.jpg and 19.jpg; .*; and 4 more, which are the same picture",
        ),
        (
            pictures([0, 1, 2] * 9, parts=[*TRAIN, *TRAIN, *TEST], groups=[0] * 27),
            "group '0' in 'train' and 'test'",
        ),
        (
            pictures([0] * 9 + [1] * 9 + [2] * 9, parts=[*TRAIN, *TRAIN, *TEST]),
            "training photos of every class",
        ),
    ],
)
def test_what_cannot_be_split(made: Pictures, said: str) -> None:
    with pytest.raises(DataError, match=said):
        split(made, LABELS, TrainConfig())
