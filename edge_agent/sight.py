"""What one frame shows, for people who set a camera up: where the shelf is, and which faults there are.

The judgement is the agent's own, without its patience: a fault is named at once, not when it has held.
"""

from dataclasses import dataclass
from math import atan2, degrees, hypot

import numpy as np

from edge_agent.align import Alignment, Follower, Glance, Matrix, View
from edge_agent.camera.base import Frame
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.events import CameraFault
from edge_agent.contracts.photos import read_picture
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image
from edge_agent.faults import Freeze, Look, judge


@dataclass(frozen=True, slots=True)
class Move:
    """How far the shelf is from its place in the reference picture, in px of the frame.

    Attributes:
        px: Of the corner that is farthest from its place.
        right: Of the middle.
        down: Of the middle.
        turn: Degrees, clockwise.
        growth: 1.02: two percent larger than in the reference.
    """

    px: float
    right: float
    down: float
    turn: float
    growth: float

    @classmethod
    def of(cls, exact: Matrix, reference: tuple[int, ...], frame: tuple[int, ...]) -> "Move":
        """Measure it.

        Args:
            exact: From px of the reference to px of the frame, (3, 3).
            reference: Height and width of the reference picture, px.
            frame: Height and width of the frame, px.
        """
        tall, wide = reference[:2]
        scale = np.diag([frame[1] / wide, frame[0] / tall, 1.0])
        points = np.array([[0, wide, wide, 0, wide / 2], [0, 0, tall, tall, tall / 2], [1] * 5], np.float64)
        apart = ((exact - scale) @ points)[:2]
        # Without the change of size between the pictures: what the camera itself did.
        own = exact @ np.linalg.inv(scale)
        return cls(
            px=float(np.hypot(*apart[:, :4]).max()),
            right=float(apart[0, 4]),
            down=float(apart[1, 4]),
            turn=degrees(atan2(own[1, 0], own[0, 0])),
            growth=hypot(own[0, 0], own[1, 0]),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What a frame shows.

    Attributes:
        faults: What the agent would report if it went on like this.
        placed: Where the reference is; None: in a picture with such a fault nothing can be found.
        move: How far that is from where it should be; None: it was not found.
    """

    faults: frozenset[CameraFault]
    placed: Alignment | None
    move: Move | None


class Sight:
    """Judges the frames of one camera against the reference picture.

    Args:
        reference: uint8, (height, width, 3), BGR.
    """

    def __init__(self, reference: Image) -> None:
        self._shape = reference.shape
        self._follower, self._reference = Follower(reference), Look.of(reference)
        self._freeze = Freeze()

    def see(self, frame: Frame) -> Seen:
        """Judge the next frame."""
        glance = Glance.of(frame.image)
        look = Look.at(glance)
        self._freeze = self._freeze.step(look, frame.at)
        found = judge(look, self._reference)
        placed = None if found else self._follower.align(frame.image, glance, frame.at)
        if placed is not None and placed.view is View.MOVED:
            found = {CameraFault.MOVED}
        if self._freeze.frozen(frame.at):
            found.add(CameraFault.FROZEN)
        move = None
        if placed is not None and placed.view is not View.UNSURE:
            move = Move.of(placed.exact, self._shape, frame.image.shape)
        return Seen(frozenset(found), placed, move)


def reference_of(shelf: Planogram | None) -> Image | None:
    """Read the reference picture; that there is none is among the planogram's problems."""
    if shelf is None:
        return None
    try:
        return read_picture(shelf.reference)
    except DataError:
        return None
