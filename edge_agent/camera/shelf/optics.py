"""What a real camera adds to a scene: light that is never the same, shake, sensor noise, a covered lens."""

from dataclasses import dataclass

import cv2
import numpy as np

from edge_agent.camera.shelf import layout
from edge_agent.camera.shelf.brush import Pixels
from edge_agent.contracts.preprocess import Image

_SPARE = 64
_COVER_EDGE = 220
_COVER_BGR = (44, 62, 98)


def shaken(picture: Image, x: float, y: float, degrees: float) -> Image:
    """Return a picture moved by a few px and turned by a little; its border is repeated."""
    move = cv2.getRotationMatrix2D((picture.shape[1] / 2, picture.shape[0] / 2), degrees, 1.0)
    move[:, 2] += np.array([x, y])
    moved = cv2.warpAffine(picture, move, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def lit(picture: Image, gain: float, warmth: float) -> Image:
    """Return a picture in another light.

    Args:
        picture: uint8, (H, W, 3), BGR.
        gain: Brightness; 1 is studio light.
        warmth: Red over blue; 1 is white.
    """
    gains = gain * np.array([warmth**-0.5, 1.0, warmth**0.5])
    table = np.clip(np.arange(256)[:, None] * gains, 0, 255).round().astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table[None]), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Grain:
    """Sensor noise made once; a frame takes it from another corner each time.

    Attributes:
        lighter: uint8, (720 + 64, 1280 + 64, 3): what to add.
        darker: The same: what to take away.
    """

    lighter: Pixels
    darker: Pixels

    @classmethod
    def made(cls, rng: np.random.Generator, strength: float = 4.0) -> "Grain":
        """Return noise with the given standard deviation in grey levels."""
        size = (layout.HEIGHT + _SPARE, layout.WIDTH + _SPARE)
        noise = rng.normal(0, strength, (*size, 3)).astype(np.float32)
        noise += rng.normal(0, strength / 2, (*size, 1)).astype(np.float32)
        noise = noise.round()
        return cls(np.clip(noise, 0, 255).astype(np.uint8), np.clip(-noise, 0, 255).astype(np.uint8))

    def over(self, picture: Image, rng: np.random.Generator) -> Image:
        """Return a picture of at most 1280 x 720 with noise on it."""
        x, y = rng.integers(0, _SPARE, 2)
        part = np.s_[y : y + picture.shape[0], x : x + picture.shape[1]]
        return np.asarray(
            cv2.subtract(cv2.add(picture, self.lighter[part]), self.darker[part]), dtype=np.uint8
        )


@dataclass(frozen=True, slots=True)
class Palm:
    """A hand held close to the lens: dark, brown, out of focus.

    Attributes:
        skin: uint8, (720 + 64, 1280 + 64, 3), BGR.
    """

    skin: Pixels

    @classmethod
    def made(cls, rng: np.random.Generator) -> "Palm":
        """Return a palm with its own folds."""
        size = (layout.HEIGHT + _SPARE, layout.WIDTH + _SPARE)
        folds = rng.normal(0, 1, (10, 16)).astype(np.float32)
        light = cv2.GaussianBlur(cv2.resize(folds, size[::-1], interpolation=cv2.INTER_CUBIC), (0, 0), 40)
        skin = np.array(_COVER_BGR, dtype=np.float32) * (1 + 0.16 * np.asarray(light))[..., None]
        return cls(np.clip(skin, 0, 255).astype(np.uint8))

    def over(self, picture: Image, share: float, sway: float) -> Image:
        """Return a picture covered from below.

        Args:
            picture: uint8, (720, 1280, 3), BGR.
            share: Of the way to fully covered, 0 to 1.
            sway: -1 to 1: how the hand moves meanwhile.
        """
        middle = _SPARE // 2
        offset = middle + round(sway * (middle - 1))
        skin = self.skin[offset : offset + layout.HEIGHT, middle : middle + layout.WIDTH]
        if share >= 1:
            return skin.copy()
        edge = layout.HEIGHT - share * (layout.HEIGHT + _COVER_EDGE)
        rows = np.arange(layout.HEIGHT, dtype=np.float32)
        weight = np.clip((rows - edge) / _COVER_EDGE, 0, 1)
        weight = np.repeat(weight[:, None], layout.WIDTH, axis=1).astype(np.float32)
        return np.asarray(cv2.blendLinear(skin, picture, weight, 1 - weight), dtype=np.uint8)
