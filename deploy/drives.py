"""Drives of this machine: what there is, what must not be touched, and bytes on and off them.

The only module that opens one. `shelfkit deploy drives` lists them.
"""

import fcntl
import json
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from edge_agent.contracts.command import print_json
from edge_agent.contracts.errors import DeviceError

_COLUMNS = "PATH,TYPE,MODEL,SERIAL,TRAN,SIZE,RM,HOTPLUG,RO,MOUNTPOINTS"
_SYSTEM = frozenset({"/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home", "[SWAP]"})
_FLUSH_BUFFERS, _READ_TABLE_AGAIN = 0x1261, 0x125F
"""BLKFLSBUF and BLKRRPART of linux/fs.h."""


@dataclass(frozen=True, slots=True)
class Drive:
    """One drive, as far as it decides whether it may be written.

    Attributes:
        path: Of the device, or of a plain file.
        model: As it calls itself.
        size: In bytes.
        removable: A card, a stick, or what is plugged in over USB.
        mounted: Where its parts are mounted.
        system: This machine runs from it.
        read_only: It takes no writes.
        plain_file: No drive at all.
        serial: As it calls itself, or its reader does.
        medium: The kernel's number of what is in it, another with each card or stick; empty: it has none.
    """

    path: Path
    model: str
    size: int
    removable: bool = False
    mounted: tuple[str, ...] = ()
    system: bool = False
    read_only: bool = False
    plain_file: bool = False
    serial: str = ""
    medium: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({self.model}, {self.size / 1e9:.1f} GB)"


def drives(
    everything: Annotated[
        bool, typer.Option("--all", help="Those too that cannot be taken out, or are in use.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON, all of them.")] = False,
) -> None:
    """List the drives that a device's image can be written to: removable, and not in use.

    \b
    Examples:
      shelfkit deploy drives
      shelfkit deploy drives --all
      shelfkit deploy drives --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    found = listed()
    if as_json:
        print_json({"drives": [asdict(item) | {"path": str(item.path)} for item in found]})
        return
    shown = [item for item in found if everything or (item.removable and not item.mounted)]
    for item in shown:
        typer.echo(f"{item.path!s:<14}{item.size / 1e9:>8.1f} GB  {item.model:<28}  {_words(item)}")
    if not shown:
        typer.echo("no drive that can be taken out; plug one in, or see all of them with --all", err=True)


def _words(drive: Drive) -> str:
    words = ["removable" if drive.removable else "fixed"]
    words += ["this machine's system"] if drive.system else []
    words += [f"mounted at {', '.join(drive.mounted)}"] if drive.mounted else []
    words += ["read-only"] if drive.read_only else []
    return ", ".join(words)


def listed() -> list[Drive]:
    """Return the drives of this machine.

    Raises:
        DeviceError: lsblk does not tell.
    """
    return parsed(_lsblk())


def found(path: Path) -> Drive:
    """Return one drive, or a plain file in its place.

    Raises:
        DeviceError: There is none, or it is a part of one.
    """
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except OSError as exc:
        raise _no_drive(path, exc.strerror or "nothing") from exc
    if stat.S_ISREG(mode):
        return Drive(real, "a file", real.stat().st_size, plain_file=True)
    if not stat.S_ISBLK(mode):
        raise _no_drive(path, "neither a drive nor a file")
    drive = next((item for item in listed() if item.path == real), None)
    if drive is None:
        raise _no_drive(path, "a part of a drive, or one that is not listed")
    return replace(drive, medium=_medium(real))


def _medium(path: Path) -> str:
    try:
        return (Path("/sys/class/block") / path.name / "diskseq").read_text(encoding="ascii").strip()
    except OSError:
        return ""  # of Linux before 5.15


def parsed(text: str) -> list[Drive]:
    """Read what `lsblk --json --bytes` says."""
    try:
        rows = json.loads(text)["blockdevices"]
        return [_drive(row) for row in rows if row["type"] in {"disk", "loop"} and row["size"]]
    except (ValueError, KeyError, TypeError) as exc:
        raise DeviceError(f"Expected: a list of drives. Received: {text[:80]!r} from lsblk.") from exc


def _drive(row: Mapping[str, Any]) -> Drive:
    mounted = tuple(dict.fromkeys(_mounts(row)))
    model = " ".join(str(row.get("model") or row.get("tran") or row["type"]).split())
    return Drive(
        path=Path(row["path"]),
        model=model,
        size=int(row["size"]),
        removable=bool(row["rm"] or row["hotplug"] or row.get("tran") == "usb"),
        mounted=mounted,
        system=bool(_SYSTEM.intersection(mounted)),
        read_only=bool(row["ro"]),
        serial=str(row.get("serial") or "").strip(),
    )


def _mounts(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield where a drive is mounted, with its parts and what is made of them (LVM, encryption)."""
    yield from (str(place) for place in row.get("mountpoints") or () if place)
    for child in row.get("children") or ():
        yield from _mounts(child)


