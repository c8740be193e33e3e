"""A video file: every frame that the wanted rate asks for, with its time in the clip."""

from pathlib import Path

import cv2
import numpy as np

from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts.errors import DataError

_DEFAULT_FPS = 25.0


class VideoCamera(Camera):
    """Frames of a clip, one after another as fast as they are read.

    Args:
        path: Of the file.
        fps: Frames wanted for each second of the clip; a slower clip gives all that it has.

    Raises:
        DataError: It cannot be opened, or holds no frame.
    """

    def __init__(self, path: str, *, fps: float) -> None:
        if not Path(path).is_file():
            raise DataError(f"Expected: a video file. Received: {path}, which is not there.")
        self._path = path
        self._capture = cv2.VideoCapture(path)
        self._rate = self._capture.get(cv2.CAP_PROP_FPS) or _DEFAULT_FPS
        self._interval = 1 / fps
        self._number = 0
        self._due = 0.0
        # The first frame is taken now, so that a file without one is refused at once.
        self._held = self._capture.isOpened() and self._capture.grab()
        if not self._held:
            self._capture.release()
            raise DataError(
                f"Expected: a video that OpenCV can decode. Received: {path}.",
                hint="convert it, for example: ffmpeg -i IN -c:v libx264 OUT.mp4",
            )

    def read(self) -> Frame | None:
        """Return the next frame that is due, or None at the end of the clip.

        Raises:
            DataError: A frame in the middle cannot be decoded.
        """
        while self._held or self._capture.grab():
            self._held = False
            at = self._number / self._rate
            self._number += 1
            # Half a frame of slack against rounding.
            if at < self._due - 0.5 / self._rate:
                continue
            self._due += self._interval
            decoded, image = self._capture.retrieve()
            if not decoded:
                raise DataError(
                    f"Expected: frames that can be decoded. Received: none at {at:.2f} s of {self._path}."
                )
            return Frame(np.asarray(image, np.uint8), at)
        return None

    def close(self) -> None:
        """Let the file go."""
        self._capture.release()
