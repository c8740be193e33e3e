"""A machine in QEMU, with a program in its place that says what we want; the real one is in test_vm."""

import hashlib
import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.image import disk
from deploy.image.filesystems import Place, fat, read
from deploy.image.system import LOADER_ENTRY
from deploy.sim import machine
from deploy.sim.command import boot
from deploy.sim.machine import KINDS, READY, Kind, Machine, firmware, prepared
from edge_agent.contracts.errors import DataError, DeviceError
from tests.conftest import find_program
from tests.deploy.flash.images import make_image, on_boot, packed
from tests.deploy.fleets import Authority, add_device, fleet_with_device

_QEMU = """\
#!{python}
import re, sys, time
words = " ".join(sys.argv)
if "-accel kvm" in words and {broken}:
    sys.exit("KVM internal error. Suberror: 1")
with open(re.search("-serial file:(\\\\S+)", words)[1], "w", buffering=1) as console:
    for line in {lines!r}:
        console.write(line + "\\r\\n")
if {stays}:
    time.sleep(60)
"""


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `played` puts what stands for QEMU."""
    for name in ("code.fd", "variables.fd"):
        (tmp_path / name).write_bytes(name.encode())
    kind = Kind(
        "qemu-played",
        ("-machine", "none"),
        "host",
        "max",
        ((str(tmp_path / "code.fd"), str(tmp_path / "variables.fd")),),
        "ovmf",
        "nothing",
    )
    monkeypatch.setitem(machine.KINDS, "amd64", kind)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def played(folder: Path, lines: list[str], *, stays: bool = True, broken: bool = False) -> None:
    path = folder / "qemu-played"
    path.write_text(_QEMU.format(python=sys.executable, lines=lines, stays=stays, broken=broken))
    path.chmod(0o755)


def test_ready_is_found_among_colours_and_every_line_is_told(qemu: Path) -> None:
    coloured = READY.replace(" ", " \x1b[0;1;39m")
    played(qemu, ["hello", f"[\x1b[0;32m  OK  \x1b[0m] {coloured}\x1b[0m."])
    told: list[str] = []
    with Machine("amd64", qemu, kvm=False) as made:
        made.power_on()
        assert made.wait_for(READY, patience_s=30, told=told.append) > 0
        assert made.runs
        made.power_cut()
        assert not made.runs
    assert told == ["hello", f"[  OK  ] {READY}."]
    assert (qemu / "uefi-variables.fd").read_bytes() == b"variables.fd"


@pytest.mark.parametrize(
    ("lines", "stays", "why"),
    [
        (["[FAILED] Failed to start shelfkit-provision.service."], True, "it refused what it was told"),
        (["Kernel panic"], False, "it ended"),
        (["hello"], True, "nothing of it in 1 s"),
    ],
)
def test_a_machine_that_does_not_become_ready_says_why(
    qemu: Path, lines: list[str], why: str, *, stays: bool
) -> None:
    played(qemu, lines, stays=stays)
    with Machine("amd64", qemu, kvm=False) as made:
        made.power_on()
        with pytest.raises(DeviceError, match=why) as caught:
            made.wait_for(READY, patience_s=1)
        assert lines[-1] in caught.value.hint


def test_kvm_that_opens_and_cannot_do_it_is_done_without(qemu: Path) -> None:
    played(qemu, [READY], broken=True)
    with Machine("amd64", qemu, kvm=True) as made:
        made.power_on()
        assert not made.kvm
        made.wait_for(READY, patience_s=30)
    assert made.boots == 1


def test_it_ends_with_the_process_that_started_it(qemu: Path) -> None:
    played(qemu, ["hello"])
    script = (
        "import sys; from pathlib import Path; from deploy.sim import machine\n"
        f"kind = machine.Kind('qemu-played', (), '', '', (({str(qemu / 'code.fd')!r},"
        f" {str(qemu / 'variables.fd')!r}),), '', '')\n"
        "machine.KINDS['amd64'] = kind\n"
        f"made = machine.Machine('amd64', Path({str(qemu)!r}), kvm=False); made.power_on()\n"
        # From here on it has been told with whom it ends.
        "made.wait_for('hello', patience_s=30)\n"
        "print(made._process.pid, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    inner = int(process.stdout.readline())
    process.kill()
    process.communicate()
    end = time.monotonic() + 10
    while not has_ended(inner):
        assert time.monotonic() < end
        time.sleep(0.05)


def has_ended(pid: int) -> bool:
    """Whether a process is gone; one that nobody has waited for has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_holds_a_devices_key_is_for_its_owner_alone(qemu: Path, tmp_path: Path) -> None:
    for name in ("qemu-img", "mcopy"):
        find_program(name)
    played(qemu, [READY])
    authority = Authority()
    fleet = fleet_with_device(tmp_path / "fleet", authority=authority)
    add_device(fleet, authority, "sim-1", begin=datetime.now(UTC))
    image, room = packed(make_image(tmp_path / "shelf.img"), ".zst"), tmp_path / "machines" / "sim-1"
    image.chmod(0o644)
    boot(image, device="sim-1", fleet=fleet.folder, folder=room, once=True, as_json=True)
    key = (fleet.device_folder("sim-1") / "device.key").read_bytes()
    assert on_boot(room / "image.img", "device.key") == key
    modes = {path.name: path.stat().st_mode & 0o777 for path in (room, *room.iterdir())}
    assert {modes[name] for name in ("sim-1", "image.img", "drive.qcow2")} == {0o700, 0o600}
    assert modes["sim-1"] == 0o700


def test_the_image_stays_as_it_is_under_a_larger_drive_that_is_told_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("qemu-img", "mcopy", "mkfs.vfat", "sfdisk"):
        find_program(name)
    image, folder = tmp_path / "shelf.img", tmp_path / "sim-1.vm"
    folder.mkdir()
    monkeypatch.setattr(disk, "ROOT_MIB", 1)
    partitions = disk.layout(1)
    disk.partitioned(image, partitions, "seed")
    boot = Place(
        image=image,
        offset=partitions["boot"].offset,
        mib=partitions["boot"].mib,
        label="SHELFBOOT",
        name=uuid.UUID(int=1),
        epoch=0,
    )
    fat(boot, {LOADER_ENTRY: b"title shelfkit\noptions ro quiet\n"}, tmp_path)
    before = hashlib.sha256(image.read_bytes()).digest()
    prepared(image, folder, {"device.yaml": b"device: sim-1\n"}, gb=4)
    assert hashlib.sha256(image.read_bytes()).digest() == before
    raw = folder / "image.img"
    assert read(raw, "device.yaml", offset=boot.offset) == b"device: sim-1\n"
    # Where the processor is late, a kernel would think that its timer does not work.
    entry = read(raw, LOADER_ENTRY, offset=boot.offset)
    assert entry == b"title shelfkit\noptions ro quiet no_timer_check\n"
    done = subprocess.run(
        ["qemu-img", "info", str(folder / "drive.qcow2")], capture_output=True, text=True, check=True
    )
    assert "virtual size: 4 GiB" in done.stdout
    assert "backing file" in done.stdout


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_each_architecture_has_its_own_words(arch: str, tmp_path: Path) -> None:
    find_program(KINDS[arch].program)
    try:
        code, _ = firmware(KINDS[arch])
    except DataError as exc:
        pytest.skip(exc.hint)
    words = " ".join(Machine(arch, tmp_path, kvm=False).command())
    assert f"file={code}" in words
    assert "-accel tcg" in words
    assert f"-cpu {KINDS[arch].processor}" in words
