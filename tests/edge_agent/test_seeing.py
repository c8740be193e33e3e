"""Alignment, faults, crops and the gate for what moves, on rendered shelves."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent import slots
from edge_agent.align import Aligner, Alignment, Follower, Glance, Matrix, View, moved
from edge_agent.camera.shelf.film import Film
from edge_agent.camera.shelf.layout import places
from edge_agent.camera.shelf.scene import shelf
from edge_agent.camera.shelf.truth import planogram
from edge_agent.contracts.events import CameraFault
from edge_agent.contracts.preprocess import Image, crop
from edge_agent.faults import FROZEN_S, Freeze, Look, judge

FILM = Film(7)
REFERENCE = FILM.reference()
SHELF = planogram(Path("reference.jpg"))


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[0, 0, x], [0, 0, y]], np.float64)


def shifted(picture: Image, x: float, y: float, degrees: float = 0.0) -> Image:
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0) + shift(x, y)
    return np.asarray(
        cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


@pytest.mark.parametrize(("x", "y", "degrees"), [(0, 0, 0), (6, -4, 0), (-15, 9, 0.5), (20, 20, -0.8)])
def test_a_shelf_that_moved_a_little_is_found(x: float, y: float, degrees: float) -> None:
    found = Aligner(REFERENCE).align(shifted(REFERENCE, x, y, degrees))
    assert found.view is View.ALIGNED
    turn = cv2.getRotationMatrix2D((640, 360), degrees, 1.0) + shift(x, y)
    corners = np.array([slot.quad for slot in SHELF.slots], np.float64).reshape(-1, 2)
    truth = moved(corners, np.vstack([turn, [0, 0, 1]]))
    assert np.linalg.norm(moved(corners, found.to_frame) - truth, axis=1).max() < 2.0


@pytest.mark.parametrize(("x", "y", "degrees"), [(120, 0, 0), (0, 90, 0), (0, 0, 8)])
def test_a_camera_that_looks_elsewhere_has_moved(x: float, y: float, degrees: float) -> None:
    assert Aligner(REFERENCE).align(shifted(REFERENCE, x, y, degrees)).view is View.MOVED


@pytest.mark.parametrize(
    "moment", [3.0, 30.0, 60.0, 75.0], ids=["arm passing", "arm reaching", "other stock", "other light"]
)
def test_arms_stock_and_light_are_no_movement(moment: float) -> None:
    found = Aligner(REFERENCE).align(FILM.frame(moment))
    assert found.view is View.ALIGNED
    assert np.abs(found.to_frame - np.eye(3)).max() < 4


@pytest.mark.parametrize(
    "picture", [np.full((720, 1280, 3), 90, np.uint8), FILM.frame(sum(FILM.script.cover) / 2)]
)
def test_where_nothing_is_to_be_seen_nothing_is_claimed(picture: Image) -> None:
    found = Aligner(REFERENCE).align(picture)
    assert found.view is View.UNSURE
    assert (found.to_frame == np.eye(3)).all()


def test_a_plain_reference_never_says_that_the_camera_moved() -> None:
    assert Aligner(np.full((360, 640, 3), 90, np.uint8)).align(REFERENCE).view is View.UNSURE


def test_a_frame_of_another_size_is_the_same_view() -> None:
    found = Aligner(REFERENCE).align(np.asarray(cv2.resize(REFERENCE, (1920, 1080)), np.uint8))
    assert found.view is View.ALIGNED
    corner = moved(np.array([[1280.0, 720.0]]), found.to_frame)[0]
    assert corner == pytest.approx([1920, 1080], abs=3)


class Followed:
    """A follower that counts how often it has to look for features."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.searches, self._at, search = 0, 0.0, Aligner.search

        def counted(aligner: Aligner, frame: Image) -> Matrix | None:
            self.searches += 1
            return search(aligner, frame)

        monkeypatch.setattr(Aligner, "search", counted)
        self._follower = Follower(REFERENCE)

    def align(self, picture: Image, after_s: float = 0.2) -> Alignment:
        self._at += after_s
        return self._follower.align(picture, Glance.of(picture), self._at)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Followed:
    return Followed(monkeypatch)


