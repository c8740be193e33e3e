"""The Raspberry Pi's own camera, through `picamera2` (which comes with the system, not from here).

It blocks, and can hang, so that it belongs behind `Latest`.
"""

import importlib.util
import time
from contextlib import suppress

import numpy as np

from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts import config
from edge_agent.contracts.errors import DeviceError

_DEFAULT_SIZE = (1920, 1080)


def require() -> None:
    """Check that there is `picamera2`, as no waiting brings it.

    Raises:
        DeviceError: There is none.
    """
    if importlib.util.find_spec("picamera2") is None:
        raise DeviceError(
            "Expected: the package picamera2. Received: none on this machine.",
            hint="on Raspberry Pi OS: apt install python3-picamera2; elsewhere use v4l2:/dev/video0",
        )


class PiCamera(Camera):
    """One still of the running camera for each frame.

    Args:
        settings: The wanted size.

    Raises:
        DeviceError: There is no `picamera2`, or no camera.
    """

    def __init__(self, settings: config.Camera) -> None:
        require()
        from picamera2 import Picamera2  # noqa: PLC0415 - on a Raspberry Pi alone

        size = (settings.width or _DEFAULT_SIZE[0], settings.height or _DEFAULT_SIZE[1])
        try:
            self._camera = Picamera2()
            # What libcamera calls RGB888 lies in memory as B, G, R: what OpenCV wants.
            self._camera.configure(
                self._camera.create_video_configuration(main={"size": size, "format": "RGB888"})
            )
            self._camera.start()
        except (RuntimeError, IndexError) as exc:
            raise DeviceError(f"Expected: a camera on this board. Received: {exc}.") from exc

    def read(self) -> Frame:
        """Return the present.

        Raises:
            DeviceError: The camera stopped.
        """
        try:
            return Frame(np.asarray(self._camera.capture_array("main"), np.uint8), time.monotonic())
        except RuntimeError as exc:
            raise DeviceError(f"Expected: a frame. Received: {exc}.") from exc

    def close(self) -> None:
        """Stop the camera."""
        # One that has gone cannot be stopped, and need not be.
        with suppress(RuntimeError):
            self._camera.stop()
            self._camera.close()
