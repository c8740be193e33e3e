"""The one crop-and-resize: pinned pixels, colour order, and quads against rectangles."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.contracts.arrays import read_npz
from edge_agent.contracts.preprocess import Image, crop, fit

GOLDEN = Path(__file__).parent.parent / "golden" / "crops.npz"


def scene(height: int, width: int) -> Image:
    """A picture with something different everywhere: two gradients and a checkerboard."""
    rows, columns = np.mgrid[0:height, 0:width]
    checks = ((rows // 7 + columns // 5) % 2) * 255
    return np.stack([rows * 255 // height, columns * 255 // width, checks], axis=-1).astype(np.uint8)


def box(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float32]:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


QUADS = {
    "rectangle": box(40, 30, 190, 260),
    "quad": np.array([[40, 30], [190, 36], [186, 262], [44, 255]], np.float32),
}


@pytest.mark.parametrize("name", QUADS)
def test_a_golden_crop_keeps_its_pixels(name: str) -> None:
    (golden,) = read_npz(GOLDEN, (name,))
    pixels = crop(scene(360, 480), QUADS[name], 48, 32)
    # One step of slack: OpenCV rounds differently on other processors.
    assert np.abs(pixels.astype(int) - golden).max() <= 1


def test_what_leaves_is_rgb() -> None:
    blue = np.zeros((20, 20, 3), np.uint8)
    blue[..., 0] = 255
    assert (fit(blue, 8, 8) == [0, 0, 255]).all()
    assert (crop(blue, box(2, 2, 18, 18), 8, 8) == [0, 0, 255]).all()


def test_a_large_picture_does_not_alias() -> None:
    stripes = np.zeros((960, 960, 3), np.uint8)
    stripes[::2] = 255
    small = fit(stripes, 96, 96)
    assert np.ptp(small) <= 1
    assert abs(int(small.mean()) - 127) <= 1


def test_a_quad_that_is_nearly_a_rectangle_sees_the_same() -> None:
    frame = scene(300, 300)
    upright = crop(frame, box(50, 50, 146, 146), 96, 96).astype(int)
    nearly = crop(
        frame, box(50, 50, 146, 146) + np.array([[0, 0], [0, 0.01], [0, 0], [0, 0]], np.float32), 96, 96
    )
    assert np.abs(upright - nearly).mean() < 3


def test_a_quad_that_is_large_does_not_alias_either() -> None:
    stripes = np.zeros((960, 960, 3), np.uint8)
    stripes[:, ::2] = 255
    nearly = box(0, 0, 960, 960) + np.array([[0, 0], [0, 0.01], [0, 0], [0, 0]], np.float32)
    assert np.ptp(crop(stripes, nearly, 96, 96)[4:-4, 4:-4]) <= 3


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.lists(st.floats(-500, 900), min_size=4, max_size=4),
    st.integers(1, 128),
    st.integers(1, 128),
)
def test_any_box_gives_a_picture_of_the_right_size(
    height: int, width: int, corners: list[float], out_height: int, out_width: int
) -> None:
    frame = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = corners
    assert crop(frame, box(x0, y0, x1, y1), out_height, out_width).shape == (out_height, out_width, 3)
    assert fit(frame, out_height, out_width).shape == (out_height, out_width, 3)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(1, 24), st.integers(0, 999))
def test_whole_factors_average_as_opencv_does(
    down_y: int, down_x: int, rows: int, columns: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (rows * down_y, columns * down_x, 3), np.uint8)
    expected = cv2.cvtColor(
        cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB
    )
    # One step of slack, as above.
    assert np.abs(fit(picture, rows, columns).astype(int) - expected).max() <= 1
