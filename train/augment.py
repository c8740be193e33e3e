"""What happens to a photo between the shelf and the camera: place, light, colour, focus, noise, a hand.

Pure: the same photo, settings and generator give the same result.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from train.config import TrainConfig

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
_JPEG_FROM = 40
_NOISE = np.random.default_rng(1).standard_normal(1 << 20, np.float32)
"""Drawn once: a stretch from a random place is as good as new noise, and costs a hundredth. Longer than
the largest picture that a run may have."""


def augment(picture: Picture, rng: np.random.Generator, config: TrainConfig) -> Picture:
    """Return one changed copy.

    Args:
        picture: uint8, (height, width, 3), RGB.
        rng: Decides everything.
        config: Gives the strength (`augment`: 0 changes no colour, 1 is what shelves need), and
            `shift`, `zoom`, `turn`, `flip` and `occlude`.

    Returns:
        uint8 of the same shape.
    """
    strength = config.augment
    if config.flip and rng.random() < 0.5:  # noqa: PLR2004 - a coin
        picture = np.ascontiguousarray(picture[:, ::-1])
    changed = _moved(picture, rng, config)
    if strength > 0:
        changed = _lit(changed, rng, strength)
    if rng.random() < 0.25 * strength:
        changed = np.asarray(cv2.GaussianBlur(changed, (0, 0), float(rng.uniform(0.4, 1.2))), np.uint8)
    if rng.random() < 0.4 * strength:
        changed = _noisy(changed, rng, float(rng.uniform(2, 9)) * strength)
    if rng.random() < config.occlude:
        changed = _occluded(changed, rng)
    if rng.random() < 0.25 * strength:
        changed = _compressed(changed, rng)
    return changed


def _moved(picture: Picture, rng: np.random.Generator, config: TrainConfig) -> Picture:
    """Shift, scale, turn, and look from aside a little: no two crops of a slot are cut alike."""
    strength, zoom, turn = config.augment, config.zoom, config.turn
    if not (strength or zoom or turn or config.shift):
        return picture
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    centre = np.array([width / 2, height / 2], np.float32)
    near = 1 / (1 - rng.uniform(0, zoom))
    scale = (1 + rng.uniform(-0.08, 0.08) * strength) * near
    target = (corners - centre) * scale
    if turn:
        angle = np.deg2rad(rng.uniform(-turn, turn))
        target @= np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    target += centre
    # A near view may look at any part of the photo.
    target += rng.uniform(-1, 1, 2) * (config.shift + (near - 1) / 2) * (width, height)
    target += rng.uniform(-0.03, 0.03, (4, 2)) * strength * (width, height)
    change = cv2.getPerspectiveTransform(corners, target.astype(np.float32))
    moved = cv2.warpPerspective(
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
    return np.asarray(cv2.LUT(picture, table[:, None, :].transpose(1, 0, 2)), np.uint8)


def _noisy(picture: Picture, rng: np.random.Generator, sigma: float) -> Picture:
    place = int(rng.integers(0, len(_NOISE) - picture.size))
    noise = _NOISE[place : place + picture.size].reshape(picture.shape)
    # Rounded and saturated by OpenCV.
    return np.asarray(cv2.add(picture, sigma * noise, dtype=cv2.CV_8U), np.uint8)


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


def mixed(
    pixels: Floats, truth: Floats, weights: Floats, rng: np.random.Generator, config: TrainConfig
) -> tuple[Floats, Floats, Floats]:
    """Blend pairs of one batch (mixup), or paste a part of one photo into another (cutmix).

    Where both are asked for, a coin decides for the batch.

    Args:
        pixels: float32, (n, height, width, 3).
        truth: float32, (n, classes).
        weights: float32, (n,), of each photo in the loss.
        rng: Decides everything.
        config: Gives `mixup` and `cutmix`.

    Returns:
        The three, mixed; the first is not changed in place.
    """
    if not config.mixup and not config.cutmix:
        return pixels, truth, weights
    other = rng.permutation(len(pixels))
    paste = bool(config.cutmix) and (not config.mixup or rng.random() < 0.5)  # noqa: PLR2004 - a coin
    strength = config.cutmix if paste else config.mixup
    share = float(rng.beta(strength, strength))
    if paste:
        pixels, share = _pasted(pixels, other, share, rng)
    else:
        pixels = np.float32(share) * pixels + np.float32(1 - share) * pixels[other]
    kept, taken = np.float32(share), np.float32(1 - share)
    return pixels, kept * truth + taken * truth[other], kept * weights + taken * weights[other]


def _pasted(
    pixels: Floats, other: NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[Floats, float]:
    height, width = pixels.shape[1:3]
    side = np.sqrt(1 - share)
    tall, wide = int(height * side), int(width * side)
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    place = np.s_[:, top : top + tall, left : left + wide]
    pasted = pixels.copy()
    pasted[place] = pixels[other][place]
    return pasted, 1 - tall * wide / (height * width)
