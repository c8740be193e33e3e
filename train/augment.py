"""What happens to a photo between the shelf and the camera: place, light, colour, focus, noise, a hand.

Pure: the same photo, strength and generator give the same result.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_JPEG_FROM = 40


def augment(
    picture: Picture, rng: np.random.Generator, strength: float, *, zoom: float = 0.0, flip: bool = False
) -> Picture:
    """Return one changed copy.

    Args:
        picture: uint8, (height, width, 3), RGB.
        rng: Decides everything.
        strength: 0 changes nothing, 1 is what shelves need.
        zoom: How much of a side may be cut off, 0 to 1.
        flip: Whether it may be mirrored.

    Returns:
        uint8 of the same shape.
    """
    if strength == 0:
        return picture
    if flip and rng.random() < 0.5:  # noqa: PLR2004 - a coin
        picture = np.ascontiguousarray(picture[:, ::-1])
    changed = _moved(picture, rng, strength, zoom)
    changed = _lit(changed, rng, strength)
    if rng.random() < 0.25 * strength:
        changed = np.asarray(cv2.GaussianBlur(changed, (0, 0), float(rng.uniform(0.4, 1.2))), np.uint8)
    if rng.random() < 0.4 * strength:
        noise = rng.normal(0, rng.uniform(2, 9) * strength, changed.shape)
        changed = np.clip(changed + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.2 * strength:
        changed = _occluded(changed, rng)
    if rng.random() < 0.25 * strength:
        changed = _compressed(changed, rng)
    return changed


def _moved(picture: Picture, rng: np.random.Generator, strength: float, zoom: float) -> Picture:
    """Shift, scale, turn and shear a little: no two crops of a slot are cut alike."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [0, height]], np.float32)
    centre = np.array([width / 2, height / 2], np.float32)
    near = 1 / (1 - rng.uniform(0, zoom))
    scale = (1 + rng.uniform(-0.08, 0.08) * strength) * near
    target = (corners - centre) * scale + centre
    # A near view may look at any part of the photo.
    target += rng.uniform(-1, 1, 2) * (0.05 * strength + (near - 1) / 2) * (width, height)
    target += rng.uniform(-0.03, 0.03, (3, 2)) * strength * (width, height)
    change = cv2.getAffineTransform(corners, target.astype(np.float32))
    moved = cv2.warpAffine(
        picture, change, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(moved, np.uint8)


def _lit(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    """Another exposure, contrast and colour of light."""
    gain = np.exp(rng.uniform(-0.3, 0.3) * strength)
    cast = np.exp(rng.uniform(-0.1, 0.1, 3) * strength)
    contrast = 1 + rng.uniform(-0.15, 0.15) * strength
    values = (np.arange(256)[:, None] - 128) * contrast + 128
    table = np.clip(values * gain * cast, 0, 255).astype(np.uint8)
    return np.stack([table[picture[..., channel], channel] for channel in range(3)], axis=-1)


def _occluded(picture: Picture, rng: np.random.Generator) -> Picture:
    """Cover up to a fifth of it with one colour: a hand, a price tag, a neighbour."""
    height, width = picture.shape[:2]
    tall, wide = (rng.uniform(0.15, 0.45, 2) * (height, width)).astype(int)
    top, left = int(rng.integers(0, height - tall)), int(rng.integers(0, width - wide))
    covered = picture.copy()
    covered[top : top + tall, left : left + wide] = rng.integers(0, 256, 3)
    return covered


def _compressed(picture: Picture, rng: np.random.Generator) -> Picture:
    quality = int(rng.integers(_JPEG_FROM, 95))
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
