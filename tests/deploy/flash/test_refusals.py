"""Drives that must not be written are not: as rules, on files, and on a loop device."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy import drives
from deploy.drives import Drive
from deploy.flash.plan import Allowed, FlashRefusedError, paired, refusals, require, unchanged
from deploy.fleet import Fleet
from edge_agent.contracts.errors import DeviceError, UsageError
from tests.conftest import Kit, Made, find_program
from tests.deploy.flash.images import MIB, SIZE, has_table, make_image, on_boot, packed
from tests.deploy.fleets import Authority, add_device

GB = 10**9
CARD = Drive(Path("/dev/sdb"), "Generic SD", 32 * GB, removable=True)
ALL = Allowed(fixed=True, file=True)


@pytest.mark.parametrize(
    ("drive", "allowed", "why"),
    [
        (CARD, Allowed(), None),
        (replace(CARD, mounted=("/media/stick",)), ALL, "mounted at /media/stick"),
        (replace(CARD, mounted=("/", "/boot"), system=True), ALL, "runs from it"),
        (replace(CARD, read_only=True), ALL, "read-only"),
        (replace(CARD, size=GB - 1), ALL, "needs 1000000000 bytes"),
        (replace(CARD, size=GB), Allowed(), None),
        (replace(CARD, removable=False), Allowed(), "--allow-fixed"),
        (replace(CARD, removable=False), Allowed(file=True), "--allow-fixed"),
        (replace(CARD, removable=False), Allowed(fixed=True), None),
        (replace(CARD, removable=False, plain_file=True), Allowed(fixed=True), "--allow-file"),
        (replace(CARD, removable=False, plain_file=True), Allowed(file=True), None),
    ],
)
def test_a_drive_is_refused_for_its_own_reason(drive: Drive, allowed: Allowed, why: str | None) -> None:
    told = refusals(drive, GB, allowed)
    assert len(told) == (0 if why is None else 2 if drive.system else 1)
    if why is not None:
        assert why in "; ".join(told)


def test_one_bad_drive_keeps_all_from_being_written() -> None:
    jobs = paired(["a", "b"], [CARD, replace(CARD, path=Path("/dev/sdc"), mounted=("/x",))])
    with pytest.raises(FlashRefusedError, match=r"/dev/sdc .*mounted at /x") as refused:
        require(jobs, GB, Allowed())
    assert "/dev/sdb" not in str(refused.value)
    assert refused.value.exit_code == 7


@pytest.mark.parametrize(
    ("devices", "paths"), [(["a"], []), (["a", "a"], ["/dev/sdb", "/dev/sdc"]), (["a", "b"], ["/x", "/x"])]
)
def test_each_device_has_a_drive_of_its_own(devices: list[str], paths: list[str]) -> None:
    with pytest.raises(UsageError, match="of its own"):
        paired(devices, [replace(CARD, path=Path(path)) for path in paths])


LSBLK = {
    "blockdevices": [
        {"path": "/dev/nvme0n1", "type": "disk", "model": "Samsung SSD", "serial": "1", "tran": "nvme",
         "size": 512 * GB, "rm": False, "hotplug": False, "ro": False, "mountpoints": [None], "children": [
             {"path": "/dev/nvme0n1p1", "type": "part", "mountpoints": ["/boot/efi"]},
             {"path": "/dev/nvme0n1p2", "type": "part", "mountpoints": [None], "children": [
                 {"path": "/dev/mapper/root", "type": "crypt", "mountpoints": [None], "children": [
                     {"path": "/dev/mapper/vg-root", "type": "lvm", "mountpoints": ["/"]}]}]}]},
        {"path": "/dev/sdb", "type": "disk", "model": "Ultra   Fit ", "serial": None, "tran": "usb",
         "size": 32 * GB, "rm": False, "hotplug": True, "ro": False, "mountpoints": [None], "children": [
             {"path": "/dev/sdb1", "type": "part", "mountpoints": ["/media/a b"]}]},
        {"path": "/dev/mmcblk0", "type": "disk", "model": None, "serial": None, "tran": None,
         "size": 16 * GB, "rm": True, "hotplug": True, "ro": True, "mountpoints": [None]},
        {"path": "/dev/sr0", "type": "rom", "model": "DVD", "size": GB, "rm": True, "hotplug": True,
         "ro": False},
        {"path": "/dev/zram0", "type": "disk", "model": None, "size": 0, "rm": False, "hotplug": False,
         "ro": False},
    ]
}  # fmt: skip


def test_what_lsblk_says_is_read_down_to_what_lies_in_an_encrypted_volume() -> None:
    system, stick, card = drives.parsed(json.dumps(LSBLK))
    assert system.system
    assert system.mounted == ("/boot/efi", "/")
    assert not system.removable
    assert (system.serial, stick.serial) == ("1", "")
    assert (stick.model, stick.removable, stick.mounted, stick.system) == (
        "Ultra Fit", True, ("/media/a b",), False,
    )  # fmt: skip
    assert (card.model, card.removable, card.read_only) == ("disk", True, True)
    with pytest.raises(DeviceError):
        drives.parsed("{}")


def test_the_drive_that_this_machine_runs_from_is_known() -> None:
    found = [item for item in drives.listed() if item.system]
    if not found:
        pytest.skip("this machine runs from no drive that it sees, as a container does")
    for item in found:
        assert refusals(item, 1, ALL)


def test_what_is_no_drive_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path(os.devnull)):
        with pytest.raises(DeviceError, match="whole drive"):
            drives.found(path)


@pytest.fixture(scope="module")
def room(made: Made, kit: Kit) -> Path:
    """A fleet with two devices, and an image."""

    def maker(folder: Path) -> None:
        folder.mkdir()
        kit("deploy", "fleet", "init", "--name", "shops", "--fleet", folder / "fleet")
        fleet = Fleet(folder / "fleet")
        authority = Authority()
        fleet.write(fleet.ca / "ca.pem", authority.pem)
        for device in ("cam-1", "cam-2"):
            add_device(fleet, authority, device, begin=datetime.now(UTC))
        packed(make_image(folder / "a.img"), ".zst")

    find_program("mcopy")
    return made("flash-fleet", maker)


def _drive(path: Path, size: int = SIZE + MIB) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_the_command_shows_asks_writes_and_says_it_in_one_sentence(
    room: Path, tmp_path: Path, kit: Kit
) -> None:
    drive = _drive(tmp_path / "drive")
    flash = ("deploy", "flash", room / "a.img.zst", "--fleet", room / "fleet")
    one = (*flash, "--device", "cam-1", "--drive", drive)
    assert "--allow-file" in kit(*one, code=7).stderr
    assert "no terminal" in kit(*one, "--allow-file", code=2).stderr
    plan = json.loads(kit(*one, "--allow-file", "--dry-run", "--json").stdout)
    assert plan["jobs"] == [{"device": "cam-1", "drive": str(drive), "model": "a file"}]
    assert not any(drive.read_bytes())
    said = kit(*one, "--allow-file", "--yes")
    assert said.stdout.count("\n") == 1
    assert "read back and provisioned" in said.stdout
    assert "a.img.zst, 0.03 GB" in said.stderr
    key = (room / "fleet" / "devices" / "cam-1" / "device.key").read_bytes()
    assert on_boot(drive, "device.key") == key
    assert b"PRIVATE" not in (said.stdout + said.stderr).encode()
    small = _drive(tmp_path / "small", SIZE - MIB)
    assert (
        "the image needs" in kit(*flash, "--device", "cam-1", "--drive", small, "--allow-file", code=7).stderr
    )
    assert "cam-9" in kit(*flash, "--device", "cam-9", "--drive", drive, "--dry-run", code=3).stderr


def test_a_drive_that_was_changed_while_it_was_asked_is_not_written(room: Path, tmp_path: Path) -> None:
    """At a real terminal, whose person takes his time."""
    drive = _drive(tmp_path / "drive")
    terminal, theirs = os.openpty()
    words = ("deploy", "flash", room / "a.img.zst", "--fleet", room / "fleet", "--allow-file")
    command = [
        sys.executable,
        "-m",
        "edge_agent.cli",
        *map(str, words),
        "--device",
        "cam-1",
        "--drive",
        str(drive),
    ]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = b""
        while b"Overwrite this drive?" not in said:
            said += os.read(process.stderr.fileno(), 1000)
        _drive(drive, SIZE + 2 * MIB)
        os.write(terminal, b"y\n")
        said += process.stderr.read()
        assert process.wait() == 7
    os.close(terminal)
    os.close(theirs)
    assert b"as they were shown" in said
    assert not any(drive.read_bytes())


@pytest.mark.parametrize(
    "other",
    [
        {"serial": "other"}, {"medium": "8"}, {"mounted": ("/x",)}, {"size": GB}, {"model": "X"},
    ],
)  # fmt: skip
def test_another_drive_under_the_same_name_is_told(other: dict[str, Any]) -> None:
    shown = replace(CARD, serial="one", medium="7")
    unchanged(paired(["a"], [shown]), [shown])
    with pytest.raises(FlashRefusedError, match="/dev/sdb"):
        unchanged(paired(["a"], [shown]), [replace(shown, **other)])


def test_several_drives_at_once_each_for_its_own_device_and_one_may_fail(
    room: Path, tmp_path: Path, kit: Kit
) -> None:
    good, full = _drive(tmp_path / "good"), Path("/dev/full")
    flash = ("deploy", "flash", room / "a.img.zst", "--fleet", room / "fleet", "--allow-file", "--yes")
    other = _drive(tmp_path / "other")
    pair = ("--device", "cam-1", "--drive", good, "--device", "cam-2", "--drive")
    done = json.loads(kit(*flash, *pair, other, "--json").stdout)
    assert [row["ok"] for row in done["drives"]] == [True, True]
    for device, drive in (("cam-1", good), ("cam-2", other)):
        key = (room / "fleet" / "devices" / device / "device.key").read_bytes()
        assert on_boot(drive, "device.key") == key
    assert "whole drive" in kit(*flash, *pair, full, code=7).stderr


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A real block device of its own."""
    losetup = find_program("losetup")
    backing = _drive(tmp_path / "backing", SIZE + 4 * MIB)
    made = subprocess.run(
        [losetup, "--find", "--show", "--partscan", backing], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"this user or kernel gives no loop device: {made.stderr.strip()}")
    device = Path(made.stdout.strip())
    yield device
    subprocess.run([losetup, "--detach", device], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make loop devices")
def test_a_real_block_device_is_refused_while_in_use_and_written_when_allowed(
    room: Path, tmp_path: Path, kit: Kit, loop: Path
) -> None:
    one = ("deploy", "flash", room / "a.img.zst", "--fleet", room / "fleet", "--device", "cam-1", "--yes")
    assert "--allow-fixed" in kit(*one, "--drive", loop, code=7).stderr
    listed = json.loads(kit("deploy", "drives", "--json").stdout)["drives"]
    assert [item["size"] for item in listed if item["path"] == str(loop)] == [SIZE + 4 * MIB]
    # Somebody has it for himself, as a mounted file system has.
    held = os.open(loop, os.O_RDONLY | os.O_EXCL)
    try:
        assert "for itself" in kit(*one, "--drive", loop, "--allow-fixed", code=7).stderr
    finally:
        os.close(held)
    before = drives.found(loop)
    assert before.medium or not Path(f"/sys/class/block/{loop.name}/diskseq").exists()
    kit(*one, "--drive", loop, "--allow-fixed")
    assert drives.found(loop) == before
    assert has_table(loop)
    assert on_boot(loop, "device.yaml").startswith(b"# above")
    place = tmp_path / "mounted"
    place.mkdir()
    # A kernel without FAT mounts nothing of the image: a file system of the test's own takes its place.
    subprocess.run(["mkfs.ext4", "-q", "-F", loop], check=True)
    if subprocess.run(["mount", loop, place], capture_output=True, check=False).returncode == 0:
        try:
            refused = kit(*one, "--drive", loop, "--allow-fixed", code=7)
            assert f"mounted at {place}" in refused.stderr
        finally:
            subprocess.run(["umount", place], check=True)