def off(found: Alignment, x: float, y: float, degrees: float = 0.0) -> float:
    """Return how far the corners of slots are from where they are in truth, px."""
    turn = cv2.getRotationMatrix2D((640, 360), degrees, 1.0) + shift(x, y)
    corners = slots.corners(SHELF).reshape(-1, 2)
    truth = moved(corners, np.vstack([turn, [0, 0, 1]]))
    return float(np.linalg.norm(moved(corners, found.exact) - truth, axis=1).max())


def test_a_shaking_shelf_is_followed_to_a_fraction_of_a_px(followed: Followed) -> None:
    rng = np.random.default_rng(5)
    followed.align(REFERENCE)
    for _ in range(20):
        x, y, degrees = rng.uniform(-4, 4), rng.uniform(-4, 4), rng.uniform(-0.2, 0.2)
        noisy = np.clip(shifted(REFERENCE, x, y, degrees) + rng.normal(0, 4, REFERENCE.shape), 0, 255)
        found = followed.align(noisy.astype(np.uint8))
        assert found.view is View.ALIGNED
        assert off(found, x, y, degrees) < 0.5
        if off(Alignment(View.ALIGNED, np.eye(3), np.eye(3)), x, y, degrees) > 1:
            assert (found.to_frame == found.exact).all()
    assert followed.searches == 1


def test_arms_stock_and_light_do_not_lead_astray(followed: Followed) -> None:
    film, true = Film(7), list[tuple[float, float, float]]()
    shake = film._shake
    film._shake = lambda moment, chance: true.append(shake(moment, chance)) or true[-1]  # type: ignore[method-assign,func-returns-value]
    for moment in [*np.arange(0, 34, 2.0), *np.arange(60, 88, 4.0)]:
        found = followed.align(film.frame(float(moment)))
        assert found.view is View.ALIGNED
        assert off(found, *true[-1]) < 0.5
    assert followed.searches <= 2


def test_a_shelf_that_went_further_is_searched_for_and_then_followed_there(followed: Followed) -> None:
    followed.align(REFERENCE)
    for x in (25, 25.5, 24.6):
        found = followed.align(shifted(REFERENCE, x, -12, 0.4))
        assert found.view is View.ALIGNED
        assert off(found, x, -12, 0.4) < 0.5
    assert followed.searches == 2
    assert off(followed.align(REFERENCE), 0, 0) < 0.5


def test_a_camera_that_moved_is_told_each_time_and_found_when_it_is_back(followed: Followed) -> None:
    views = [followed.align(shifted(REFERENCE, x, 0)).view for x in (0, 120, 120.3, 119.8, 120, 0, 0.4)]
    assert views == [View.ALIGNED, *[View.MOVED] * 4, View.ALIGNED, View.ALIGNED]
    assert followed.searches <= 5


def test_a_shelf_with_all_other_stock_is_followed_from_where_it_was_found(followed: Followed) -> None:
    other = shelf({})
    views = [followed.align(shifted(other, x, 1)) for x in (3, 3.4, 2.6, 3, 3.2)]
    assert all(found.view is View.ALIGNED for found in views)
    assert off(views[-1], 3.2, 1) < 1.0
    assert followed.searches <= 3


def test_every_few_minutes_features_have_their_say(followed: Followed) -> None:
    for _ in range(5):
        followed.align(REFERENCE, after_s=100.0)
    assert followed.searches == 2


@pytest.mark.parametrize("level", [0, 90, 255])
def test_in_a_picture_without_anything_nothing_is_followed(followed: Followed, level: int) -> None:
    followed.align(REFERENCE)
    found = followed.align(np.full((720, 1280, 3), level, np.uint8))
    assert found.view is View.UNSURE
    assert (found.to_frame == np.eye(3)).all()
    assert followed.align(REFERENCE).view is View.ALIGNED


