"""File systems in files, without mounting one: ext4 of tars, FAT of single files."""

import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.image.tools import as_owner, program, run

MIB = 1024 * 1024
_CONFIG = """\
[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    default_mntopts = acl,user_xattr
    enable_periodic_fsck = 0
    blocksize = 4096
    inode_size = 256
    inode_ratio = 16384
[fs_types]
    ext4 = {
        features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
    }
"""
"""Ours, so that every machine makes the same file system."""
_MTOOLS = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull, "TZ": "UTC"}
"""The user's own settings of mtools are none of ours."""


def unpacked(tars: Sequence[Path], into: Path, excluded: Sequence[str] = ()) -> None:
    """Unpack tars over each other and what is there, with the owners that they name.

    Raises:
        DataError: One cannot be unpacked.
    """
    into.mkdir(exist_ok=True)
    for tar in tars:
        words = [
            "tar",
            "-x",
            "--numeric-owner",
            "-p",
            "-C",
            str(into),
            "-f",
            str(tar),
            "--delay-directory-restore",
        ]
        run(as_owner([*words, *(f"--exclude={pattern}" for pattern in excluded)]))


def removed(folder: Path) -> None:
    """Remove what `unpacked` has made, whoever owns it."""
    run(as_owner(["rm", "-rf", "--one-file-system", str(folder)]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where in a file a file system is to be, and what tells it from others.

    Attributes:
        image: The file.
        offset: Where in it, in bytes.
        mib: How large.
        label: Of the file system.
        name: Its UUID, or what the number of a FAT is taken from.
        epoch: Every time in it, seconds since 1970.
    """

    image: Path
    offset: int = 0
    mib: int
    label: str
    name: uuid.UUID
    epoch: int


def ext4(tree: Path, place: Place, room: Path, *, journal: bool) -> None:
    """Make an ext4 file system of a folder.

    Args:
        tree: What is in it.
        place: Where it is written.
        room: For work in between.
        journal: Whether it has one; what is only read needs none.

    Raises:
        DataError: It does not fit, or a tool is missing.
    """
    config = room / "mke2fs.conf"
    config.write_text(_CONFIG, encoding="utf-8")
    features = ["-O", "has_journal" if journal else "^has_journal"]
    command = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        *features,
        "-L",
        place.label,
        "-U",
        str(place.name),
        "-m",
        "0",
    ]
    options = f"offset={place.offset},hash_seed={place.name},root_owner=0:0,lazy_itable_init=0,nodiscard"
    command += ["-E", options, "-d", str(tree), str(place.image), f"{place.mib}M"]
    settings = {"MKE2FS_CONFIG": str(config), "E2FSPROGS_FAKE_TIME": str(place.epoch)}
    run(as_owner(command), environment=settings)
    _settle_times(place, room)


def _settle_times(place: Place, room: Path) -> None:
    """Give every file the same times: mke2fs takes those of this machine, such as when it was unpacked."""
    where, commands = f"{place.image}?offset={place.offset}", []
    for inode in _used_inodes(run(["dumpe2fs", where])):
        for field in ("atime", "ctime", "crtime"):
            commands.append(f"sif <{inode}> {field} @{place.epoch}\n")
            if field != "crtime":
                commands.append(f"sif <{inode}> {field}_extra 0\n")
    script = room / "debugfs"
    script.write_text("".join(commands), encoding="ascii")
    run(["debugfs", "-w", "-f", str(script), where], environment={"E2FSPROGS_FAKE_TIME": str(place.epoch)})


def _used_inodes(dump: str) -> list[int]:
    total = int(re.search(r"^Inode count:\s+(\d+)", dump, re.MULTILINE)[1])  # type: ignore[index]  # dumpe2fs says it
    free: set[int] = set()
    for text in re.findall(r"^  Free inodes: ?(.*)$", dump, re.MULTILINE):
        for part in filter(None, text.split(", ")):
            first, _, last = part.partition("-")
            free.update(range(int(first), int(last or first) + 1))
    return [inode for inode in range(1, total + 1) if inode not in free]


def fat(place: Place, files: Mapping[str, Path | bytes], room: Path) -> None:
    """Make a FAT32 file system with these files in it.

    Args:
        place: Where it is written.
        files: By name.
        room: For work in between.

    Raises:
        DataError: It does not fit, or a tool is missing.
    """
    # In a file of its own first: what mkfs.vfat 4.2 writes at an offset has no root directory.
    alone = room / "fat.img"
    alone.write_bytes(b"")
    os.truncate(alone, place.mib * MIB)
    volume = place.name.int & 0xFFFFFFFF
    command = ["mkfs.vfat", "-F", "32", "-n", place.label, "-i", f"{volume:08x}", "--invariant", str(alone)]
    run(command, environment={"SOURCE_DATE_EPOCH": str(place.epoch)})
    written(alone, files, epoch=place.epoch)
    into = ["bs=1M", f"seek={place.offset // MIB}", "conv=notrunc,sparse", "status=none"]
    run(["dd", f"if={alone}", f"of={place.image}", *into])


def written(
    image: Path, files: Mapping[str, Path | bytes], *, epoch: int | None = None, offset: int = 0
) -> None:
    """Put files onto a FAT file system, in place of those of the same name.

    Args:
        image: A file, or a drive.
        files: What is put, by name.
        epoch: Their time, seconds since 1970; None: as it is.
        offset: Where the file system begins, in bytes.

    Raises:
        DataError: There is no FAT file system, or it is full.
    """
    drive = f"{image}@@{offset}"
    settings = _MTOOLS if epoch is None else _MTOOLS | {"SOURCE_DATE_EPOCH": str(epoch)}
    made: set[str] = set()
    # For its owner alone: a device's key may be among the files.
    with tempfile.TemporaryDirectory() as room:
        for name in sorted(files):
            for parent in reversed(list(Path(name).parents)[:-1]):
                folder = parent.as_posix()
                if folder not in made and not _has(drive, folder, settings):
                    run(["mmd", "-i", drive, f"::{folder}"], environment=settings)
                made.add(folder)
            content = files[name]
            source = content if isinstance(content, Path) else Path(room) / "file"
            if isinstance(content, bytes):
                source.write_bytes(content)
            stamped = source.stat()
            if epoch is not None:
                os.utime(source, (epoch, epoch))
            try:
                run(["mcopy", "-m", "-D", "o", "-i", drive, str(source), f"::{name}"], environment=settings)
            finally:
                os.utime(source, ns=(stamped.st_atime_ns, stamped.st_mtime_ns))


def _has(drive: str, folder: str, settings: Mapping[str, str]) -> bool:
    """Return whether a FAT file system has a folder."""
    command = [program("mdir"), "-b", "-i", drive, f"::{folder}"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **settings})
    return done.returncode == 0


def read(image: Path, name: str, *, offset: int = 0) -> bytes | None:
    """Return a file of a FAT file system; None: there is none of that name.

    Args:
        image: A file, or a drive.
        name: In the file system.
        offset: Where that begins, in bytes.

    Raises:
        DataError: mtools are missing.
    """
    command = [program("mtype"), "-i", f"{image}@@{offset}", f"::{name}"]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | _MTOOLS)
    return None if done.returncode else done.stdout
