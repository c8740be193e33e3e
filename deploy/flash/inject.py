"""Files onto a FAT partition inside of a drive or image, without mounting it."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edge_agent.contracts.errors import DeviceError, UsageError

_ENVIRONMENT = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull}
"""The user's own settings of mtools are none of ours."""


def inject(disk: Path, offset: int, files: Mapping[str, bytes]) -> None:
    """Put files into the root folder of a FAT partition, and read each back.

    Args:
        disk: Drive or image.
        offset: Where the partition begins, in bytes.
        files: By name; those that are there are replaced.

    Raises:
        DeviceError: It is no FAT, it is full, or gives back other bytes.
        UsageError: mtools is missing.
    """
    place = f"{disk}@@{offset}"
    with tempfile.TemporaryDirectory() as name:
        room, back = Path(name) / "in", Path(name) / "out"
        room.mkdir(mode=0o700)
        back.mkdir(mode=0o700)
        for file, content in files.items():
            (room / file).write_bytes(content)
        _mtools("mcopy", "-o", "-Q", "-i", place, *(str(room / file) for file in files), "::")
        _mtools("mcopy", "-i", place, *(f"::{file}" for file in files), str(back))
        wrong = [file for file, content in files.items() if (back / file).read_bytes() != content]
    if wrong:
        raise DeviceError(
            f"Expected: the device's files as they were written. Received: others from {disk}: "
            f"{', '.join(wrong)}.",
            hint="take another drive",
        )


def _mtools(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | _ENVIRONMENT
        )
    except FileNotFoundError as exc:
        raise UsageError(
            "Expected: mtools. Received: no program mcopy.",
            hint="install it, for example: apt install mtools",
        ) from exc
    if done.returncode:
        raise DeviceError(
            f"Expected: a FAT partition with room. Received: mtools: {done.stderr.strip()[-300:]}",
            hint="take the image of `shelfkit deploy image build`",
        )
