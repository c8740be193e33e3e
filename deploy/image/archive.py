"""Tars of our own files: with the owners that they have on the device, and the same bytes every time."""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder or link of a device.

    Attributes:
        name: Below the root of its file system.
        content: Bytes, or where they are; None: it is a folder.
        link: Where a symbolic link leads.
    """

    name: str
    content: bytes | Path | None = None
    link: str = ""
    mode: int = 0o644
    owner: int = 0


def write(path: Path, entries: Iterable[Entry], epoch: int) -> None:
    """Write a tar, in order of names; the folders between are made.

    Raises:
        OSError: A file cannot be read, or the tar not be written.
    """
    wanted = {entry.name: entry for entry in entries}
    for name in list(wanted):
        for parent in list(Path(name).parents)[:-1]:
            wanted.setdefault(parent.as_posix(), Entry(parent.as_posix(), mode=0o755))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(wanted, key=lambda item: item.split("/")):
            _add(tar, wanted[name], epoch)


def _add(tar: tarfile.TarFile, entry: Entry, epoch: int) -> None:
    info = tarfile.TarInfo(f"./{entry.name}")
    info.mtime = epoch
    info.mode = entry.mode
    info.uid = info.gid = entry.owner
    if entry.link:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
        tar.addfile(info)
    elif entry.content is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif isinstance(entry.content, bytes):
        info.size = len(entry.content)
        tar.addfile(info, io.BytesIO(entry.content))
    else:
        with entry.content.open("rb") as file:
            info.size = entry.content.stat().st_size
            tar.addfile(info, file)
