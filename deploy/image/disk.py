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
    """One of them; `at` and `mib` say where it is, in MiB."""

    name: str
    kind: str
    at: int
    mib: int

    @property
    def offset(self) -> int:
        """Where it begins, in bytes."""
        return self.at * MIB


def identity(seed: str, part: str) -> uuid.UUID:
    """Return the UUID of a part: the same for the same image, another for every other one."""
    return uuid.uuid5(_NAMESPACE, f"{seed}/{part}")


def layout(data_mib: int) -> dict[str, Partition]:
    """Return the partitions of a device by name, in order."""
    found, at = dict[str, Partition](), FIRST_MIB
    sizes = (("boot", _ESP, BOOT_MIB), ("root-a", _LINUX, ROOT_MIB), ("root-b", _LINUX, ROOT_MIB))
    for name, kind, mib in (*sizes, ("data", _LINUX, data_mib)):
        found[name] = Partition(name, kind, at, mib)
        at += mib
    return found


def partitioned(out: Path, partitions: Mapping[str, Partition], seed: str) -> None:
    """Write a drive of empty partitions; where nothing is, the file has a hole.

    Raises:
        DataError: A tool is missing.
    """
    out.write_bytes(b"")
    os.truncate(out, (max(part.at + part.mib for part in partitions.values()) + 1) * MIB)
    lines = ["label: gpt", f"label-id: {identity(seed, 'disk')}", "unit: sectors", "sector-size: 512", ""]
    for part in partitions.values():
        first, size = part.offset // _SECTOR, part.mib * MIB // _SECTOR
        name = identity(seed, part.name)
        lines.append(f'start={first}, size={size}, type={part.kind}, uuid={name}, name="{part.name}"')
    run(["sfdisk", "--quiet", str(out)], text="\n".join(lines) + "\n")


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
