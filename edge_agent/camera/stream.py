"""USB and network cameras through OpenCV: always the latest frame, and again and again after a loss."""

import re
import threading
import time

import cv2
import numpy as np

from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts import config
from edge_agent.contracts.errors import DeviceError

_PATIENCE_S = 1.0
_REOPEN_S = 2.0
_NETWORK_TIMEOUT_MS = 5000


class StreamCamera(Camera):
    """Reads in a thread of its own, so that a slow reader sees the present and never a queue.

    Args:
        settings: `v4l2:/dev/video0`, `rtsp://...`, or an HTTP stream, with the wanted size.
    """

    def __init__(self, settings: config.Camera) -> None:
        self._settings = settings
        self._fresh = threading.Condition()
        self._latest: Frame | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def read(self) -> Frame:
        """Wait a moment for a frame that was not given before.

        Raises:
            DeviceError: None came.
        """
        with self._fresh:
            self._fresh.wait_for(lambda: self._latest is not None, timeout=_PATIENCE_S)
            frame, self._latest = self._latest, None
        if frame is None:
            raise DeviceError(
                f"Expected: a frame from {_shown(self._settings.source)}. "
                f"Received: none in {_PATIENCE_S:g} s.",
                hint="check cable, power and address of the camera; the agent tries again by itself",
            )
        return frame

    def close(self) -> None:
        """End the thread, which lets the camera go."""
        self._ended.set()
        self._thread.join(timeout=2 * _PATIENCE_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            capture = self._open()
            while not self._ended.is_set():
                read, image = capture.read()
                if not read:
                    break
                with self._fresh:
                    self._latest = Frame(np.asarray(image, np.uint8), time.monotonic())
                    self._fresh.notify()
            capture.release()
            self._ended.wait(_REOPEN_S)

    def _open(self) -> cv2.VideoCapture:
        source = self._settings.source
        if source.startswith("v4l2:"):
            device = source.removeprefix("v4l2:")
            number = device.removeprefix("/dev/video")
            # By number where it has one: not every build of OpenCV opens a device by its name.
            capture = cv2.VideoCapture(int(number) if number.isdigit() else device, cv2.CAP_V4L2)
            if self._settings.width and self._settings.height:
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._settings.width)
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._settings.height)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            return capture
        timeouts = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            _NETWORK_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            _NETWORK_TIMEOUT_MS,
        ]
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG, timeouts)


def _shown(source: str) -> str:
    """Return a source fit for a log: without user and password."""
    return re.sub(r"//[^/@]*@", "//", source)
