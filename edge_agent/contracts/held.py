"""Where decoded pictures are held: in memory where they fit, else in a file that nobody can see.

The file has no name (it is removed from its folder as soon as it is open), so the kernel frees it
when the last array over it is gone, however the process ends.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.errors import DataError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_SHARE = 0.5
_MB = 10**6


class Held(Protocol):
    """Takes pictures one after another; gives all of them as one array."""

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append one picture: uint8, (height, width, 3)."""

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all but these rows, which are in ascending order."""

    def array(self) -> NDArray[np.uint8]:
        """Return what was taken: uint8, (n, height, width, 3)."""

    def close(self) -> None:
        """Let go; the array stays good."""


def room(count: int, height: int, width: int, *, memory_mb: int | None, spill: Path | None) -> Held:
    """Return where up to `count` pictures can be held.

    Args:
        count: Pictures at most.
        height: Of each, px.
        width: Of each, px.
        memory_mb: Memory that they may take, 10^6 bytes; None: half of what is available.
        spill: Folder of the file that takes them where they need more; None: one for large
            temporary files.
    """
    needed = count * height * width * 3
    allowed = memory_mb * _MB if memory_mb is not None else _SHARE * available_bytes()
    if needed <= allowed:
        return InMemory(count, height, width)
    return InFile(spill or _large_temporary(), height, width)


def available_bytes() -> int:
    """Return how much memory can be had without swapping, as the kernel and a container's limit see it."""
    free = [_physical()]
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        free.append(_physical() // 2)  # not Linux: half of what is built in may well be in use
    try:
        most, used = ((_CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        free.append(int(most) - int(used))
    except (OSError, ValueError):
        free.append(_physical())  # no container, or one without a limit
    return max(min(free), 0)


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _large_temporary() -> Path:
    """Return a folder for large temporary files; /tmp is often memory itself."""
    for place in (os.environ.get("TMPDIR"), "/var/tmp"):  # noqa: S108 - the file has no name there
        if place and os.access(place, os.W_OK):
            return Path(place)
    return Path(tempfile.gettempdir())


class InMemory:
    """Pictures in an array of their own."""

    def __init__(self, count: int, height: int, width: int) -> None:
        self._images = np.zeros((count, height, width, 3), np.uint8)
        self._used = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append one picture."""
        self._images[self._used] = picture
        self._used += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all but these rows, in place."""
        for place, row in enumerate(rows):
            if place != row:
                self._images[place] = self._images[row]
        self._used = len(rows)

    def array(self) -> NDArray[np.uint8]:
        """Return the pictures."""
        return self._images[: self._used]

    def close(self) -> None:
        """Nothing to let go."""


class InFile:
    """Pictures in a file without a name; the array reads them from there as they are asked for.

    They are written, not mapped, while they come: on a full disk a write is an error, a mapped
    page is the end of the process.
    """

    def __init__(self, folder: Path, height: int, width: int) -> None:
        self._folder, self._shape = folder, (height, width, 3)
        self._used = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = tempfile.TemporaryFile(dir=folder, prefix=".tmp-")  # noqa: SIM115 - closed by `close`
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append one picture.

        Raises:
            DataError: The disk is full.
        """
        try:
            self._file.write(np.ascontiguousarray(picture).data)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        self._used += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all but these rows, in place."""
        size = int(np.prod(self._shape))
        for place, row in enumerate(rows):
            if place != row:
                self._file.seek(row * size)
                picture = self._file.read(size)
                self._file.seek(place * size)
                self._file.write(picture)
        self._file.truncate(len(rows) * size)
        self._used = len(rows)

    def array(self) -> NDArray[np.uint8]:
        """Return the pictures, mapped: private to this process, and read as they are needed.

        Raises:
            DataError: The disk is full.
        """
        try:
            self._file.flush()
        except OSError as exc:
            raise self._unwritable(exc) from exc
        if not self._used:
            return np.zeros((0, *self._shape), np.uint8)
        return np.memmap(self._file, np.uint8, mode="c", shape=(self._used, *self._shape))

    def close(self) -> None:
        """Close the file; a mapped array keeps its content until it is gone itself."""
        try:
            self._file.close()
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> DataError:
        return DataError(
            f"Expected: room for decoded photos in {self._folder}. Received: {exc.strerror}.",
            hint="free some disk space there, allow more memory, or take a smaller picture size",
        )
