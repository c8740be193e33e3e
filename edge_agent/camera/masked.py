"""Private places are black before anything else sees a frame."""

import cv2
import numpy as np

from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts.config import Polygon


class Masked(Camera):
    """Frames of another camera, with polygons filled.

    Args:
        camera: As it is mounted.
        polygons: In px of its raw frame, before any rotation.
    """

    def __init__(self, camera: Camera, polygons: tuple[Polygon, ...]) -> None:
        self._camera = camera
        self._polygons = [np.array(polygon, np.int32) for polygon in polygons]

    def read(self) -> Frame | None:
        """Return the next frame, masked."""
        frame = self._camera.read()
        if frame is None:
            return None
        image = frame.image.copy()
        cv2.fillPoly(image, self._polygons, (0, 0, 0))
        return Frame(image, frame.at)

    @property
    def dropped(self) -> int:
        """How many frames came and were never given."""
        return self._camera.dropped

    def close(self) -> None:
        """Let the camera go."""
        self._camera.close()
