"""Files onto a FAT partition inside of a drive, and the proof that they are there."""

from collections.abc import Mapping
from pathlib import Path

from deploy.image.filesystems import read, written
from deploy.image.tools import program
from edge_agent.contracts.errors import DataError, DeviceError


def inject(disk: Path, offset: int, files: Mapping[str, bytes]) -> None:
    """Put files into the root folder of a FAT partition, and read each back.

    Args:
        disk: Drive or image.
        offset: Where the partition begins, in bytes.
        files: By name; those that are there are replaced.

    Raises:
        DeviceError: It is no FAT, it is full, or gives back other bytes.
        DataError: mtools are missing.
    """
    program("mcopy")
    try:
        written(disk, dict(files), offset=offset)
    except DataError as exc:
        raise DeviceError(
            f"Expected: a FAT partition with room. Received: {exc}",
            hint="take the image of `shelfkit deploy image build`",
        ) from exc
    wrong = [file for file, content in files.items() if read(disk, file, offset=offset) != content]
    if wrong:
        raise DeviceError(
            f"Expected: the device's files as they were written. Received: others from {disk}: "
            f"{', '.join(wrong)}.",
            hint="take another drive",
        )
