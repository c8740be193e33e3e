"""From a frame to slot crops: the planogram's quads, and the gate for what moves. Pure."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.align import moved
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image, crop

Crops = NDArray[np.uint8]
"""Slot crops: uint8, (slots, height, width, 3), RGB."""

_THUMB = (24, 32)
_CHANGED_LEVELS = 22.0
_MOVING_SHARE = 0.06


def cut(
    frame: Image, planogram: Planogram, to_frame: NDArray[np.float64], height: int, width: int
) -> NDArray[np.uint8]:
    """Return a crop of each slot, in the planogram's order: uint8, (slots, height, width, 3), RGB.

    Args:
        frame: uint8, (H, W, 3), BGR.
        planogram: Quads in px of its reference.
        to_frame: From px of the reference to px of the frame, (3, 3).
        height: Of a crop, px.
        width: Of a crop, px.
    """
    corners = np.array([slot.quad for slot in planogram.slots], np.float64).reshape(-1, 2)
    quads = moved(corners, to_frame).reshape(-1, 4, 2).astype(np.float32)
    return np.stack([crop(frame, quad, height, width) for quad in quads])


@dataclass(frozen=True, slots=True)
class Stillness:
    """What the slots looked like in the frame before; None: there was none."""

    before: NDArray[np.float32] | None = None

    def step(self, crops: NDArray[np.uint8]) -> tuple["Stillness", NDArray[np.bool_]]:
        """Fold in the next frame.

        Args:
            crops: uint8, (slots, height, width, 3), RGB.

        Returns:
            The new memory, and for each slot whether it stands still: a hand, or goods on their
            way, move; light that changes as a whole does not count.
        """
        now = np.stack([_thumb(picture) for picture in crops])
        if self.before is None:
            return Stillness(now), np.zeros(len(crops), np.bool_)
        changed = (np.abs(now - self.before) > _CHANGED_LEVELS).mean(axis=(1, 2))
        return Stillness(now), changed < _MOVING_SHARE


def _thumb(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a small grey picture, float32, as if the light had its usual strength."""
    small = cv2.resize(picture, _THUMB, interpolation=cv2.INTER_AREA)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)
    return np.asarray(grey * (118.0 / max(float(grey.mean()), 8.0)), np.float32)