def _lsblk() -> str:
    command = ["lsblk", "--json", "--bytes", "--output", _COLUMNS]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as exc:
        raise DeviceError(f"Expected: a list of drives. Received: {exc}.", hint="install util-linux") from exc


def _no_drive(path: Path, what: str) -> DeviceError:
    return DeviceError(
        f"Expected: a whole drive. Received: {path}: {what}.",
        hint="`shelfkit deploy drives` lists those that can be written",
    )


class Disk(Protocol):
    """Something that holds bytes at places."""

    @property
    def path(self) -> Path:
        """By what other programs reach it."""

    @property
    def size(self) -> int:
        """In bytes."""

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write; it is not on the disk before `sync`."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Read; fewer bytes at the end."""

    def sync(self) -> None:
        """Return when everything written is on the disk."""

    def forget(self) -> None:
        """Let the next reads come from the disk itself."""


class OpenDisk:
    """A drive, or a file, that is open."""

    def __init__(self, drive: Drive, handle: int) -> None:
        self.path, self.size, self._handle, self._block = drive.path, drive.size, handle, not drive.plain_file

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of it."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._handle, view, offset)
            offset, view = offset + done, view[done:]

    def read_at(self, offset: int, size: int) -> bytes:
        """Read what there is."""
        parts = []
        while size and (part := os.pread(self._handle, size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def sync(self) -> None:
        """Flush."""
        os.fsync(self._handle)

    def forget(self) -> None:
        """Drop what the kernel keeps of it in memory."""
        os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)
        if self._block:
            with suppress(OSError):  # only root may; the advice above has done most of it
                fcntl.ioctl(self._handle, _FLUSH_BUFFERS)

    def tell(self) -> None:
        """Let the kernel see the new parts."""
        if self._block:
            with suppress(OSError):
                fcntl.ioctl(self._handle, _READ_TABLE_AGAIN)


@contextmanager
def opened(drive: Drive) -> Iterator[OpenDisk]:
    """Open a drive for nobody but us: what is mounted cannot be opened so, nor mounted meanwhile.

    Raises:
        DeviceError: It is in use, is gone, or this user may not.
    """
    exclusive = 0 if drive.plain_file else os.O_EXCL
    try:
        handle = os.open(drive.path, os.O_RDWR | os.O_CLOEXEC | exclusive)
    except PermissionError as exc:
        raise DeviceError(
            f"Expected: to write {drive}. Received: {exc.strerror}.",
            hint="run it with sudo, or put yourself into the group `disk`",
        ) from exc
    except OSError as exc:
        raise DeviceError(f"Expected: to have {drive} for itself. Received: {exc.strerror}.") from exc
    try:
        disk = OpenDisk(drive, handle)
        yield disk
        disk.tell()
    except OSError as exc:
        raise DeviceError(
            f"Expected: a drive that takes and gives bytes. Received: {drive}: {exc.strerror}.",
            hint="plug it in again, or take another one",
        ) from exc
    finally:
        os.close(handle)
