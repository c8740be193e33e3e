"""A camera that serves its latest picture over HTTP."""

import http.client
import time

import cv2
import numpy as np

from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.fetch import Fetcher
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.sources import shown

_WHOLE_S = 5.0
_MAX_BYTES = 32 * 1024 * 1024


class StillCamera(Camera):
    """Fetches one picture for each frame.

    Args:
        url: http or https, of a JPEG or PNG; may carry user and password.
        whole_s: How long a whole picture may take, seconds.
    """

    def __init__(self, url: str, *, whole_s: float = _WHOLE_S) -> None:
        self._name = shown(url)
        self._fetcher = Fetcher(url, span_s=whole_s)

    def read(self) -> Frame:
        """Fetch the picture.

        Raises:
            DeviceError: The camera does not answer, or with something else.
        """
        at = time.monotonic()
        try:
            data = self._fetcher.fetch(_MAX_BYTES)
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        except OSError as exc:
            raise DeviceError(f"Expected: a picture from {self._name}. Received: {exc}.") from exc
        except (http.client.HTTPException, ValueError, cv2.error) as exc:
            # Some of these say the whole address, and with it what must not be shown.
            raise DeviceError(
                f"Expected: a picture from {self._name}. Received: {type(exc).__name__}."
            ) from None
        if image is None:
            raise DeviceError(f"Expected: a picture from {self._name}. Received: {len(data)} other bytes.")
        return Frame(np.asarray(image, np.uint8), at)
