"""Deterministic archives of a release's components."""

import hashlib
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from deploy.bars import Told, untold
from deploy.release.xz import compressed
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.release import MOST_UNPACKED, Component, header

_BLOCK = 512


def files_below(folder: Path) -> dict[str, Path]:
    """Return every file of a folder by its name in an archive; what Python compiled is left out.

    Raises:
        DataError: There is something else than plain files and folders.
    """
    found = {}
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        if "__pycache__" in inner.parts or path.is_dir():
            continue
        if path.is_symlink() or not path.is_file():
            raise DataError(f"Expected: plain files. Received: {path}, which is none.")
        found[inner.as_posix()] = path
    return found


def pack(
    name: str,
    version: str,
    files: Mapping[str, Path],
    into: Path,
    *,
    xz: bool = False,
    told: Told = untold,
) -> Component:
    """Write an archive under the name of its hash.

    Args:
        name: Of the component.
        version: Of the component.
        files: By their names inside.
        into: The folder `components`; an archive that is there already is left alone.
        xz: Smaller, and slower to unpack.
        told: How far it is.

    Raises:
        DataError: A file cannot be read, or its name is too long.
    """
    suffix = "tar.xz" if xz else "tar"
    unpacked = sum(path.stat().st_size for path in files.values())
    if not 0 < unpacked <= MOST_UNPACKED:
        raise DataError(f"Expected: up to {MOST_UNPACKED} bytes of {name}. Received: {unpacked}.")
    try:
        with written_beside(into / f".packing.{suffix}") as staged:
            blocks = _counted(_blocks(files), name, unpacked, told)
            with staged.open("wb") as archive:
                archive.writelines(compressed(blocks) if xz else blocks)
            with staged.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = staged.stat().st_size
        (into / f".packing.{suffix}").replace(into / f"{sha256}.{suffix}")
    except (OSError, ValueError) as exc:
        raise DataError(f"Expected: files that can be packed. Received: {name}: {exc}.") from exc
    return Component(name, version, f"components/{sha256}.{suffix}", sha256, size, unpacked)


def _blocks(files: Mapping[str, Path]) -> Iterable[bytes]:
    for name in sorted(files, key=lambda item: item.split("/")):
        data = files[name].read_bytes()
        executable = bool(files[name].stat().st_mode & stat.S_IXUSR)
        yield header(name, len(data), executable=executable)
        yield data
        yield b"\0" * (-len(data) % _BLOCK)
    yield b"\0" * (2 * _BLOCK)


def _counted(blocks: Iterable[bytes], name: str, whole: int, told: Told) -> Iterator[bytes]:
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        told(name, min(done, whole), whole)
