"""What is wrong with a camera, from its pictures alone. Pure.

A covered lens and a lens out of focus both lose all detail; what is out of focus still has its
light and dark in the places of the reference, what is covered has not.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.align import Glance
from edge_agent.contracts.events import CameraFault
from edge_agent.contracts.preprocess import Image

_SIZE = (240, 135)
_SMOOTH_PX = 0.6
_PLACES_PX = 6.75
_DARK_MEAN = 14.0
_BRIGHT = 250
_OVEREXPOSED_SHARE = 0.6
_DETAIL_LOST = 0.2
"""Share of the reference's detail. An empty shelf keeps half of it, a covered lens a twentieth."""
_SAME_PLACES = 0.6
FROZEN_S = 60.0
"""How long a picture may be the same to the last bit; noise alone changes every real one."""


@dataclass(frozen=True, slots=True)
class Look:
    """A frame as the judgement of faults needs it.

    Attributes:
        grey: uint8, (135, 240).
        light: Mean of `grey`, levels.
        detail: How much of it there is, relative to the light.
    """

    grey: NDArray[np.uint8]
    light: float
    detail: float

    @classmethod
    def of(cls, frame: Image) -> "Look":
        """Make it from a frame: uint8, (height, width, 3), BGR."""
        return cls.at(Glance.of(frame))

    @classmethod
    def at(cls, glance: Glance) -> "Look":
        """Make it from a frame that was made small already."""
        grey = np.asarray(cv2.resize(glance.grey, _SIZE, interpolation=cv2.INTER_AREA), np.uint8)
        light = cv2.mean(grey)[0]
        # Slightly blurred, or the noise of the sensor would count as detail.
        smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _SMOOTH_PX)
        _, spread = cv2.meanStdDev(cv2.Laplacian(smooth, cv2.CV_32F))
        # Relative to the light, or dusk would look like a cover.
        return cls(grey, light, float(spread[0, 0]) / max(light, 1.0))

    @property
    def places(self) -> NDArray[np.float32]:
        """Where it is light and where dark, without any detail: float32, (135, 240)."""
        return np.asarray(cv2.GaussianBlur(self.grey, (0, 0), _PLACES_PX), np.float32)


def judge(look: Look, reference: Look) -> set[CameraFault]:
    """Return what is wrong with a single frame.

    Args:
        look: Of the frame.
        reference: Of the planogram's reference picture.
    """
    if look.light < _DARK_MEAN:
        return {CameraFault.DARK}
    if np.count_nonzero(look.grey >= _BRIGHT) > _OVEREXPOSED_SHARE * look.grey.size:
        return {CameraFault.OVEREXPOSED}
    if look.detail < _DETAIL_LOST * reference.detail:
        alike = _correlation(look.places, reference.places)
        return {CameraFault.DEFOCUSED if alike > _SAME_PLACES else CameraFault.BLOCKED}
    return set()


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return Pearson's correlation, 0 where a picture is the same all over."""
    apart = float(one.std() * other.std())
    return float(((one - one.mean()) * (other - other.mean())).mean()) / apart if apart else 0.0


def judged(found: set[CameraFault], *, placed: bool) -> set[CameraFault]:
    """Return which faults a frame can say anything about: faults overlap, and some hide others.

    Args:
        found: What `judge` said.
        placed: Whether the reference was found in the frame, here or elsewhere.
    """
    can = {CameraFault.LOST, CameraFault.FROZEN, CameraFault.DARK, CameraFault.OVEREXPOSED}
    if not found & {CameraFault.DARK, CameraFault.OVEREXPOSED}:
        can |= {CameraFault.BLOCKED, CameraFault.DEFOCUSED}
    if not found and placed:
        can.add(CameraFault.MOVED)
    return can


@dataclass(frozen=True, slots=True)
class Freeze:
    """Since when the picture is the same to the last bit."""

    picture: bytes = b""
    since: float = 0.0

    def step(self, look: Look, at: float) -> "Freeze":
        """Fold in the next frame."""
        picture = look.grey.tobytes()
        return self if picture == self.picture else Freeze(picture, at)

    def frozen(self, at: float) -> bool:
        """Return whether it has been for too long."""
        return bool(self.picture) and at - self.since > FROZEN_S
