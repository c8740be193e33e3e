"""A small brush: flat print in pixels of the finished picture, drawn large and scaled down later."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FINE = 3
"""How many times larger everything is drawn than it is shown: that is the antialiasing."""

Pixels = NDArray[np.uint8]
Point = tuple[float, float]


def bgr(colour: str) -> tuple[int, int, int]:
    """Return `#rrggbb` in OpenCV's order."""
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)


@dataclass(slots=True)
class Canvas:
    """A sheet to print on.

    Attributes:
        pixels: uint8, (height * FINE, width * FINE, 4): blue, green, red, opacity.
    """

    pixels: Pixels

    @classmethod
    def blank(cls, width: float, height: float, colour: str, opacity: int = 255) -> "Canvas":
        """Return a sheet of one colour; width and height in pixels of the finished picture."""
        pixels = np.empty((_fine(height), _fine(width), 4), dtype=np.uint8)
        pixels[:] = (*bgr(colour), opacity)
        return cls(pixels)

    @property
    def width(self) -> float:
        """In pixels of the finished picture."""
        return float(self.pixels.shape[1] / FINE)

    @property
    def height(self) -> float:
        """In pixels of the finished picture."""
        return float(self.pixels.shape[0] / FINE)

    def fade(self, top: float, bottom: float, first: str, last: str) -> None:
        """Fill the rows from top to bottom with a colour that turns into another."""
        rows = slice(_fine(top), _fine(bottom))
        share = np.linspace(0, 1, self.pixels[rows].shape[0])[:, None]
        colours = np.array(bgr(first)) * (1 - share) + np.array(bgr(last)) * share
        self.pixels[rows, :, :3] = colours[:, None].astype(np.uint8)

    def box(self, x: float, y: float, width: float, height: float, colour: str, opacity: int = 255) -> None:
        """Fill a rectangle given by its top left corner."""
        first, last = (_fine(x), _fine(y)), (_fine(x + width) - 1, _fine(y + height) - 1)
        cv2.rectangle(self.pixels, first, last, (*bgr(colour), opacity), -1)

    def disc(
        self, x: float, y: float, radius: float, colour: str, *, flat: float = 1.0, turn: float = 0.0
    ) -> None:
        """Fill an ellipse of the given horizontal radius; `flat` is its height over its width."""
        axes = (_fine(radius), max(_fine(radius * flat), 1))
        cv2.ellipse(self.pixels, (_fine(x), _fine(y)), axes, turn, 0, 360, (*bgr(colour), 255), -1)

    def shape(self, points: Sequence[Point], colour: str, opacity: int = 255) -> None:
        """Fill a polygon."""
        corners = np.array([[_fine(x), _fine(y)] for x, y in points], dtype=np.int32)
        cv2.fillPoly(self.pixels, [corners], (*bgr(colour), opacity))

    def line(self, points: Sequence[Point], colour: str, thick: float) -> None:
        """Draw an open line."""
        corners = np.array([[_fine(x), _fine(y)] for x, y in points], dtype=np.int32)
        cv2.polylines(
            self.pixels, [corners], isClosed=False, color=(*bgr(colour), 255), thickness=_fine(thick)
        )

    def text(
        self,
        text: str,
        middle: Point,
        height: float,
        colour: str,
        *,
        thick: float = 2.0,
        face: int = cv2.FONT_HERSHEY_DUPLEX,
        outline: str | None = None,
    ) -> None:
        """Print a line of text around its middle; `height` is that of a capital letter."""
        scale = cv2.getFontScaleFromHeight(face, max(_fine(height), 2), 1)
        (width, _), _ = cv2.getTextSize(text, face, scale, 1)
        origin = (_fine(middle[0]) - width // 2, _fine(middle[1] + height / 2))
        strokes = [(colour, thick)] if outline is None else [(outline, thick + 2.2), (colour, thick)]
        for ink, pen in strokes:
            ink_bgr = (*bgr(ink), 255)
            cv2.putText(self.pixels, text, origin, face, scale, ink_bgr, max(_fine(pen), 1), cv2.LINE_AA)

    def barcode(self, x: float, y: float, width: float, height: float) -> None:
        """Print the bars of a price code on white."""
        self.box(x, y, width, height, "#ffffff")
        for index, bar in enumerate("1011010011101001011011101001"):
            if bar == "1":
                self.box(x + 2 + index * (width - 4) / 28, y + 2, (width - 4) / 28, height - 4, "#20201f")


def _fine(value: float) -> int:
    return round(value * FINE)


def shrink(pixels: Pixels) -> Pixels:
    """Scale what was drawn `FINE` times too large down to the finished picture."""
    size = (pixels.shape[1] // FINE, pixels.shape[0] // FINE)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
