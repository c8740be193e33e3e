"""Sharpness and light of a frame, as an installer needs them. Pure.

Faults are judged on a small picture, which a lens slightly out of focus leaves as it is; here every pixel
counts. Private places are black, with sharp borders: they count for nothing.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.masked import Masked
from edge_agent.camera.rotated import Rotated
from edge_agent.contracts.config import Polygon
from edge_agent.contracts.preprocess import Image

Grey = NDArray[np.uint8]
Quads = NDArray[np.float64]

_UNDER, _OVER = 8, 247
_SOFT = (3, 3)
_BORDER_PX = 7
_SIDEWAYS = (90, 270)


@dataclass(frozen=True, slots=True)
class Meters:
    """What is measured of a whole frame.

    Attributes:
        sharpness: How much fine detail there is, relative to the light; the same shelf is sharpest where
            this is largest.
        light: Mean, levels of 255.
        under: Share of pixels that are as good as black.
        over: Share of pixels that are as good as white.
    """

    sharpness: float
    light: float
    under: float
    over: float


@dataclass(frozen=True, slots=True)
class Detail:
    """The fine detail of a picture, wherever it may be looked at.

    Attributes:
        grey: uint8, (height, width).
        edges: int16, (height, width): second derivative.
        counts: uint8, (height, width): 0 where nothing counts.
    """

    grey: Grey
    edges: NDArray[np.int16]
    counts: Grey

    @classmethod
    def of(cls, picture: Image, counts: Grey) -> "Detail":
        """Find it.

        Args:
            picture: uint8, (height, width, 3), BGR.
            counts: As `seen_part` gives it, of the same size.
        """
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
        # Slightly blurred, or the noise of the sensor would count as detail.
        edges = cv2.Laplacian(cv2.GaussianBlur(grey, _SOFT, 0), cv2.CV_16S)
        return cls(grey, np.asarray(edges, np.int16), counts)

    def meters(self) -> Meters:
        """Measure the whole picture."""
        total = max(cv2.countNonZero(self.counts), 1)
        return Meters(
            sharpness=_sharpness(self.grey, self.edges, self.counts),
            light=cv2.mean(self.grey, self.counts)[0],
            under=np.count_nonzero((self.grey <= _UNDER) & (self.counts > 0)) / total,
            over=np.count_nonzero((self.grey >= _OVER) & (self.counts > 0)) / total,
        )

    def sharpness(self, quads: Quads) -> list[float]:
        """Return how sharp each quad is, 0 where nothing of it is in the picture.

        Args:
            quads: float64, (n, 4, 2): x, y in px of the picture.
        """
        found = []
        for quad in quads:
            (left, top), (right, bottom) = quad.min(axis=0), quad.max(axis=0)
            across = slice(max(round(float(left)), 0), max(round(float(right)), 0))
            down = slice(max(round(float(top)), 0), max(round(float(bottom)), 0))
            found.append(
                _sharpness(self.grey[down, across], self.edges[down, across], self.counts[down, across])
            )
        return found


def _sharpness(grey: Grey, edges: NDArray[np.int16], counts: Grey) -> float:
    if not grey.size:
        return 0.0
    _, spread = cv2.meanStdDev(edges, mask=counts)
    # Relative to the light: a camera that adjusts it must not look as if the lens had been turned.
    return 100 * float(spread[0, 0]) / max(cv2.mean(grey, counts)[0], 1.0)


class _White(Camera):
    """One white frame."""

    def __init__(self, height: int, width: int) -> None:
        self._picture = np.full((height, width, 3), 255, np.uint8)

    def read(self) -> Frame:
        """Return it."""
        return Frame(self._picture, 0.0)


def seen_part(shape: tuple[int, ...], masks: tuple[Polygon, ...], rotate: int) -> Grey:
    """Return what of a frame is no private place, nor the border of one: uint8, (height, width), 0 or 255.

    Args:
        shape: Height and width of the frame as it is shown, px.
        masks: Polygons in px of the raw frame.
        rotate: From the raw frame to the one that is shown, degrees clockwise.
    """
    height, width = (shape[1], shape[0]) if rotate in _SIDEWAYS else shape[:2]
    camera: Camera = Masked(_White(height, width), masks)
    frame = (Rotated(camera, rotate) if rotate else camera).read()
    white = np.zeros(shape[:2], np.uint8) if frame is None else frame.image[..., 0]
    return np.asarray(cv2.erode(white, np.ones((_BORDER_PX, _BORDER_PX), np.uint8)), np.uint8)
