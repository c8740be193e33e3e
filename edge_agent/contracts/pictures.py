"""Picture files: what kind they are, whether they are whole, and their pixels.

The signatures are those of the formats' own specifications: JPEG (ITU-T T.81, B.1), PNG (W3C,
5.2), WebP (RFC 9649, 2.4), TIFF 6.0 (section 2), ISO base media (ISO/IEC 14496-12, 4.3).
"""

import stat
from pathlib import Path

import cv2
import numpy as np

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.preprocess import Image

KINDS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Files that are taken for photos, by suffix."""

FOREIGN = frozenset(
    {".avif", ".gif", ".heic", ".heif", ".jp2"}
    | {".arw", ".cr2", ".dng", ".nef", ".raw"}
    | {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"}
)
"""Suffixes of pictures and videos that the kit does not read, so that it says what it leaves out."""

_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (8, b"AVI ", "AVI video"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"GIF8", "GIF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftyp", "MP4 video"),
    (0, b"\x1aE\xdf\xa3", "Matroska video"),
)
_UNKNOWN = "no picture that the kit knows"
_PNG_END = b"IEND\xaeB`\x82"
_MARKER = 0xFF
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15 (ITU-T T.81, table B.1)."""


def read_picture(path: Path, *, as_named: bool = False) -> Image:
    """Read a photo: upright as its EXIF says; grey, CMYK, alpha and 16 bit become 8-bit BGR.

    Args:
        path: The file.
        as_named: Refuse content of another kind than the suffix says.

    Returns:
        uint8, (height, width, 3), BGR.

    Raises:
        DataError: Missing, empty, cut short, no picture, or not the kind that its name says.
    """
    data = _bytes(path)
    kind = kind_of(data)
    named = KINDS.get(path.suffix.lower())
    if as_named and named and kind != named:
        raise DataError(f"Expected: {named}, as {path.suffix} says. Received: {kind}, {len(data)} bytes.")
    if _cut_short(data, kind):
        raise DataError(f"Expected: a whole {kind}. Received: one that was cut short.")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as exc:
        raise DataError(f"Expected: a photo. Received: {exc.err}.") from exc
    if picture is None:
        raise DataError(f"Expected: a photo. Received: {len(data)} bytes that are no picture.")
    return np.asarray(picture, np.uint8)


def jpeg(picture: Image, quality: int) -> bytes:
    """Return a picture, uint8, (height, width, 3), BGR, as JPEG of a quality from 0 to 100."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def kind_of(data: bytes) -> str:
    """Return what kind of picture or video a file's first bytes belong to, in words."""
    for offset, signature, kind in _SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return kind
    return _UNKNOWN


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG or PNG from its head alone, px; None for anything else.

    So that a few bytes which claim to be a huge picture need not be believed and decoded first.
    """
    if kind_of(data) == "PNG":
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    at = 2
    while kind_of(data) == "JPEG" and at + 9 <= len(data) and data[at] == _MARKER:
        if data[at + 1] in _FRAME_HEADERS:
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        # Fill bytes may stand before a marker; every other segment says how long it is.
        at += 1 if data[at + 1] == _MARKER else 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def _bytes(path: Path) -> bytes:
    try:
        # A pipe or a device would keep us waiting for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError("Expected: a photo. Received: something that is no file.")
        return path.read_bytes()
    except OSError as exc:
        raise DataError(f"Expected: a photo. Received: {exc.strerror}.") from exc


def _cut_short(data: bytes, kind: str) -> bool:
    """Tell files that end early, which decoders may fill up with grey and say nothing."""
    if kind == "JPEG":
        # The first half may hold the end of a thumbnail; after the end of the picture itself
        # cameras may append more.
        return b"\xff\xd9" not in data[len(data) // 2 :]
    if kind == "PNG":
        return _PNG_END not in data
    return kind == "WebP" and int.from_bytes(data[4:8], "little") + 8 > len(data)
