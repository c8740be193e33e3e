"""What one frame shows: where the shelf is, and which faults there are.

Without patience: a fault is named at once, not when it has held. That is for `rules`, where it matters.
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
from edge_agent.faults import Freeze, Look, judge, judged


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
        glance: The frame made small.
        light: Its mean, levels.
        faults: What is wrong with it.
        can_tell: Of which faults it says anything: some hide others.
        placed: Where the reference is; None: in a picture with such a fault nothing can be found.
        sizes: Height and width of the reference picture and of the frame, px.
    """

    glance: Glance
    light: float
    faults: frozenset[CameraFault]
    can_tell: frozenset[CameraFault]
    placed: Alignment | None
    sizes: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def found(self) -> bool:
        """Whether the reference was found in it, here or elsewhere."""
        return self.placed is not None and self.placed.view is not View.UNSURE

    @property
    def move(self) -> Move | None:
        """How far the shelf is from where it should be; None: it was not found."""
        return Move.of(self.placed.exact, *self.sizes) if self.placed is not None and self.found else None


class Sight:
    """Judges the frames of one camera against the reference picture.

    Args:
        reference: uint8, (height, width, 3), BGR.
    """

    def __init__(self, reference: Image) -> None:
        self._shape = reference.shape
        self._follower, self._reference = Follower(reference), Look.of(reference)
        self._freeze = Freeze()

    @property
    def light(self) -> float:
        """Mean of the reference picture, levels."""
        return self._reference.light

    @property
    def plain(self) -> bool:
        """Whether the reference has too little structure to be found anywhere."""
        return self._follower.plain

    def see(self, frame: Frame) -> Seen:
        """Judge the next frame."""
        glance = Glance.of(frame.image)
        look = Look.at(glance)
        self._freeze = self._freeze.step(look, frame.at)
        faults = judge(look, self._reference)
        # In a picture with one of these faults nothing can be found, and nothing is read.
        placed = None if faults else self._follower.align(frame.image, glance, frame.at)
        can_tell = judged(faults, placed=placed is not None and placed.view is not View.UNSURE)
        if placed is not None and placed.view is View.MOVED:
            faults = {CameraFault.MOVED}
        if self._freeze.frozen(frame.at):
            faults.add(CameraFault.FROZEN)
        sizes = self._shape, frame.image.shape
        return Seen(glance, look.light, frozenset(faults), frozenset(can_tell), placed, sizes)


def reference_of(shelf: Planogram | None) -> Image | None:
    """Read the reference picture; that there is none is among the planogram's problems."""
    if shelf is None:
        return None
    try:
        return read_picture(shelf.reference)
    except DataError:
        return None
