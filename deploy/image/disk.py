"""A whole drive in a file: a GPT and its partitions.

1  boot     FAT32, SHELFBOOT: loader, kernel, and what the device is told
2  root-a   ext4, read-only: the system
3  root-b   as large, and empty: room for a system that comes later
4  data     ext4: releases, configuration, events; grows to the end of the drive
"""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.image.filesystems import MIB
from deploy.image.tools import program, run

BOOT_MIB = 128
ROOT_MIB = 1024
FIRST_MIB = 1
_SECTOR = 512
_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_NAMESPACE = uuid.UUID("6d1f3e0a-37f5-4b7e-9c0e-5f1d1e9f7c11")


@dataclass(frozen=True, slots=True)
class Partition:
    """One of them.

    Attributes:
        mib: Its size.
        content: Its file system; None: nothing.
    """

    name: str
    kind: str
    mib: int
    content: Path | None


def identity(seed: str, part: str) -> uuid.UUID:
    """Return the UUID of a part: the same for the same image, another for every other one."""
    return uuid.uuid5(_NAMESPACE, f"{seed}/{part}")


def layout(boot: Path, root: Path, data: Path) -> list[Partition]:
    """Return the partitions of a device, in order."""
    return [
        Partition("boot", _ESP, BOOT_MIB, boot),
        Partition("root-a", _LINUX, ROOT_MIB, root),
        Partition("root-b", _LINUX, ROOT_MIB, None),
        Partition("data", _LINUX, data.stat().st_size // MIB, data),
    ]


def table(partitions: list[Partition], seed: str) -> str:
    """Return the partition table as sfdisk reads it."""
    lines = ["label: gpt", f"label-id: {identity(seed, 'disk')}", "unit: sectors", "sector-size: 512", ""]
    at = FIRST_MIB
    for part in partitions:
        first, size = at * MIB // _SECTOR, part.mib * MIB // _SECTOR
        name = identity(seed, part.name)
        lines.append(f'start={first}, size={size}, type={part.kind}, uuid={name}, name="{part.name}"')
        at += part.mib
    return "\n".join(lines) + "\n"


def assemble(out: Path, partitions: list[Partition], seed: str) -> None:
    """Write the drive; where nothing is, the file has a hole.

    Raises:
        DataError: A tool is missing.
    """
    total = FIRST_MIB + sum(part.mib for part in partitions) + 1
    out.write_bytes(b"")
    os.truncate(out, total * MIB)
    run(["sfdisk", "--quiet", str(out)], text=table(partitions, seed))
    at = FIRST_MIB
    for part in partitions:
        if part.content is not None:
            place = [f"if={part.content}", f"of={out}", "bs=1M", f"seek={at}"]
            run(["dd", *place, "conv=notrunc,sparse", "status=none"])
        at += part.mib


def compress(image: Path, out: Path) -> None:
    """Compress it; the number of cores changes nothing about the bytes.

    Raises:
        DataError: A tool is missing, or the disk is full.
    """
    run(["zstd", "-q", "-f", "-T0", "-3", "--check", str(image), "-o", str(out)])


def available() -> Mapping[str, str]:
    """Return where the programs are that an image is made with.

    Raises:
        DataError: One is missing.
    """
    names = ("tar", "mke2fs", "dumpe2fs", "debugfs", "mkfs.vfat", "mcopy", "mmd", "sfdisk", "zstd")
    return {name: program(name) for name in names}