def test_a_follower_takes_frames_of_another_size_or_shape(followed: Followed) -> None:
    large = np.asarray(cv2.resize(REFERENCE, (1920, 1080)), np.uint8)
    corner = moved(np.array([[1280.0, 720.0]]), followed.align(large).exact)[0]
    assert corner == pytest.approx([1920, 1080], abs=1)
    assert followed.align(REFERENCE[:600]).view in set(View)


def test_a_plain_reference_is_never_followed() -> None:
    follower = Follower(np.full((360, 640, 3), 90, np.uint8))
    assert follower.align(REFERENCE, Glance.of(REFERENCE), 0.0).view is View.UNSURE


def dimmed(share: float) -> Image:
    return (REFERENCE * share).astype(np.uint8)


def blurred(px: float) -> Image:
    return np.asarray(cv2.GaussianBlur(REFERENCE, (0, 0), px), np.uint8)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (REFERENCE, set()),
        (shelf({}), set()),
        (FILM.frame(3.0), set()),
        (dimmed(0.35), set()),
        (blurred(1.5), set()),
        (FILM.frame(sum(FILM.script.cover) / 2), {CameraFault.BLOCKED}),
        (dimmed(0.04), {CameraFault.DARK}),
        (np.full_like(REFERENCE, 255), {CameraFault.OVEREXPOSED}),
        (blurred(10), {CameraFault.DEFOCUSED}),
    ],
    ids=["as it is", "sold out", "arm", "dusk", "soft", "covered", "dark", "too bright", "out of focus"],
)
def test_what_is_wrong_with_a_camera(picture: Image, expected: set[CameraFault]) -> None:
    assert judge(Look.of(picture), Look.of(REFERENCE)) == expected


def test_a_picture_that_is_the_same_to_the_last_bit_for_long_is_frozen() -> None:
    look, other = Look.of(FILM.frame(1.0)), Look.of(FILM.frame(2.0))
    freeze = Freeze().step(look, 5.0)
    assert not freeze.step(look, 5.0 + FROZEN_S).frozen(5.0 + FROZEN_S)
    assert freeze.step(look, 6.0 + FROZEN_S).frozen(6.0 + FROZEN_S)
    assert not freeze.step(other, 6.0 + FROZEN_S).frozen(6.0 + FROZEN_S)


def test_crops_are_those_of_the_one_preprocessing() -> None:
    crops = slots.crops(REFERENCE, slots.corners(SHELF), np.eye(3), 48, 32)
    assert crops.shape == (16, 48, 32, 3)
    quad = np.array(SHELF.slots[2].quad, np.float32)
    assert (crops[2] == crop(REFERENCE, quad, 48, 32)).all()


def grey_thumbs(picture: Image) -> np.ndarray:
    return slots.Windows(slots.corners(SHELF)).thumbs(Glance.of(picture), np.eye(3)).grey


def still_slots(before: Image, after: Image) -> set[str]:
    _, still = slots.Stillness().step(grey_thumbs(before))[0].step(grey_thumbs(after))
    return {slot.id for slot, rests in zip(SHELF.slots, still, strict=True) if rests}


def test_the_gate_opens_for_noise_and_light_and_closes_for_hands() -> None:
    assert still_slots(FILM.frame(1.0), FILM.frame(1.2)) == set(places())
    assert still_slots(FILM.frame(1.0), dimmed(0.8)) >= set(places()) - {"A1"}
    change = FILM.script.changes[0]
    assert change.slot not in still_slots(FILM.frame(change.at - 0.8), FILM.frame(change.at - 0.6))


def test_the_first_frame_shows_no_rest() -> None:
    _, still = slots.Stillness().step(grey_thumbs(REFERENCE))
    assert not still.any()
