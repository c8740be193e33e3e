"""USB and network cameras through OpenCV; it blocks, so that it belongs behind `Latest`."""

import math
import os
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.camera.base import Frame, Stream
from edge_agent.camera.lag import Lag
from edge_agent.contracts import config
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.sources import shown

_TIMEOUT_S = 5
_STALE_S = 1.0
_HOPELESS_S = 5.0
_QUEUED_S = 0.001
_QUEUE = 250
"""Frames that come without a wait are a queue; so many in a row are a server that does not pace itself."""
_FFMPEG_ERROR = 16
_MOTION_JPEG = {"MJPG", "JPEG", "mjpg", "jpeg"}
_JPEG_END = b"\xff\xd9"
_PADDING = 1024
_BUSY_HINT = "does another program use it, and may this user (group video)? The agent tries again by itself"
_ADDRESS_HINT = "check power, network, address, name and password; the agent tries again by itself"


def prepare(source: str) -> None:
    """Tell OpenCV how to connect and how long to wait, and to keep passwords for itself; before it begins.

    Its own debugging output would show them: what is asked for in the environment is turned down
    where the source has something to hide.

    Args:
        source: As in `device.yaml`.
    """
    # Over UDP, a lost packet is a grey half of a picture; sound is of no use.
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|allowed_media_types;video")
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(_TIMEOUT_S))
    if shown(source) == source:
        return
    os.environ.pop("OPENCV_FFMPEG_DEBUG", None)
    level = os.environ.get("OPENCV_FFMPEG_LOGLEVEL")
    if level is not None and not (level.isdecimal() and int(level) <= _FFMPEG_ERROR):
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = str(_FFMPEG_ERROR)
    if cv2.utils.logging.getLogLevel() > cv2.utils.logging.LOG_LEVEL_ERROR:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


class StreamCamera(Stream):
    """One connection to a camera.

    Args:
        settings: `v4l2:/dev/video0`, `rtsp://...`, or an HTTP stream, with the wanted size.

    Raises:
        DeviceError: It cannot be opened.
    """

    def __init__(self, settings: config.Camera) -> None:
        self._source = settings.source
        self._name = shown(settings.source)
        self._capture = _device(settings) if self._source.startswith("v4l2:") else _network(self._source)
        if not self._capture.isOpened():
            self._capture.release()
            raise DeviceError(
                f"Expected: {self._name} to open. Received: no stream.",
                hint=_BUSY_HINT if self._source.startswith("v4l2:") else _ADDRESS_HINT,
            )
        self._raw = not self._source.startswith("v4l2:") and self._undecoded()
        self._timed = self._source.startswith("rtsp")
        self._lag = Lag()
        self._unbroken = 0
        self._empty_at = -math.inf
        self._queued = True
        self._at = 0.0

    def grab(self) -> None:
        """Wait for the next frame.

        Raises:
            DeviceError: The stream has ended, or is behind for good.
        """
        begin = time.monotonic()
        if not self._capture.grab():
            raise DeviceError(f"Expected: a frame from {self._name}. Received: the end of the stream.")
        self._at = time.monotonic()
        waited = self._at - begin >= _QUEUED_S
        self._note(waited=waited)
        if self._timed:
            self._lag = self._lag.step(self._at, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            behind = self._lag.behind_s
            # With a queue there is hope to catch up; where frames are slow to decode there is none.
            if waited and behind is not None and _HOPELESS_S < behind < math.inf:
                raise DeviceError(
                    f"Expected: the present from {self._name}. Received: frames {behind:.0f} s late.",
                    hint="choose a smaller picture or a lower frame rate in the camera",
                )

    def retrieve(self) -> Frame | None:
        """Return the frame that was grabbed, or None when it is damaged or old."""
        if self._late():
            return None
        decoded, data = self._capture.retrieve()
        image = _unpacked(np.asarray(data, np.uint8).ravel()) if decoded and self._raw else data
        return Frame(np.asarray(image, np.uint8), self._at) if decoded and image is not None else None

    def close(self) -> None:
        """End the connection."""
        self._capture.release()

    def _late(self) -> bool:
        if self._timed and self._lag.behind_s is not None:
            return self._lag.behind_s > _STALE_S
        return self._raw and self._queued

    def _note(self, *, waited: bool) -> None:
        """Note whether this frame may have stood in a queue for long, where the stream has no clock."""
        # Nothing is decoded: a grab that had to wait found the queue empty, and what comes later is younger.
        self._unbroken = 0 if waited else self._unbroken + 1
        if waited or self._unbroken > _QUEUE:
            self._empty_at = self._at
        self._queued = self._at - self._empty_at > _STALE_S

    def _undecoded(self) -> bool:
        """Ask for frames as they come where each is a JPEG: FFmpeg would decode those that nobody takes."""
        kind = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1")
        return kind in _MOTION_JPEG and self._capture.set(cv2.CAP_PROP_FORMAT, -1)


def _unpacked(data: NDArray[np.uint8]) -> "cv2.typing.MatLike | None":
    """Decode a JPEG, None unless it is whole: not every version of OpenCV refuses half of one."""
    if _JPEG_END not in data[-_PADDING:].tobytes():
        return None
    # As every other way of decoding a stream: a camera that says how it hangs is not believed.
    return cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def _device(settings: config.Camera) -> cv2.VideoCapture:
    name = settings.source.removeprefix("v4l2:")
    place = Path(f"/dev/video{name}" if name.isdigit() else name)
    if not place.exists():
        raise DeviceError(
            f"Expected: a camera at {place}. Received: no such device.",
            hint="check its cable; `ls /dev/v4l/by-id` shows the cameras that there are",
        )
    # What stays the same when a camera is plugged in again (/dev/v4l/by-id/...) is a link to the device.
    number = str(place.resolve()).removeprefix("/dev/video")
    # By number where it has one: not every build of OpenCV opens a device by its name.
    capture = cv2.VideoCapture(int(number) if number.isdigit() else str(place), cv2.CAP_V4L2)
    if settings.width and settings.height:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _network(source: str) -> cv2.VideoCapture:
    timeouts = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        1000 * _TIMEOUT_S,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        1000 * _TIMEOUT_S,
    ]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, timeouts)
