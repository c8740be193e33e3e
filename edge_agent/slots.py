"""From a frame to slot crops: the planogram's quads, and the gate before the model. Pure.

The gate looks at a thumbnail of each slot, and lets the model see a slot only when that can tell something
new: it stands still, and its picture is another than the one that the model saw last, or what the model
said has not held for long enough yet, or it said so too long ago.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.align import Glance, Matrix, moved
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image, crop

Crops = NDArray[np.uint8]
"""Slot crops: uint8, (slots, height, width, 3), RGB."""
Corners = NDArray[np.float64]
"""Slot quads: float64, (slots, 4, 2): x, y in px of the reference, clockwise from the top left corner."""

_THUMB_HEIGHT, _THUMB_WIDTH = 16, 12
_LIGHT = 118.0
_DIM_SHARE = 0.6
_MOST_GAIN = 8.0
_CHANGED_LEVELS = 22.0
_MOVING_SHARE = 0.06
_OTHER_LEVELS = 16.0
_LEAST_LEVELS = 4.0
_OTHER_SHARE = 0.02
"""Shake, noise and drifting light leave less than 0.006 of a rendered slot beyond; other stock leaves 0.5."""


def corners(planogram: Planogram) -> Corners:
    """Return the quads of a planogram's slots, in its order: float64, (slots, 4, 2)."""
    return np.array([slot.quad for slot in planogram.slots], np.float64).reshape(-1, 4, 2)


def crops(frame: Image, places: Corners, to_frame: Matrix, height: int, width: int) -> Crops:
    """Return a crop of each quad: uint8, (slots, height, width, 3), RGB.

    Args:
        frame: uint8, (H, W, 3), BGR.
        places: float64, (slots, 4, 2), px of the reference.
        to_frame: From px of the reference to px of the frame, (3, 3).
        height: Of a crop, px.
        width: Of a crop, px.
    """
    made = np.empty((len(places), height, width, 3), np.uint8)
    quads = moved(places.reshape(-1, 2), to_frame).reshape(-1, 4, 2).astype(np.float32)
    for row, quad in enumerate(quads):
        made[row] = crop(frame, quad, height, width)
    return made


def dim(light: float, usual: float) -> bool:
    """Return whether a picture is much darker than the reference, by the means of both, levels."""
    return light < _DIM_SHARE * usual


def lit(crops: Crops, light: float, usual: float) -> Crops:
    """Return crops of a dim picture in the usual light; others as they are.

    What a model learned in the light of day it does not know at dusk (ADR 14 has the figures). Only where
    the whole picture is much darker than the reference: other goods, or an arm, change the light as well.

    Args:
        crops: uint8, (n, height, width, 3), RGB.
        light: Mean of the frame, levels.
        usual: Mean of the reference picture, levels.
    """
    if not dim(light, usual):
        return crops
    levels = np.arange(256) * min(usual / max(light, 1.0), _MOST_GAIN)
    return np.asarray(np.minimum(np.rint(levels), 255).astype(np.uint8)[crops], np.uint8)


@dataclass(frozen=True, slots=True)
class Thumbs:
    """A thumbnail of each slot, twice.

    Attributes:
        grey: uint8, (slots, 16, 12): as sharp as the glance, to see what moves.
        colour: uint8, (slots, 16, 12, 3), RGB: blurred, to be compared over a long time.
    """

    grey: NDArray[np.uint8]
    colour: Crops


class Windows:
    """Where the pixels of each slot's thumbnail lie.

    Args:
        places: float64, (slots, 4, 2), px of the reference.
    """

    def __init__(self, places: Corners) -> None:
        self._grid = _grid(places)

    def thumbs(self, glance: Glance, to_frame: Matrix) -> Thumbs:
        """Return a thumbnail of each slot.

        Args:
            glance: Of the frame.
            to_frame: From px of the reference to px of the frame, (3, 3).
        """
        to_grey = np.asarray(glance.from_frame @ to_frame, np.float64)
        grey = self._picked(glance.grey, to_grey)
        colour = self._picked(glance.colour, glance.to_colour @ to_grey)
        shape = (-1, _THUMB_HEIGHT, _THUMB_WIDTH)
        rgb = np.asarray(cv2.cvtColor(colour, cv2.COLOR_BGR2RGB), np.uint8)
        return Thumbs(grey.reshape(shape), rgb.reshape(*shape, 3))

    def _picked(self, picture: NDArray[np.uint8], transform: Matrix) -> NDArray[np.uint8]:
        """Return a picture's pixels in the windows, (slots, pixels, ...); `align` only makes affine moves."""
        affine = transform[:2].astype(np.float32)
        where = affine[:, :2] @ self._grid.reshape(2, -1) + affine[:, 2:]
        x, y = where.reshape(self._grid.shape)
        picked = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(picked, np.uint8)


