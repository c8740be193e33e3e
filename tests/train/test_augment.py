"""Changes to training photos: reproducible, of the same form, and still the same product."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.camera.shelf.photos import shots
from train.augment import augment

PHOTO = np.asarray(cv2.resize(next(shots(1, 1))[1], (64, 64)), np.uint8)


@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 0.8), st.booleans())
def test_form_and_reproducibility(seed: int, strength: float, zoom: float, flip: bool) -> None:
    one, same = (
        augment(PHOTO, np.random.default_rng(seed), strength, zoom=zoom, flip=flip) for _ in range(2)
    )
    assert one.shape == PHOTO.shape
    assert one.dtype == np.uint8
    assert (one == same).all()


def test_no_strength_changes_nothing() -> None:
    assert augment(PHOTO, np.random.default_rng(1), 0) is PHOTO


def test_the_original_is_left_alone() -> None:
    before = PHOTO.copy()
    for seed in range(50):
        augment(PHOTO, np.random.default_rng(seed), 1)
    assert (before == PHOTO).all()


def test_most_copies_still_look_like_the_photo() -> None:
    made = [augment(PHOTO, np.random.default_rng(seed), 1) for seed in range(100)]
    alike = [np.corrcoef(copy.ravel(), PHOTO.ravel())[0, 1] for copy in made]
    assert np.median(alike) > 0.7
    assert len({copy.tobytes() for copy in made}) == 100
