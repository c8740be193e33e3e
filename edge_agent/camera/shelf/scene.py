"""Goods on the shelf: each copy a little different, each with its shadow."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.camera.shelf import layout
from edge_agent.camera.shelf.brush import Pixels
from edge_agent.camera.shelf.products import body
from edge_agent.camera.shelf.room import empty_room
from edge_agent.contracts.preprocess import Image

_MARGIN = 26
"""px around a copy that its shadow may take."""
_SOLID = 0.25
"""Opacity above which a part of a packet throws a shadow: also the water in a bottle does."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One packet on the shelf, ready to be put down.

    Attributes:
        label: Of the product.
        pixels: float32, (height, width, 3), BGR, already weighted with `cover`.
        cover: float32, (height, width, 1): share of the picture behind that shows through, 0 to 1,
            shadow and packet together.
        shift: px that it stands beside the middle of its slot.
        above: px from the top of `pixels` to the line it stands on.
    """

    label: str
    pixels: NDArray[np.float32]
    cover: NDArray[np.float32]
    shift: float
    above: int

    @classmethod
    def picked(cls, label: str, rng: np.random.Generator) -> "Copy":
        """Return a copy as shelves have them: a little turned, leaning, aside, in its own light."""
        turn = float(np.clip(rng.normal(0, 0.055), -0.14, 0.14))
        seen = _leaning(body(label).seen(turn), float(np.clip(rng.normal(0, 0.25), -0.6, 0.6)))
        bright = np.float32(rng.normal(1.0, 0.025))
        opaque = np.asarray(seen[..., 3:] / 255, dtype=np.float32)
        dark = _shadow(opaque[..., 0])[..., None]
        pixels = np.clip(seen[..., :3] * bright, 0, 255).astype(np.float32) * opaque
        shift = float(np.clip(rng.normal(0, 3), -7, 7))
        return cls(label, pixels, (1 - opaque) * (1 - dark), shift, seen.shape[0] - _MARGIN)

    def put(self, picture: Image, x: float, floor: float) -> None:
        """Draw it in place: its middle at x, standing on the line `floor`, px."""
        height, width = self.cover.shape[:2]
        left, top = round(x - width / 2), round(floor - self.above)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, picture.shape[1]), min(top + height, picture.shape[0])
        if x0 >= x1 or y0 >= y1:
            return
        part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        there = picture[y0:y1, x0:x1]
        there[:] = there * self.cover[part] + self.pixels[part]


def _leaning(seen: Pixels, degrees: float) -> Pixels:
    padded = cv2.copyMakeBorder(
        seen, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0)
    )
    foot = (padded.shape[1] / 2, padded.shape[0] - _MARGIN)
    tilt = cv2.getRotationMatrix2D(foot, degrees, 1.0)
    # Colour must not bleed in from the transparent surroundings: weigh it with its opacity.
    weighted = padded.astype(np.float32)
    weighted[..., :3] *= weighted[..., 3:] / 255
    turned = np.asarray(
        cv2.warpAffine(weighted, tilt, padded.shape[1::-1], flags=cv2.INTER_LINEAR), dtype=np.float32
    )
    turned[..., :3] /= np.maximum(turned[..., 3:] / 255, 1e-3)
    return np.clip(turned, 0, 255).astype(np.uint8)


def _shadow(opaque: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much a packet darkens: the wall behind it to the right, the board under it."""
    solid = (opaque > _SOLID).astype(np.float32)
    fall = np.array([[1, 0, 10], [0, 1, 5]], dtype=np.float32)
    wall = cv2.GaussianBlur(cv2.warpAffine(solid, fall, solid.shape[1::-1]), (0, 0), 7)
    ground = np.zeros_like(solid)
    floor, width = solid.shape[0] - _MARGIN, solid.shape[1]
    cv2.ellipse(ground, (width // 2 + 3, floor - 3), (width // 2 - _MARGIN + 5, 8), 0, 0, 360, (1.0,), -1)
    ground = np.asarray(cv2.GaussianBlur(ground, (0, 0), 3.2), dtype=np.float32)
    # The wall's shadow ends where the board begins: a thing standing on the edge throws none in front.
    wall = np.asarray(wall, dtype=np.float32)
    wall[floor + 2 :] *= np.linspace(0.5, 0, _MARGIN - 2)[:, None].astype(np.float32)
    return np.asarray(np.maximum(0.38 * wall, 0.62 * ground), dtype=np.float32)


def shelf(contents: Mapping[str, Copy | None]) -> Image:
    """Return a picture of the shelf, in studio light and without noise.

    Args:
        contents: What stands in each slot; None or not named: nothing.

    Returns:
        uint8, (720, 1280, 3), BGR.
    """
    picture = empty_room().copy()
    for slot, place in layout.places().items():
        copy = contents.get(slot)
        if copy is not None:
            copy.put(picture, place.middle + copy.shift, place.floor)
    return picture
