"""Reference pictures from people and devices: nothing of them is trusted but their pixels."""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from edge_agent.contracts import pictures
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.preprocess import Image

MOST_BYTES = 16 * 1024 * 1024
"""Of an upload."""

_MOST_SIDE, _MOST_PIXELS = 8192, 40_000_000
_LEAST_SIDE = 64
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}
_SENT_BYTES = 5 * 1024 * 1024
_QUALITIES = (95, 90, 80, 65, 50)


def cleaned(data: bytes) -> bytes:
    """Return a picture as JPEG that holds pixels alone: upright, no EXIF, no larger than a device takes.

    Args:
        data: JPEG or PNG, from anywhere.

    Raises:
        DataError: It is something else, too large or too small, or not whole.
    """
    return encoded(decoded(data))


def decoded(data: bytes) -> Image:
    """Return the pixels of a picture from anywhere: uint8, (height, width, 3), BGR, upright.

    Raises:
        DataError: No JPEG or PNG, not whole, or of a size that a device does not take.
    """
    kind, size = pictures.kind_of(data), pictures.size_of(data)
    suffix = _SUFFIXES.get(kind)
    if suffix is None or size is None:
        raise DataError(f"Expected: a picture, JPEG or PNG. Received: {kind}, {len(data)} bytes.")
    # Before it is decoded: a few bytes can claim to be a picture that fills the memory.
    if max(size) > _MOST_SIDE or size[0] * size[1] > _MOST_PIXELS or min(size) < _LEAST_SIDE:
        raise DataError(
            f"Expected: a picture of {_LEAST_SIDE} to {_MOST_SIDE} px a side, at most "
            f"{_MOST_PIXELS // 1_000_000} million px. Received: {size[0]}x{size[1]}."
        )
    with tempfile.TemporaryDirectory(prefix="shelfkit-") as room:
        path = Path(room) / f"picture{suffix}"
        path.write_bytes(data)
        return pictures.read_picture(path, as_named=True)


def encoded(picture: Image) -> bytes:
    """Return a picture as JPEG, as good as a command to a device may be large.

    Raises:
        DataError: Even a poor one is too large.
    """
    for quality in _QUALITIES:
        data = pictures.jpeg(picture, quality)
        if len(data) <= _SENT_BYTES:
            return data
    raise DataError(f"Expected: a picture that fits {_SENT_BYTES} bytes. Received: one that does not.")


def blank(width: int, height: int) -> bytes:
    """Return an empty picture as PNG: to check places where the device keeps its picture to itself."""
    # A device may say any size; of a picture no more is taken either.
    _, data = cv2.imencode(".png", np.zeros((min(height, _MOST_SIDE), min(width, _MOST_SIDE)), np.uint8))
    return data.tobytes()
