"""A camera that is mounted on its side or upside down."""

import cv2
import numpy as np

from edge_agent.camera.base import Camera, Frame

_TURNS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


class Rotated(Camera):
    """Frames of another camera, turned clockwise.

    Args:
        camera: As it is mounted.
        degrees: 90, 180 or 270.
    """

    def __init__(self, camera: Camera, degrees: int) -> None:
        self._camera, self._turn = camera, _TURNS[degrees]

    def read(self) -> Frame | None:
        """Return the next frame, upright."""
        frame = self._camera.read()
        if frame is None:
            return None
        return Frame(np.asarray(cv2.rotate(frame.image, self._turn), np.uint8), frame.at)

    @property
    def dropped(self) -> int:
        """How many frames came and were never given."""
        return self._camera.dropped

    def close(self) -> None:
        """Let the camera go."""
        self._camera.close()
