"""Arrays in .npz files that came from elsewhere: no pickle, and every kind of damage is one error.

A file decides what it claims, not what is allocated: an array's header must agree with the size that
the archive records for it, and that size with what so many compressed bytes can become at all. The
archive's own directory is read only as far as arrays can need.
"""

import io
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from edge_agent.contracts.errors import DataError

_MOST_INFLATED = 1032
"""Deflate makes at most 258 bytes of a match that costs two bits."""
_MOST_DIRECTORY = 1024 * 1024
"""Bytes of an archive's directory: room for thousands of arrays."""
_PLAIN_KINDS = "biufcSU"


class _Archive(io.BufferedReader):
    """A file that gives little at once while an archive's directory is read from it.

    `zipfile` reads the directory whole, however large it says it is, and makes an object of every
    46 bytes of it, before anyone can look at it.
    """

    opening = True

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.opening:
            return super().read(size)
        most = _MOST_DIRECTORY + 1
        content = super().read(most if size is None or size < 0 else min(size, most))
        if len(content) == most:
            msg = f"an archive whose directory has more than {_MOST_DIRECTORY} bytes"
            raise ValueError(msg)
        return content


def read_npz(path: Path, names: tuple[str, ...], *, max_bytes: int | None = None) -> tuple[NDArray[Any], ...]:
    """Return the named arrays of an .npz file, in that order.

    Args:
        path: The file.
        names: Of the arrays, without `.npy`.
        max_bytes: What each array may take; None: what the file can really hold.

    Raises:
        DataError: The file is missing, damaged, pickled, claims more than it can hold or `max_bytes`
            allows, or lacks one of the names.
    """
    try:
        with _Archive(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what numpy says of a header that Python 2 wrote
            file.opening = False
            room = os.fstat(file.fileno()).st_size
            return tuple(_array(archive, f"{name}.npy", room, max_bytes) for name in names)
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        EOFError,
        TypeError,
        AttributeError,
        SyntaxError,
        RuntimeError,  # encrypted, nested too deep, packed in a way that nobody implements
        OverflowError,
        tokenize.TokenError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
        MemoryError,
    ) as exc:
        wanted = ", ".join(names)
        said = str(exc)[:300] or type(exc).__name__
        raise DataError(f"Expected: the arrays {wanted} in {path}. Received: {said}.") from exc


def _array(archive: zipfile.ZipFile, name: str, room: int, max_bytes: int | None) -> NDArray[Any]:
    info = archive.getinfo(name)
    _refuse_claims(info, room, max_bytes)
    with archive.open(info) as file:
        size = _claimed(file)
        start = file.tell()
    if size != info.file_size - start:
        msg = f"{name} of {info.file_size - start} bytes whose header says {size}"
        raise ValueError(msg)
    with archive.open(info) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _refuse_claims(info: zipfile.ZipInfo, room: int, max_bytes: int | None) -> None:
    """Refuse an array that says that it is larger than a file of `room` bytes can hold, or may be."""
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        msg = f"{info.filename} compressed in a way that numpy does not write"
        raise ValueError(msg)
    packed = min(info.compress_size, room)
    if info.file_size > _MOST_INFLATED * packed:
        msg = f"{info.filename}, {packed} bytes that claim to become {info.file_size}"
        raise ValueError(msg)
    if max_bytes is not None and info.file_size > max_bytes:
        msg = f"{info.filename} of {info.file_size} bytes, more than {max_bytes}"
        raise ValueError(msg)


def _claimed(file: IO[bytes]) -> int:
    """Return how many bytes of numbers or text a .npy header says will follow."""
    version = npy.read_magic(file)
    # Later versions differ by headers of up to 4 GB, which numpy writes for structured arrays alone.
    if version != (1, 0):
        msg = f"an array in version {version} of its format; 1.0 holds all that the kit knows"
        raise ValueError(msg)
    shape, _, dtype = npy.read_array_header_1_0(file)
    if dtype.kind not in _PLAIN_KINDS or not dtype.itemsize or any(size < 0 for size in shape):
        msg = f"an array of {dtype} in shape {shape}; objects and structures are not read"
        raise ValueError(msg)
    return math.prod(shape) * int(dtype.itemsize)
