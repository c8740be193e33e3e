"""The owner's Raspberry Pi OS, with everything of the kit on its boot partition, for the first boot.

Nothing but the FAT partition is written, so nothing is mounted. At its first boot the kernel is told to
let systemd run `shelfkit/install`, in the way that Raspberry Pi's own imager uses: it lays the kit down,
takes its words out of `cmdline.txt` again, and starts the machine once more.
"""

import lzma
import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy.image import archive, device, system
from deploy.image.archive import Entry
from deploy.image.device import First
from deploy.image.filesystems import read, written
from deploy.image.places import boot_partition
from deploy.image.tools import run
from edge_agent.contracts.errors import DataError
from edge_agent.update import units

COMMAND_LINE = "cmdline.txt"
FOLDER = "shelfkit"
PAYLOAD = f"{FOLDER}/payload.tar.xz"
INSTALL = f"{FOLDER}/install"
BOOT = "/boot/firmware"
DEVICE = units.Device(boot=BOOT, console=True)
_WORDS = (
    f"systemd.run={BOOT}/{INSTALL}",
    "systemd.run_success_action=reboot",
    "systemd.run_failure_action=none",
    "systemd.unit=kernel-command-line.target",
)
_SCRIPT = f"""\
#!/bin/sh
# Run once, at the first boot. Whatever stops it, the next boot begins it again.
set -eu
tar -x -p -C / -f {BOOT}/{PAYLOAD}
systemd-sysusers
systemd-tmpfiles --create shelfkit.conf
systemctl enable {units.LAUNCHED} {units.UPDATER} {units.PROVISION}
sync
# Last: until here nothing was lost.
sed -i 's| systemd\\.run=.*$||' {BOOT}/{COMMAND_LINE}
rm -f {BOOT}/{PAYLOAD}
sync
"""


def unpacked(base: Path, into: Path) -> None:
    """Write an image, `.img` or `.img.xz`, as it is on a drive.

    Raises:
        DataError: It cannot be read.
    """
    try:
        if base.suffix != ".xz":
            run(["cp", "--sparse=always", str(base), str(into)])
            return
        with lzma.open(base) as source, into.open("wb") as target:
            shutil.copyfileobj(source, target, 4 * 1024 * 1024)
    except (OSError, lzma.LZMAError, EOFError) as exc:
        raise DataError(f"Expected: an image, .img or .img.xz. Received: {base}: {exc}.") from exc


def injected(image: Path, first: First, room: Path, epoch: int) -> None:
    """Put the kit onto the boot partition of an image.

    Args:
        image: Not compressed; it is changed.
        first: The release that it begins with.
        room: For work in between.
        epoch: Time of every file, seconds since 1970.

    Raises:
        DataError: It has no boot partition of a Raspberry Pi, or that has no room.
    """
    offset = boot_partition(image)
    line = read(image, COMMAND_LINE, offset=offset)
    if line is None:
        raise DataError(
            f"Expected: a Raspberry Pi OS, with {COMMAND_LINE} on its boot partition. Received: none."
        )
    payload = room / "payload.tar"
    archive.write(payload, entries(first, room), epoch)
    packed = payload.with_suffix(".tar.xz")
    with payload.open("rb") as source, lzma.open(packed, "wb", preset=1) as target:
        shutil.copyfileobj(source, target, 4 * 1024 * 1024)
    files: dict[str, Path | bytes] = {
        PAYLOAD: packed,
        INSTALL: _SCRIPT.encode(),
        COMMAND_LINE: command_line(line.decode()).encode(),
    }
    written(image, files, epoch=epoch, offset=offset)


def command_line(text: str) -> str:
    """Return the line that the kernel is told, with the words of the first boot; each of them once."""
    words = [word for word in text.split() if not word.startswith("systemd.run") and word not in _WORDS]
    return " ".join([*words, *_WORDS]) + "\n"


def entries(first: First, room: Path) -> Iterator[Entry]:
    """Yield what is laid down at the first boot, below the root of the file system."""
    for name, text in units.texts(DEVICE).items():
        yield Entry(name, text.encode())
    yield from system.program(first.site, room)
    for entry in (*device.released(first), *device.around(first, 0)):
        yield Entry(f"data/{entry.name}", entry.content, entry.link, entry.mode)
