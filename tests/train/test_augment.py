"""Changes to training photos: reproducible, of the same form, and still the same product."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.camera.shelf.photos import shots
from train.augment import augment, mixed
from train.config import TrainConfig

PHOTO = np.asarray(cv2.resize(next(shots(1, 1))[1], (64, 64)), np.uint8)


SHELF = TrainConfig()
STILL = TrainConfig(augment=0, shift=0, occlude=0)


@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 0.8), st.booleans())
def test_form_and_reproducibility(seed: int, strength: float, zoom: float, flip: bool) -> None:
    config = TrainConfig(augment=strength, zoom=zoom, flip=flip)
    one, same = (augment(PHOTO, np.random.default_rng(seed), config) for _ in range(2))
    assert one.shape == PHOTO.shape
    assert one.dtype == np.uint8
    assert (one == same).all()


def test_no_strength_changes_nothing() -> None:
    assert augment(PHOTO, np.random.default_rng(1), STILL) is PHOTO


def test_the_original_is_left_alone() -> None:
    before = PHOTO.copy()
    for seed in range(50):
        augment(PHOTO, np.random.default_rng(seed), SHELF)
    assert (before == PHOTO).all()


def test_most_copies_still_look_like_the_photo() -> None:
    made = [augment(PHOTO, np.random.default_rng(seed), SHELF) for seed in range(100)]
    alike = [np.corrcoef(copy.ravel(), PHOTO.ravel())[0, 1] for copy in made]
    assert np.median(alike) > 0.7
    assert len({copy.tobytes() for copy in made}) == 100


@pytest.mark.parametrize(
    "config",
    [TrainConfig(mixup=0.4), TrainConfig(cutmix=1.0), TrainConfig(mixup=0.4, cutmix=1.0)],
    ids=["mixup", "cutmix", "both"],
)
def test_mixed_truth_says_what_the_pixels_show(config: TrainConfig) -> None:
    # Each photo is of one brightness that no other has, so pixels tell whose they are.
    pixels = np.arange(8, dtype=np.float32)[:, None, None, None] * np.ones((1, 32, 32, 3), np.float32)
    truth, weights = np.eye(8, dtype=np.float32), np.ones(8, np.float32)
    for seed in range(20):
        made, told, heavy = mixed(pixels, truth, weights, np.random.default_rng(seed), config)
        assert np.allclose(told.sum(axis=1), 1)
        assert np.allclose(heavy, 1)
        assert np.allclose(made.mean(axis=(1, 2, 3)), told @ np.arange(8), atol=1e-3)
    assert (pixels[3] == 3).all()


def test_nothing_is_mixed_unasked() -> None:
    pixels = np.zeros((2, 8, 8, 3), np.float32)
    assert (
        mixed(pixels, np.eye(2, dtype=np.float32), np.ones(2, np.float32), np.random.default_rng(1), SHELF)[0]
        is pixels
    )


@pytest.mark.parametrize(("turn", "places"), [(0.0, {0}), (20.0, {0}), (180.0, {0, 1, 2, 3})])
def test_a_photo_is_turned_as_far_as_asked(turn: float, places: set[int]) -> None:
    corner = np.zeros((64, 64, 3), np.uint8)
    corner[16:32, 16:32] = 255
    config = TrainConfig(augment=0, shift=0, occlude=0, turn=turn)
    seen = set()
    for seed in range(60):
        made = augment(corner, np.random.default_rng(seed), config)
        quarters = made[:, :, 0].reshape(2, 32, 2, 32).mean(axis=(1, 3))
        seen.add(int(quarters.argmax()))
    assert seen == places
