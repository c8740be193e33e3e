"""Small files on a device's disk: read with suspicion, written durably."""

import contextlib
import os
import shutil
import stat
from pathlib import Path

from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.files import flush, written_beside

MOST_BYTES = 256 * 1024


def read_small(path: Path) -> bytes | None:
    """Return a small plain file; None where there is none, or something else under its name.

    Others may write into the folder: no link is followed, nothing is waited for, and nothing large is read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            content = file.read(MOST_BYTES + 1)
    except OSError:
        return None
    return content if len(content) <= MOST_BYTES else None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that anybody may read: all of it is on the disk when this returns, or nothing.

    Raises:
        DeviceError: The disk does not take it.
    """
    try:
        with written_beside(path) as staged:
            staged.write_bytes(content)
            staged.chmod(0o644)
    except OSError as exc:
        raise DeviceError(f"Expected: room for {path}. Received: {exc.strerror or exc}.") from exc


def sweep(folder: Path) -> None:
    """Remove what a power cut has left of one's own writing; what others are writing is theirs."""
    for path in folder.glob(".tmp-*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid():
                shutil.rmtree(path)


def point(link: Path, target: str) -> None:
    """Let a symbolic link lead somewhere else, in one step and durably.

    Raises:
        DeviceError: The disk does not take it.
    """
    try:
        if link.is_symlink() and str(link.readlink()) == target:
            return
        fresh = link.with_name(f".{link.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(link)
        flush(link.parent)
    except OSError as exc:
        raise DeviceError(f"Expected: room for {link}. Received: {exc.strerror or exc}.") from exc
