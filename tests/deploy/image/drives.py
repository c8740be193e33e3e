"""What is on the drive of a device that has no power: read with tools, without booting it."""

import filecmp
import json
import subprocess
from pathlib import Path
from typing import Any

from deploy.fleet import Fleet
from deploy.image.device import ROOT, laid_down
from deploy.image.tools import run
from deploy.release.repository import Keys, Repository
from edge_agent.contracts.release import Place
from edge_agent.update import state
from edge_agent.update.disk import read_small
from tests.conftest import find_program

VIRTUAL = ("mmdebstrap", "mke2fs", "mcopy", "sfdisk", "zstd", "qemu-img", "qemu-system-x86_64")
"""What makes an image and boots it."""

_SECTOR = 512
_MENDED = 1
"""e2fsck's answer where it has replayed a journal or mended a file system, and nothing is left to do."""


def partitions(image: Path) -> list[dict[str, Any]]:
    """Return the partitions of an image, in their order, as sfdisk tells them: in sectors."""
    table = json.loads(run(["sfdisk", "--json", str(image)]))["partitiontable"]
    found: list[dict[str, Any]] = table["partitions"]
    return found


class Drive:
    """The data partition of a machine, mended as the device's own start would do it.

    Args:
        qcow2: The machine's drive.
        image: The flashed image that it began with.
        room: A folder for it.
    """

    def __init__(self, qcow2: Path, image: Path, room: Path) -> None:
        room.mkdir()
        start = next(part["start"] for part in partitions(image) if part["name"] == "data")
        inner = {"driver": "qcow2", "file": {"driver": "file", "filename": str(qcow2)}}
        whole = json.dumps({"driver": "raw", "offset": start * _SECTOR, "file": inner})
        data = room / "data.img"
        run(["qemu-img", "convert", "-O", "raw", f"json:{whole}", str(data)])
        done = subprocess.run(
            [find_program("e2fsck"), "-p", str(data)], capture_output=True, text=True, check=False
        )
        assert done.returncode in {0, _MENDED}, done.stdout + done.stderr
        subprocess.run(
            [find_program("debugfs"), "-R", f"rdump /{ROOT} {room}", str(data)],
            capture_output=True,
            check=True,
        )
        data.unlink()
        self.place = Place(room / ROOT)
        self.state = state.load(self.place)
        content = read_small(self.place.reported)
        self.phase = "nothing" if content is None else str(json.loads(content)["phase"])
        """How far the updater said last that it is."""


def require_whole(drive: Drive, number: int, fleet: Fleet, room: Path, arch: str) -> None:
    """Compare a release on a drive with the fleet's own, byte for byte."""
    found = state.whole(drive.place, number)
    assert found is not None, f"release {number} is not whole"
    assert found == Repository(fleet.repository, Keys(fleet.keys)).release(number, arch)
    expected = room / str(number)
    if not expected.exists():
        laid_down(fleet, found, expected)
    for pair in (Place.runtime, lambda place, release: place.release(release.number)):
        _require_same(pair(Place(expected), found), pair(drive.place, found))


def _require_same(expected: Path, found: Path) -> None:
    names = [{path.relative_to(root) for path in root.rglob("*")} for root in (expected, found)]
    assert names[0] == names[1], sorted(map(str, names[0] ^ names[1]))[:10]
    files = [str(name) for name in names[0] if (expected / name).is_file()]
    _, other, unread = filecmp.cmpfiles(expected, found, files, shallow=False)
    assert (other, unread) == ([], [])
