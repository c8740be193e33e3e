"""Images in parts, with the real tools: file systems, partitions, bills, the owner's Raspberry Pi OS."""

import hashlib
import json
import lzma
import os
import re
import subprocess
import sys
import tarfile
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.fleet import Fleet
from deploy.image import archive, device, disk, filesystems, rpi, sbom, system
from deploy.image.archive import Entry
from deploy.image.boards import BOARDS
from deploy.image.building import Plan, build
from deploy.image.places import boot_partition
from deploy.image.rootfs import command, key, own_mirrors, parts
from deploy.release.bytecode import TAG
from deploy.release.choosing import chosen
from deploy.release.pack import pack
from deploy.release.repository import Keys, Repository
from edge_agent.contracts.errors import BundleError, DataError, UsageError
from edge_agent.contracts.release import Place, Release
from edge_agent.update import state
from edge_agent.update.shipped import DISTRIBUTIONS
from tests.conftest import find_program
from tests.deploy.image.drives import partitions
from tests.deploy.releases import NOW, World

BOARD = BOARDS["uefi-amd64"]
EPOCH = int(NOW.timestamp())


@pytest.fixture(autouse=True)
def tools() -> None:
    for name in ("mke2fs", "mcopy", "mkfs.vfat", "sfdisk", "zstd", "debugfs"):
        find_program(name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fleet with one release, whose runtime has in it what the updater needs."""
    made = World(tmp_path / "fleet" / "tuf")
    site = tmp_path / "site-packages"
    files = {}
    for name in (*DISTRIBUTIONS, "numpy"):
        info = f"{name}-1.0.dist-info"
        for inner, text in {
            f"{name}/__init__.py": "\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{info}/RECORD": f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/RECORD,,\n",
        }.items():
            path = site / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            files[f"site-packages/{inner}"] = path
    model = tmp_path / "model.tflite"
    model.write_bytes(b"model" * 1000)
    into = made.offered.components
    runtime = pack("runtime", "lock", files, into, xz=True)
    agent = pack("agent", "0.1.0", {"edge_agent/__main__.py": site / "numpy/__init__.py"}, into)
    bundle = pack("dairy", "1.4.2", {"model.tflite": model}, into)
    for number, arch in ((1, "amd64"), (2, "amd64"), (2, "arm64")):
        release = Release(number, arch, "2026-11-26T09:00:00.000Z", runtime, agent, bundle)
        assert made.offered.offer([release], NOW)
    return made


@pytest.fixture
def fleet(world: World) -> Fleet:
    return Fleet(world.folder.parent)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """What stands for Debian: the files that an image is made of."""
    lists = {
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": b"root:x:0:\nvideo:x:44:\n",
        "etc/shadow": b"root:*:1::::::\n",
        "etc/gshadow": b"root:*::\nvideo:*::\n",
        "etc/apt/sources.list": b"deb somewhere\n",
        "var/lib/dpkg/status": b"Package: base-files\nVersion: 12.4\nArchitecture: amd64\nSection: x\n\n"
        b"Package: zlib1g\nVersion: 1:1.2\nArchitecture: amd64\n",
        "boot/vmlinuz-6.1.0": b"kernel",
        "boot/initrd.img-6.1.0": b"initrd",
        "usr/lib/systemd/boot/efi/systemd-bootx64.efi": b"loader",
    }
    path = tmp_path / "rootfs.tar"
    archive.write(path, [Entry(name, content) for name, content in lists.items()], EPOCH)
    return path


def made(tmp_path: Path, fleet: Fleet, rootfs: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Build an image, small enough for a test."""
    cache = tmp_path / "cache"
    cache.mkdir(exist_ok=True)
    (cache / f"rootfs-amd64-{key(BOARD)}.tar").write_bytes(rootfs.read_bytes())
    monkeypatch.setattr(disk, "ROOT_MIB", 24)
    out = tmp_path / name / "shelf.img.zst"
    said: list[str] = []
    plan = Plan(board=BOARD, fleet=fleet, release=chosen(fleet, None, "amd64"), cache=cache)
    built = build(plan, out, said.append)
    assert built.bytes == out.stat().st_size
    assert said == [
        *("first release", "root file system", "partition table", "boot partition"),
        *("system partition", "data partition", "bill of materials", "compression"),
    ]
    return out


def debugfs(image: Path, request: str) -> str:
    done = subprocess.run(
        [find_program("debugfs"), "-R", request, str(image)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_an_image_is_the_same_each_time_and_what_it_says(
    tmp_path: Path, fleet: Fleet, rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(tmp_path, fleet, rootfs, "one", monkeypatch)
    second = made(tmp_path, fleet, rootfs, "two", monkeypatch)
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()
    bills = [path.with_name("shelf.cdx.json").read_bytes() for path in (first, second)]
    assert bills[0] == bills[1]
    assert sorted(path.name for path in first.parent.iterdir()) == ["shelf.cdx.json", "shelf.img.zst"]

    raw = tmp_path / "raw.img"
    subprocess.run([find_program("zstd"), "-qd", str(first), "-o", str(raw)], check=True)
    table = partitions(raw)
    assert [part["name"] for part in table] == ["boot", "root-a", "root-b", "data"]
    at = {part["name"]: part["start"] * 512 for part in table}
    assert boot_partition(raw) == at["boot"]
    assert filesystems.read(raw, "vmlinuz", offset=at["boot"]) == b"kernel"
    assert filesystems.read(raw, "EFI/BOOT/BOOTX64.EFI", offset=at["boot"]) == b"loader"
    entry = (filesystems.read(raw, "loader/entries/shelf.conf", offset=at["boot"]) or b"").decode()
    uuids = {part["name"]: part["uuid"].lower() for part in table}
    assert f"root=PARTUUID={uuids['root-a']} ro" in entry

    root, data = tmp_path / "root.img", tmp_path / "data.img"
    for path, name in ((root, "root-a"), (data, "data")):
        with raw.open("rb") as file:
            file.seek(at[name])
            path.write_bytes(file.read(next(p["size"] for p in table if p["name"] == name) * 512))
        subprocess.run([find_program("e2fsck"), "-fn", str(path)], check=True, capture_output=True)
    fstab = debugfs(root, "cat /etc/fstab")
    assert f"PARTUUID={uuids['data']} /data ext4 rw" in fstab
    assert f"PARTUUID={uuids['root-a']} / ext4 ro" in fstab
    assert "shelfkit:x:990" in debugfs(root, "cat /etc/passwd")
    assert "video:x:44:shelfkit" in debugfs(root, "cat /etc/group")
    assert "WatchdogSec=60" in debugfs(root, "cat /etc/systemd/system/shelfkit-agent-launched.service")
    assert "tuf" in debugfs(root, "ls /opt/shelf")
    assert "numpy" not in debugfs(root, "ls /opt/shelf")
    # What the system's Python would compile at each start, on a file system that is only read.
    assert f"launcher.{TAG}.pyc" in debugfs(root, "ls /opt/shelf/edge_agent/update/__pycache__")
    # Nobody comes to mend a shelf, and one whose data partition did not grow is in order.
    assert "FailureAction=reboot-force" in debugfs(root, "cat /etc/systemd/system/emergency.service")
    assert "shelfkit-grow" in debugfs(root, "ls /etc/systemd/system/data.mount.wants")
    # How packages came is no business of the device, and its identity is its own.
    assert "File not found" in _said(root, "stat /etc/apt/sources.list")
    assert "Size: 0" in debugfs(root, "stat /etc/machine-id")
    known = state.decode(debugfs(data, "cat /shelf/state.json").encode())
    assert known == state.State(good=2)
    assert debugfs(data, "cat /shelf/metadata/root.json").encode() == _root(fleet)
    assert re.search(r"User:\s+990", debugfs(data, "stat /shelf/state"))
    assert "releases/2" in debugfs(data, "stat /shelf/current")
    whole = tmp_path / "whole"
    whole.mkdir()
    debugfs(data, f"rdump /shelf/releases /shelf/runtimes {whole}")
    assert state.whole(Place(whole), 2) == chosen(fleet, 2, "amd64")


def _root(fleet: Fleet) -> bytes:
    return Repository(fleet.repository, Keys(fleet.keys)).root.read_bytes()


def _said(image: Path, request: str) -> str:
    done = subprocess.run(
        [find_program("debugfs"), "-R", request, str(image)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_the_bill_of_materials_names_everything_and_is_one(
    fleet: Fleet, rootfs: Path, tmp_path: Path
) -> None:
    first = device.laid_down(fleet, chosen(fleet, 1, "amd64"), tmp_path / "release")
    text = sbom.bill(
        "uefi-amd64",
        status=parts(rootfs, [sbom.STATUS])[sbom.STATUS].decode(),
        site=first.site,
        release=first.release,
        serial=uuid.uuid4(),
        epoch=EPOCH,
    )
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    found = json.loads(text)
    urls = {part.get("purl") for part in found["components"]}
    assert "pkg:deb/debian/base-files@12.4?arch=amd64" in urls
    assert "pkg:pypi/securesystemslib@1.0" in urls
    names = {(part["type"], part["name"], part["version"]) for part in found["components"]}
    assert ("machine-learning-model", "dairy", "1.4.2") in names
    assert ("application", "shelfkit", "0.1.0") in names
    assert found["metadata"]["timestamp"].startswith("2026-11-26T09:00:00")


def test_a_damaged_archive_is_not_put_into_an_image(world: World, fleet: Fleet, tmp_path: Path) -> None:
    release = chosen(fleet, 1, "amd64")
    path = world.offered.folder / "targets" / release.bundle.target
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match="as its name says"):
        device.laid_down(fleet, release, tmp_path / "release")


@pytest.mark.parametrize(("number", "arch"), [(9, "amd64"), (1, "arm64"), (None, "armhf")])
def test_a_release_that_is_not_there_is_named(fleet: Fleet, number: int | None, arch: str) -> None:
    with pytest.raises(UsageError, match=f"a release for {arch}"):
        chosen(fleet, number, arch)


def test_a_runtime_without_the_updaters_libraries_makes_no_image(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="tuf in the runtime"):
        system.libraries(tmp_path)


def test_a_root_file_system_is_named_by_what_is_in_it_and_not_by_its_mirror() -> None:
    assert key(BOARD) == key(BOARDS["uefi-amd64"])
    assert key(BOARD) != key(BOARDS["uefi-arm64"])
    assert key(BOARD) != key(replace(BOARD, arch="arm64"))
    assert "linux-image-amd64" in next(word for word in command(BOARD) if word.startswith("--include="))
    if Path("/etc/debian_version").exists():
        assert all(re.match(r"deb \S+ bookworm\S* main", line) for line in own_mirrors())


def test_what_an_initramfs_is_made_of_is_said_before_it_is_made(tmp_path: Path) -> None:
    hook = next(word for word in command(BOARD) if word.startswith("--essential-hook="))
    # As mmdebstrap runs it: the root file system is the first argument.
    words = ["sh", "-c", hook.partition("=")[2], "exec", str(tmp_path)]
    subprocess.run(words, check=True)
    folder = tmp_path / "etc" / "initramfs-tools"
    assert (folder / "conf.d" / "shelfkit").read_text() == "MODULES=list\n"
    asked = subprocess.run([folder / "hooks" / "shelfkit", "prereqs"], check=True, capture_output=True)
    assert asked.stdout == b""


def test_what_a_root_file_system_has_not_is_named(rootfs: Path) -> None:
    assert parts(rootfs, ["boot/vmlinuz-*", "etc/passwd"])["boot/vmlinuz-*"] == b"kernel"
    with pytest.raises(DataError, match=r"boot/unheard-\* in .*rootfs\.tar"):
        parts(rootfs, ["etc/passwd", "boot/unheard-*"])


def raspios(folder: Path, *, fat: int = 1) -> Path:
    """An image as a Raspberry Pi has it: an MBR, a FAT and a Linux; `fat` says which partition it is."""
    image, boot = folder / "raspios.img", folder / "bootfs.img"
    boot.write_bytes(b"")
    os.truncate(boot, 64 * 1024 * 1024)
    filesystems.fat(
        filesystems.Place(image=boot, mib=64, label="bootfs", name=uuid.UUID(int=1), epoch=0),
        {"cmdline.txt": b"console=tty1 root=PARTUUID=x rootwait quiet\n"},
        folder,
    )
    image.write_bytes(b"")
    os.truncate(image, 96 * 1024 * 1024)
    sizes = ["size=64MiB, type=c", "size=8MiB, type=83"]
    lines = sizes if fat == 1 else ["size=8MiB, type=83", "size=4MiB, type=c", "size=64MiB, type=c"]
    subprocess.run(
        [find_program("sfdisk"), "--quiet", str(image)],
        input="label: dos\n" + "\n".join(lines),
        text=True,
        check=True,
    )
    start = partitions(image)[fat - 1]["start"] * 512
    with image.open("r+b") as file:
        file.seek(start)
        file.write(boot.read_bytes())
    return image


@pytest.mark.parametrize("fat", [1, 3])
def test_a_raspberry_pi_os_takes_the_kit_over(tmp_path: Path, fleet: Fleet, fat: int) -> None:
    base = tmp_path / "raspios.img.xz"
    base.write_bytes(lzma.compress(raspios(tmp_path, fat=fat).read_bytes(), preset=0))
    out = tmp_path / "out" / "shelf.img"
    plan = Plan(
        board=BOARDS["rpi"],
        fleet=fleet,
        release=chosen(fleet, None, "arm64"),
        cache=tmp_path,
        base=base,
    )
    build(plan, out, lambda _: None)
    at = boot_partition(out)
    line = (filesystems.read(out, "cmdline.txt", offset=at) or b"").decode()
    assert line.startswith(
        "console=tty1 root=PARTUUID=x rootwait quiet systemd.run=/boot/firmware/shelfkit/install "
    )
    assert rpi.command_line(line) == line
    script = tmp_path / "install"
    script.write_bytes(filesystems.read(out, "shelfkit/install", offset=at) or b"")
    subprocess.run(["sh", "-n", str(script)], check=True)
    # The script's own words: what it takes out of the line is what was put in.
    (tmp_path / "cmdline.txt").write_text(line)
    taken = next(row for row in script.read_text().splitlines() if row.startswith("sed "))
    subprocess.run(["sh", "-c", taken.replace("/boot/firmware", str(tmp_path))], check=True)
    assert (tmp_path / "cmdline.txt").read_text() == "console=tty1 root=PARTUUID=x rootwait quiet\n"
    payload = tmp_path / "payload.tar.xz"
    payload.write_bytes(filesystems.read(out, "shelfkit/payload.tar.xz", offset=at) or b"")
    with tarfile.open(payload) as tar:
        names = set(tar.getnames())
    assert {
        "./data/shelf/state.json",
        "./opt/shelf/edge_agent/update/__main__.py",
        "./data/shelf/current",
    } <= names
    assert "./etc/systemd/system/shelfkit-provision.service" in names
    bill = json.loads(out.with_name("shelf.cdx.json").read_text())
    assert not any(str(part.get("purl")).startswith("pkg:deb") for part in bill["components"])


def test_an_image_without_a_boot_partition_of_a_raspberry_pi_is_refused(tmp_path: Path, fleet: Fleet) -> None:
    image = raspios(tmp_path)
    subprocess.run(["mdel", "-i", f"{image}@@{boot_partition(image)}", "::cmdline.txt"], check=True)
    first = device.laid_down(fleet, chosen(fleet, 2, "arm64"), tmp_path / "release")
    with pytest.raises(DataError, match=r"cmdline\.txt on its boot partition"):
        rpi.injected(image, first, tmp_path, EPOCH)
    empty = tmp_path / "empty.img"
    empty.write_bytes(b"")
    os.truncate(empty, 1024 * 1024)
    with pytest.raises(DataError):
        boot_partition(empty)


def test_the_grow_script_lets_the_last_partition_reach_the_end(tmp_path: Path) -> None:
    """Its arithmetic with a played /sys; the real thing runs in QEMU."""
    subprocess.run(["sh", "-n"], input=system._GROW_SCRIPT, text=True, check=True)
    image = tmp_path / "drive.img"
    image.write_bytes(b"")
    os.truncate(image, 64 * 1024 * 1024)
    subprocess.run(
        [find_program("sfdisk"), "--quiet", str(image)],
        input="label: gpt\nsize=8MiB\nsize=8MiB\n",
        text=True,
        check=True,
    )
    os.truncate(image, 256 * 1024 * 1024)
    line = next(row for row in system._GROW_SCRIPT.splitlines() if "sfdisk" in row)
    line = line.replace('"$number"', "2").replace('"$disk"', str(image))
    subprocess.run(["sh", "-c", line], check=True)
    assert partitions(image)[1]["size"] * 512 > 240 * 1024 * 1024


def test_usage_is_told_before_anything_is_made(tmp_path: Path) -> None:
    for words, expected in (
        (["--board", "toaster", "--out", "x.img"], "--board as one of"),
        (["--board", "rpi", "--out", "x.img"], "--base with --board rpi"),
        (["--board", "uefi-amd64", "--out", "x.iso"], r"\.img\.zst or \.img"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent.cli", "deploy", "image", "build", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert re.search(expected, done.stderr)
