"""Photos that get worse: reproducible, of the same form, and worse with each severity."""

from collections.abc import Iterable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.camera.shelf.photos import shots
from edge_agent.contracts.photos import Photo, Pictures
from edge_agent.contracts.scoring import Floats
from train.robustness import CLEAN, CORRUPTIONS, SEVERITIES, robustness

PHOTOS = [np.asarray(cv2.resize(picture, (64, 64)), np.uint8) for _, picture in shots(1, 2)][:12]


def pictures(images: NDArray[np.uint8], labels: list[int]) -> Pictures:
    photos = tuple(
        Photo(image, label, None, str(row), str(row))
        for row, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    ids = tuple(f"{row:064x}" for row in range(len(labels)))
    return Pictures(images, np.array(labels, np.int64), ids, photos)


def by_light(images: NDArray[np.uint8]) -> Floats:
    """Tell dark from light: a model whose mistakes are known beforehand."""
    light = images.mean(axis=(1, 2, 3), dtype=np.float64)
    return np.stack([127 - light, light - 127], axis=1).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(CORRUPTIONS)),
    st.sampled_from(SEVERITIES),
    st.integers(0, 10**6),
    st.tuples(st.integers(8, 70), st.integers(8, 70)),
)
def test_form_and_reproducibility(name: str, severity: int, seed: int, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    before = picture.copy()
    one, same = (CORRUPTIONS[name](picture, severity, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == picture.shape
    assert one.dtype == np.uint8
    assert (one == same).all()
    assert (picture == before).all()


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_each_severity_is_further_from_the_photo(name: str) -> None:
    far = [
        np.mean([
            np.abs(CORRUPTIONS[name](photo, severity, np.random.default_rng(row)).astype(int) - photo).mean()
            for row, photo in enumerate(PHOTOS)
        ])
        for severity in SEVERITIES
    ]  # fmt: skip
    assert far[0] > 0
    assert far == sorted(far)
    assert len(set(far)) == len(far)


def test_a_level_is_what_it_says() -> None:
    rng = np.random.default_rng(1)
    grey = np.full((100, 100, 3), 200, np.uint8)
    assert CORRUPTIONS["darkness"](grey, 2, rng).mean() == pytest.approx(100)
    assert CORRUPTIONS["noise"](np.full_like(grey, 128), 3, rng).std() == pytest.approx(22, rel=0.05)
    assert CORRUPTIONS["glare"](grey, 5, rng).max() == 255
    covered = (CORRUPTIONS["occlusion"](grey, 4, rng) != grey).any(axis=2).mean()
    assert covered == pytest.approx(0.30, abs=0.02)


def test_the_side_in_px_does_not_matter() -> None:
    """A severity takes as much of the detail from a large picture as from a small one."""
    edge = np.zeros((256, 256, 3), np.uint8)
    edge[:, 128:] = 255
    small = edge[::4, ::4]
    wide, narrow = (CORRUPTIONS["blur"](picture, 5, np.random.default_rng(1)) for picture in (edge, small))
    share = [((p > 0) & (p < 255)).mean() for p in (wide, narrow)]
    assert share[0] == pytest.approx(share[1], rel=0.1)


def test_accuracy_falls_where_the_model_is_weak_and_nowhere_else() -> None:
    images = np.stack([np.full((32, 32, 3), 60 + 140 * (row % 2), np.uint8) for row in range(20)])
    found = robustness(by_light, pictures(images, [row % 2 for row in range(20)]), seed=3)
    assert found[CLEAN] == [1.0]
    assert set(found) == {CLEAN, *CORRUPTIONS}
    # Light photos, 200, stay light at a gain of 0.7 and turn dark at 0.5; dark ones stay right.
    assert found["darkness"] == [1.0, 0.5, 0.5, 0.5, 0.5]
    for name in ("blur", "rotation", "perspective", "JPEG", "noise"):
        assert found[name] == [1.0] * 5, name


def test_the_order_of_photos_and_the_run_change_nothing() -> None:
    rng = np.random.default_rng(1)
    held = pictures(rng.integers(0, 256, (30, 16, 16, 3), np.uint8), rng.integers(0, 2, 30).tolist())
    one = robustness(by_light, held, seed=3)
    assert one == robustness(by_light, held, seed=3)
    assert one == robustness(by_light, held.take(rng.permutation(30)), seed=3)
    assert one != robustness(by_light, held, seed=4)


@pytest.mark.parametrize(("labels", "at_most"), [([0] * 300, 200), ([0] * 290 + [1] * 10, 40), ([1], 1000)])
def test_a_drawn_part_has_small_classes_whole(labels: list[int], at_most: int) -> None:
    seen: list[int] = []
    held = pictures(np.zeros((len(labels), 8, 8, 3), np.uint8), labels)
    held.images[np.array(labels) == 1] = 255

    def predict(images: NDArray[np.uint8]) -> Floats:
        seen.append(len(images))
        return by_light(images)

    steps: list[int] = []

    def progress(items: Iterable[tuple[str, int]], total: int) -> Iterable[tuple[str, int]]:
        steps.append(total)
        return items

    found = robustness(predict, held, seed=1, at_most=at_most, progress=progress)
    assert found[CLEAN] == [1.0]
    assert sum(seen) == 41 * min(len(labels), at_most)
    assert max(seen) <= 128
    assert steps == [41]
    # Full darkness at worst hides the light class alone, so what is lost is its share of the draw.
    light = min(labels.count(1), at_most // max(len(set(labels)), 1)) if 0 in labels else at_most
    if 0 in labels:
        assert found["darkness"][4] == pytest.approx(1 - light / at_most)


def test_without_photos_there_are_no_figures() -> None:
    assert robustness(by_light, pictures(np.zeros((0, 8, 8, 3), np.uint8), []), seed=1) == {}
