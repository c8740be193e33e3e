"""From flat print to a thing that stands on a shelf: bodies of revolution, and boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.camera.shelf.brush import FINE, Canvas, Pixels, bgr, shrink

Rows = NDArray[np.float32]

# The camera looks down a little: a ring of radius r is seen as an ellipse r * _TILT high.
_TILT = 0.10
_LIGHT_RAD = -0.45  # where the ceiling light stands, seen from the shelf: to the left


class Body(Protocol):
    """Something that can be looked at from the front."""

    def seen(self, turn: float) -> Pixels:
        """Return how it looks, turned around its vertical axis.

        Args:
            turn: Radians.

        Returns:
            uint8, (height, width, 4): blue, green, red, opacity, at the size of the finished picture.
        """


@dataclass(frozen=True, slots=True)
class Round:
    """A can, bottle or jar: a print wrapped around an outline.

    Attributes:
        print: The whole circumference; its middle faces the camera.
        outline: float32, (print height * FINE,): radius in fine pixels for each row of the print.
        gloss: How strong the highlights are: 0 paper, 1 lacquer.
        metal: How strong the vertical bands of a metal surface are.
        lid: Colour of the top seen from above, if it shows.
    """

    print: Canvas
    outline: Rows
    gloss: float = 0.6
    metal: float = 0.0
    lid: str | None = None

    def seen(self, turn: float) -> Pixels:
        """See `Body.seen`."""
        widest = float(self.outline.max())
        head, foot = _TILT * float(self.outline[0]), _TILT * float(self.outline[-1])
        rows, columns = len(self.outline) + int(head + foot) + 2, 2 * int(widest) + 4
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        x -= columns / 2 - 0.5
        y -= head
        # Which ring of the body a pixel shows depends on that ring's radius: two rounds are enough.
        ring = y
        for _ in range(2):
            radius = self._radius(ring)
            ring = y - _TILT * np.sqrt(np.maximum(radius**2 - x**2, 0))
        radius = self._radius(ring)
        angle = np.arcsin(np.clip(x / radius, -1, 1))
        inside = (np.abs(x) <= radius) & (ring >= 0) & (ring <= len(self.outline) - 1)
        pixels = self._wrapped(angle + turn, ring)
        pixels[..., :3] = np.clip(
            pixels[..., :3] * self._shade(angle, ring)[..., None] + self._shine(angle), 0, 255
        )
        pixels[..., 3] *= inside
        self._cover(pixels, head)
        return shrink(pixels.astype(np.uint8))

    def _radius(self, ring: Rows) -> Rows:
        index = np.clip(ring, 0, len(self.outline) - 1).astype(np.int32)
        return np.asarray(np.maximum(self.outline[index], 1), dtype=np.float32)

    def _wrapped(self, angle: Rows, ring: Rows) -> Rows:
        across = (self.print.pixels.shape[1] * (0.5 + angle / (2 * np.pi))).astype(np.float32)
        picked = cv2.remap(self.print.pixels, across, ring, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        return np.asarray(picked, dtype=np.float32)

    def _shade(self, angle: Rows, ring: Rows) -> Rows:
        slope = np.gradient(self.outline)[np.clip(ring, 0, len(self.outline) - 1).astype(np.int32)]
        shade = 0.50 + 0.56 * np.cos(angle - _LIGHT_RAD) + 0.22 * np.clip(slope, -1, 1)
        shade += self.metal * (0.22 * np.cos(5 * angle + 0.6) - 0.1)
        # The far right edge turns away from the light and picks up the neighbour's shadow.
        return np.asarray(shade * (1 - 0.35 * np.clip(angle - 0.75, 0, 1)), dtype=np.float32)

    def _shine(self, angle: Rows) -> Rows:
        band = np.exp(-(((angle - _LIGHT_RAD - 0.12) / 0.13) ** 2)) + 0.35 * np.exp(
            -(((angle - 1.05) / 0.09) ** 2)
        )
        return np.asarray(95 * self.gloss * band[..., None], dtype=np.float32)

    def _cover(self, pixels: Rows, head: float) -> None:
        if self.lid is None:
            return
        middle = (pixels.shape[1] // 2, round(head))
        radius = int(self.outline[0])
        for share, light in ((1.0, 0.92), (0.9, 0.62), (0.84, 0.84)):
            colour = (*(light * channel for channel in bgr(self.lid)), 255)
            axes = (int(radius * share), int(head * share))
            cv2.ellipse(pixels, middle, axes, 0, 0, 360, colour, -1)


@dataclass(frozen=True, slots=True)
class Box:
    """A box or carton: a printed front, and a sliver of its side when turned.

    Attributes:
        front: The printed front; transparent where there is nothing.
        side: Colour of the sides.
        depth: px of the finished picture.
        shoulder: How far below the top the sides begin, px of the finished picture.
    """

    front: Canvas
    side: str
    depth: float
    shoulder: float = 0.0

    def seen(self, turn: float) -> Pixels:
        """See `Body.seen`."""
        height, full = self.front.pixels.shape[:2]
        width = max(round(full * np.cos(turn)), 1)
        front = np.asarray(cv2.resize(self.front.pixels, (width, height)), dtype=np.float32)
        front[..., :3] *= self._light(height, width)[..., None]
        sliver = round(self.depth * FINE * abs(np.sin(turn)))
        side = np.zeros((height, sliver, 4), dtype=np.float32)
        lift = np.linspace(0.0, 0.3, sliver) if turn > 0 else np.linspace(0.3, 0.0, sliver)
        for column, rise in enumerate(lift):
            # Sides run away from the camera, which looks down: their foot rises towards the back.
            side[round(self.shoulder * FINE) : height - round(rise * sliver), column] = (*bgr(self.side), 255)
        side[..., :3] *= 0.62 if turn > 0 else 0.9
        parts = [front, side] if turn > 0 else [side, front]
        return shrink(np.clip(np.concatenate(parts, axis=1), 0, 255).astype(np.uint8))

    @staticmethod
    def _light(height: int, width: int) -> Rows:
        across = np.linspace(1.06, 0.92, width, dtype=np.float32)
        down = np.linspace(1.06, 0.90, height, dtype=np.float32)
        light = down[:, None] * across[None]
        rim = max(FINE, 2)
        light[:, :rim] *= 1.12
        light[:, -rim:] *= 0.8
        light[:rim] *= 1.15
        light[-rim:] *= 0.7
        return light


def outline(height: float, points: Sequence[tuple[float, float]]) -> Rows:
    """Return the radius of each row, smooth between the given (distance from the top, radius), px."""
    rows = np.arange(round(height * FINE), dtype=np.float32) / FINE
    places, radii = zip(*points, strict=True)
    radius = np.interp(rows, places, radii).astype(np.float32)[None]
    kernel = (1, 6 * FINE + 1)
    smooth = cv2.GaussianBlur(radius.T, kernel, 1.6 * FINE, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smooth[:, 0] * FINE, dtype=np.float32)
