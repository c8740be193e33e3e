"""A camera that serves its latest picture over HTTP."""

import http.client
import time
import urllib.request
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts.errors import DeviceError

_TIMEOUT_S = 5.0
_MAX_BYTES = 32 * 1024 * 1024


class StillCamera(Camera):
    """Fetches one picture for each frame.

    Args:
        url: http or https, of a JPEG or PNG; may carry user and password.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if parts.username is not None:
            name, password = unquote(parts.username), unquote(parts.password or "")
            passwords.add_password(None, self._url, name, password)
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)
        )

    def read(self) -> Frame:
        """Fetch the picture.

        Raises:
            DeviceError: The camera does not answer, or with something else.
        """
        at = time.monotonic()
        try:
            with self._opener.open(self._url, timeout=_TIMEOUT_S) as answer:
                data = answer.read(_MAX_BYTES) if answer.status == HTTPStatus.OK else b""
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        except (OSError, http.client.HTTPException, ValueError, cv2.error) as exc:
            raise DeviceError(f"Expected: a picture from {self._url}. Received: {exc}.") from exc
        if image is None:
            raise DeviceError(f"Expected: a picture from {self._url}. Received: {len(data)} other bytes.")
        return Frame(np.asarray(image, np.uint8), at)
