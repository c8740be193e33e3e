"""Component archives onto the disk; nothing but what the packer writes gets there.

Every header is made again from what it says, and must be the same bytes: links, devices, folders,
sparse files, long names of other formats, owners and times are refused without being looked at.
"""

import contextlib
import lzma
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.files import flush
from edge_agent.contracts.release import MOST_UNPACKED, header
from edge_agent.update.refusals import DamagedError, EndlessError

MOST_FILES = 100_000
MOST_DEEP = 32
_BLOCK = 512
_CHUNK = 1024 * 1024
_XZ_MEMORY = 64 * 1024 * 1024
_END = b"\0" * (2 * _BLOCK)


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Xz:
    """What is inside a .xz, in bounded memory, and never more of it than is asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inner = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        parts = bytearray()
        while len(parts) < size and not self._inner.eof:
            more = self._file.read(64 * 1024) if self._inner.needs_input else b""
            if self._inner.needs_input and not more:
                raise EOFError
            parts += self._inner.decompress(more, size - len(parts))
        if self._inner.eof and (self._inner.unused_data or self._file.read(1)):
            raise _damaged("nothing after its end", "more")
        return bytes(parts)


def unpack(archive: Path, into: Path, *, most: int = MOST_UNPACKED) -> int:
    """Unpack an archive, durably, and return how many bytes its files take.

    Args:
        archive: `.tar` or `.tar.xz`, of a release.
        into: Folder that is not there yet; after an error it is not there again.
        most: Bytes that all files may take.

    Raises:
        DamagedError: It is no archive that the kit has packed.
        EndlessError: It holds more than it may.
        DeviceError: The disk does not take it.
    """
    try:
        into.mkdir(parents=True)
        with archive.open("rb") as file:
            source = _Xz(file) if archive.suffix == ".xz" else file
            total = _files(source, into, most)
        for folder in sorted((path for path in into.rglob("*") if path.is_dir()), reverse=True):
            flush(folder)
        flush(into)
        flush(into.parent)
    except (EOFError, lzma.LZMAError, tarfile.TarError, UnicodeError, ValueError) as exc:
        _removed(into)
        raise _damaged("one that is whole", f"{type(exc).__name__} {exc}") from exc
    except OSError as exc:
        if not isinstance(exc, FileExistsError):
            _removed(into)
        raise DeviceError(f"Expected: room to unpack. Received: {into}: {exc.strerror or exc}.") from exc
    except BaseException:
        _removed(into)
        raise
    return total


def _removed(folder: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


def _files(source: _Source, into: Path, most: int) -> int:
    total = 0
    before = ""
    for count, (name, size, executable) in enumerate(_entries(source)):
        total += size
        if total > most or count >= MOST_FILES:
            raise EndlessError(f"Expected: at most {most} bytes in {MOST_FILES} files. Received: more.")
        if name.split("/") <= before.split("/"):
            raise _damaged("names in order, each once", name)
        if before and name.startswith(f"{before}/"):
            raise _damaged("a file or a folder", f"both under {before}")
        _write(source, into / name, size, executable=executable)
        before = name
    return total


def _entries(source: _Source) -> Iterator[tuple[str, int, bool]]:
    """Yield name, size and whether it may be run; between two of them the content is read."""
    while True:
        block = _exactly(source, _BLOCK)
        if block == _END[:_BLOCK]:
            if _exactly(source, _BLOCK) != _END[:_BLOCK] or source.read(1):
                raise _damaged("nothing after its end", "more")
            return
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        executable = bool(info.mode & 0o100)
        if block != header(info.name, info.size, executable=executable):
            raise _damaged("plain files as the kit packs them", f"{info.name!r:.200}")
        _require_inside(info.name)
        yield info.name, info.size, executable


def _require_inside(name: str) -> None:
    parts = name.split("/")
    if len(parts) > MOST_DEEP or not name.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise _damaged("a name inside of its folder", f"{name!r:.200}")


def _write(source: _Source, path: Path, size: int, *, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if executable else 0o644)
    with os.fdopen(handle, "wb") as file:
        left = size
        while left:
            chunk = _exactly(source, min(left, _CHUNK))
            file.write(chunk)
            left -= len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if any(_exactly(source, -size % _BLOCK)):
        raise _damaged("zeros between files", "something else")


def _exactly(source: _Source, size: int) -> bytes:
    data = source.read(size) if size else b""
    if len(data) != size:
        raise EOFError(f"{len(data)} of {size} bytes")
    return data


def _damaged(expected: str, received: str) -> DamagedError:
    return DamagedError(f"Expected: a component's archive, {expected}. Received: {received:.300}.")
