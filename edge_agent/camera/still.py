"""A camera that serves its latest picture over HTTP."""

import time
import urllib.error
import urllib.request
from http import HTTPStatus

import cv2
import numpy as np

from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts.errors import DeviceError

_TIMEOUT_S = 5.0
_MAX_BYTES = 32 * 1024 * 1024


class StillCamera(Camera):
    """Fetches one picture for each frame.

    Args:
        url: http or https, of a JPEG or PNG.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self) -> Frame:
        """Fetch the picture.

        Raises:
            DeviceError: The camera does not answer, or with something else.
        """
        at = time.monotonic()
        try:
            with urllib.request.urlopen(self._url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - config allows http(s) only
                data = answer.read(_MAX_BYTES) if answer.status == HTTPStatus.OK else b""
        except (OSError, urllib.error.URLError) as exc:
            raise DeviceError(f"Expected: a picture from {self._url}. Received: {exc}.") from exc
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if image is None:
            raise DeviceError(f"Expected: a picture from {self._url}. Received: {len(data)} other bytes.")
        return Frame(np.asarray(image, np.uint8), at)
