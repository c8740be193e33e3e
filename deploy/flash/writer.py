"""The order in which an image gets onto a drive: until everything is there and proven, nothing can be booted.

    1  the place of the table of parts is overwritten with zeros, at both ends of the drive
    2  everything from the first part on is written, hashed on the way, and flushed
    3  it is read back from the drive itself, and must have the same hash
    4  the device's own files are put onto the boot partition
    5  the table of parts is written, its first sector last, and read back

Whatever ends it in between leaves a drive without a table of parts, which no machine boots.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deploy.drives import Disk
from deploy.flash.image import HEAD, Table
from edge_agent.contracts.errors import DataError, DeviceError

SECTOR = 512
_TAIL = 1024 * 1024
_SYNC_EVERY = 64 * 1024 * 1024
_READ = 4 * 1024 * 1024

Progress = Callable[[str, int], None]
"""Told a phase, and how many bytes of it are done."""


class VerifyError(DeviceError):
    """A drive that gives back other bytes than were written."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written and read back."""

    size: int
    sha256: str


def write(
    disk: Disk,
    image: Iterable[bytes],
    table: Table,
    inject: Callable[[], None],
    progress: Progress = lambda _phase, _done: None,
) -> Written:
    """Write an image.

    Args:
        disk: Open for nobody else.
        image: Its bytes in order.
        table: Of its parts.
        inject: Puts the device's own files onto the boot partition.
        progress: Told how far it is.

    Raises:
        DataError: The image is shorter than its parts.
        DeviceError: The drive is too small, fails, or gives back other bytes.
    """
    _erase(disk)
    head, size, sha256 = _stream(disk, image, progress)
    if size < table.needs:
        raise DataError(
            f"Expected: an image of {table.needs} bytes, as its table of parts says. Received: {size}.",
            hint="fetch or build the image again",
        )
    first = min(table.first, len(head))
    disk.write_at(first, memoryview(head)[first:])
    disk.sync()
    disk.forget()
    if _read_back(disk, head[:first], size, progress) != sha256:
        raise VerifyError(
            f"Expected: what was written. Received: other bytes from {disk.path}.",
            hint="the drive or its reader is broken, or smaller than it says; take another one",
        )
    progress("provisioning", size)
    inject()
    disk.sync()
    _seal(disk, head[:first])
    return Written(size, sha256)


def _erase(disk: Disk) -> None:
    """Make the drive one that cannot be booted, and that no older table is found on.

    Its first sector alone comes first: what was on the drive is whole until then, and cannot be booted after.
    """
    disk.write_at(0, bytes(SECTOR))
    disk.sync()
    disk.write_at(SECTOR, bytes(min(HEAD, disk.size) - SECTOR))
    tail = max(HEAD, disk.size - _TAIL)
    disk.write_at(tail, bytes(max(0, disk.size - tail)))
    disk.sync()


def _stream(disk: Disk, image: Iterable[bytes], progress: Progress) -> tuple[bytes, int, str]:
    """Write everything but the head, and return the head, the size and the hash of all."""
    digest, head, offset, synced = hashlib.sha256(), bytearray(), 0, 0
    for chunk in image:
        digest.update(chunk)
        if offset + len(chunk) > disk.size:
            raise DeviceError(
                f"Expected: room for the image. Received: {disk.path}, with {disk.size} bytes.",
                hint="take a larger drive",
            )
        kept = max(0, min(len(chunk), HEAD - offset))
        head += chunk[:kept]
        if kept < len(chunk):
            disk.write_at(offset + kept, memoryview(chunk)[kept:])
        offset += len(chunk)
        if offset - synced >= _SYNC_EVERY:
            # What waits in memory is not written: a bar that is full must not stand for minutes.
            disk.sync()
            synced = offset
        progress("writing", offset)
    disk.sync()
    return bytes(head), offset, digest.hexdigest()


def _read_back(disk: Disk, table: bytes, size: int, progress: Progress) -> str:
    digest = hashlib.sha256(table)
    offset = len(table)
    while offset < size and (part := disk.read_at(offset, min(_READ, size - offset))):
        digest.update(part)
        offset += len(part)
        progress("verifying", offset)
    return digest.hexdigest()


def _seal(disk: Disk, table: bytes) -> None:
    """Write what makes the drive one that can be booted; its first sector is what makes it so."""
    disk.write_at(SECTOR, table[SECTOR:])
    disk.sync()
    disk.write_at(0, table[:SECTOR])
    disk.sync()
    disk.forget()
    if disk.read_at(0, len(table)) != table:
        disk.write_at(0, bytes(len(table)))
        disk.sync()
        raise VerifyError(
            f"Expected: the table of parts as it was written. Received: another from {disk.path}.",
            hint="take another drive",
        )