def _grid(places: Corners) -> NDArray[np.float32]:
    """Return the middle of each thumbnail's pixel, px of the reference: float32, (2, slots, 16 * 12)."""
    down = ((np.arange(_THUMB_HEIGHT) + 0.5) / _THUMB_HEIGHT)[:, None]
    right = ((np.arange(_THUMB_WIDTH) + 0.5) / _THUMB_WIDTH)[None, :]
    top_left, top_right, bottom_right, bottom_left = places.transpose(1, 2, 0)[..., None, None]
    upper = top_left + right * (top_right - top_left)
    lower = bottom_left + right * (bottom_right - bottom_left)
    grid = upper + down * (lower - upper)
    return np.asarray(grid.reshape(2, len(places), _THUMB_HEIGHT * _THUMB_WIDTH), np.float32)


@dataclass(frozen=True, slots=True)
class Stillness:
    """What the slots looked like in the frame before; None: there was none."""

    before: NDArray[np.float32] | None = None

    def step(self, grey: NDArray[np.uint8]) -> tuple["Stillness", NDArray[np.bool_]]:
        """Fold in the next frame.

        Args:
            grey: Thumbnails, uint8, (slots, 16, 12).

        Returns:
            The new memory, and for each slot whether it stands still: a hand, or goods on their
            way, move; light that changes as a whole does not count.
        """
        now = in_usual_light(grey)
        if self.before is None:
            return Stillness(now), np.zeros(len(now), np.bool_)
        changed = np.count_nonzero(np.abs(now - self.before) > _CHANGED_LEVELS, axis=1)
        return Stillness(now), np.asarray(changed < _MOVING_SHARE * now.shape[1], np.bool_)


def in_usual_light(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return thumbnails, (n, height, width[, 3]), as if each had the usual light: float32, (n, values)."""
    levels = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    light = levels.mean(axis=1, keepdims=True)
    return np.asarray(levels * (_LIGHT / np.maximum(light, 8.0)), np.float32)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model saw last of each slot.

    Attributes:
        colour: uint8, (slots, 16, 12, 3), RGB.
        limits: uint8, (slots, 1): how far a value may be from that without being another, levels.
        at: float64, (slots,): seconds of the camera; -inf: nothing, or it has moved since.
    """

    colour: Crops
    limits: NDArray[np.uint8]
    at: NDArray[np.float64]

    @classmethod
    def of(cls, colour: Crops, at: NDArray[np.float64]) -> "Seen":
        """Make it; in little light differences are small."""
        light = colour.reshape(len(colour), -1).mean(axis=1, keepdims=True)
        limits = np.clip(light * (_OTHER_LEVELS / _LIGHT), _LEAST_LEVELS, _OTHER_LEVELS)
        return cls(colour, limits.astype(np.uint8), at)

    def other(self, now: Crops) -> NDArray[np.bool_]:
        """Return which slots show another picture now, (slots,): colours count, noise does not."""
        values, seen = now.reshape(len(now), -1), self.colour.reshape(len(now), -1)
        beyond = np.count_nonzero(cv2.absdiff(values, seen) > self.limits, axis=1)
        return np.asarray(beyond > _OTHER_SHARE * values.shape[1], np.bool_)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a frame.

    Attributes:
        still: bool, (slots,): stands still.
        due: bool, (slots,): stands still, and the model must see it.
    """

    still: NDArray[np.bool_]
    due: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Gate:
    """Which slots the model must see."""

    stillness: Stillness = field(default_factory=Stillness)
    seen: Seen | None = None

    def step(
        self, thumbs: Thumbs, at: float, *, settled: NDArray[np.bool_], refresh_s: float
    ) -> tuple["Gate", Verdict]:
        """Fold in the next frame; what is due counts as seen.

        Args:
            thumbs: Of the frame.
            at: Of the frame, seconds of the camera.
            settled: bool, (slots,): what the model said of it counts already.
            refresh_s: How old an answer may become.
        """
        stillness, still = self.stillness.step(thumbs.grey)
        now = thumbs.colour
        seen = self.seen or Seen.of(now, np.full(len(now), -np.inf))
        # Compared with what the model saw, not with the frame before: what comes slowly is seen as well.
        due = still & (~settled | (at - seen.at >= refresh_s) | seen.other(now))
        if still.all() and not due.any():
            return Gate(stillness, seen), Verdict(still, due)
        # What has moved is not what it was, however like it it looks.
        moments = np.where(due, at, np.where(still, seen.at, -np.inf))
        shown = np.where(due[:, None, None, None], now, seen.colour)
        return Gate(stillness, Seen.of(shown, moments)), Verdict(still, due)
