"""The only crop-and-resize of the project: training, calibration, parity check and device call it.

Pictures are BGR, as OpenCV reads them, everywhere up to here; what leaves is RGB, as models want it.
A golden crop pins the result: change a pixel here and every bundle in the field sees another world.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""A picture: uint8, (height, width, 3), BGR."""

_MAX_SHRINK = 64
_MOST_SUMMED = 257
"""Pixels of 255 whose sum 16 bits still hold."""

RESIZE = "area-bilinear"
"""Name of this resize in a bundle's manifest."""


def crop(frame: Image, quad: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    """Cut one slot out of a frame as the model wants it.

    An upright rectangle is a slice and a resize; any other quad is a perspective warp.

    Args:
        frame: uint8, (H, W, 3), BGR.
        quad: float32, (4, 2): x, y in pixels, clockwise from the top left corner.
        height: Of the model's input, px.
        width: Of the model's input, px.

    Returns:
        uint8, (height, width, 3), RGB.
    """
    (left, top), (east, north), (right, bottom), (west, south) = quad.tolist()
    if (west, north, east, south) == (left, top, right, bottom):
        x0, y0 = max(round(left), 0), max(round(top), 0)
        x1, y1 = round(right), round(bottom)
        if x1 > x0 and y1 > y0 and x0 < frame.shape[1] and y0 < frame.shape[0]:
            return fit(frame[y0:y1, x0:x1], height, width)
    # Upright first, at a whole multiple of the wanted size, so that `fit` averages as it does elsewhere.
    edges = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    wide = width * _whole(float(max(edges[0], edges[2])), width)
    tall = height * _whole(float(max(edges[1], edges[3])), height)
    target = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], dtype=np.float32)
    transform = cv2.getPerspectiveTransform(quad, target)
    warped = cv2.warpPerspective(
        frame, transform, (wide, tall), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return fit(np.asarray(warped, dtype=np.uint8), height, width)


def _whole(length: float, wanted: int) -> int:
    """Return how often a wanted length fits into one, within what a picture can need."""
    return min(max(int(length // wanted), 1), _MAX_SHRINK)


def fit(picture: Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize a whole picture to the model's input; the aspect ratio is not kept.

    Shrinks by a whole factor with pixel-area averaging first (which does not alias, and is fast for
    whole factors), and then goes the rest of the way bilinearly.

    Args:
        picture: uint8, (H, W, 3), BGR.
        height: Of the model's input, px.
        width: Of the model's input, px.

    Returns:
        uint8, (height, width, 3), RGB.
    """
    down_y, down_x = max(picture.shape[0] // height, 1), max(picture.shape[1] // width, 1)
    if down_x > 1 or down_y > 1:
        picture = _shrunk(picture, down_y, down_x)
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _shrunk(picture: Image, down_y: int, down_x: int) -> NDArray[np.uint8]:
    """Shrink by whole factors with pixel-area averaging: uint8, (rows, columns, 3).

    To the bit what `cv2.resize` does with INTER_AREA, which takes one pixel at a time where the factors are
    not 2 and 2: sums of whole rows, and of whole planes, take many.
    """
    rows, columns = picture.shape[0] // down_y, picture.shape[1] // down_x
    whole = picture[: rows * down_y, : columns * down_x]
    if (down_y, down_x) == (2, 2) or down_x * down_y > _MOST_SUMMED:
        return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    total = _summed([whole[first::down_y] for first in range(down_y)])
    if down_x > 1:
        planes = [np.ascontiguousarray(total[..., channel]) for channel in range(3)]
        sums = [_summed([plane[:, first::down_x] for first in range(down_x)]) for plane in planes]
        total = np.asarray(cv2.merge(sums), np.uint16)
    return np.asarray(cv2.convertScaleAbs(total, alpha=1 / (down_x * down_y)), dtype=np.uint8)


def _summed(parts: list[NDArray[Any]]) -> NDArray[np.uint16]:
    total = parts[0].astype(np.uint16)
    for part in parts[1:]:
        total += part
    return total
