"""A machine that runs already becomes a device: over a real connection, below a folder of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files as resources
from pathlib import Path

import pytest

from deploy.fleet import Fleet
from deploy.push import target as targets
from deploy.push.command import told_of
from deploy.push.pushing import _ROOM, Pushed
from deploy.release.pack import files_below, pack
from deploy.release.parts import agent_component
from deploy.release.repository import Keys, Repository
from deploy.ssh import Login
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.release import Release
from tests.conftest import Kit, Made
from tests.sshd import SshServer

ARCH = {"aarch64": "arm64"}.get(os.uname().machine, "amd64")
DEVICE = "cam-12-01"
_DEBIAN = (
    "machine=x86_64\nbits=64\nsystem=debian \nname=Debian 12\npython=3.11\nopencv=\nsystemd=yes\nroot=yes\n"
)


@pytest.mark.parametrize(
    ("machine", "arch"),
    [
        (_DEBIAN, "amd64"),
        (_DEBIAN.replace("x86_64", "aarch64"), "arm64"),
        (_DEBIAN.replace("x86_64", "armv7l").replace("opencv=", "opencv=1.24.2"), "armhf"),
        (
            _DEBIAN.replace("x86_64", "aarch64").replace("=64", "=32").replace("opencv=", "opencv=1.24.2"),
            "armhf",
        ),
        (_DEBIAN.replace("debian ", "raspbian debian"), "amd64"),
        (_DEBIAN.replace("debian ", "ubuntu debian"), "amd64"),
    ],
)
def test_machines_that_can_be_devices(machine: str, arch: str) -> None:
    assert targets.read(machine, below=False).arch == arch


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("x86_64", "riscv64", "x86-64, aarch64 or ARMv7"),
        ("x86_64", "armv6l", "x86-64, aarch64 or ARMv7"),
        ("debian ", "fedora ", "Debian or Raspberry Pi OS"),
        ("3.11", "3.13", "Python 3.11"),
        ("systemd=yes", "", "systemd"),
        ("root=yes", "", "sudo without a password"),
        ("x86_64", "armv7l", "python3-cffi-backend"),
    ],
)
def test_machines_that_cannot_are_told_why(before: str, after: str, why: str) -> None:
    assert before in _DEBIAN
    with pytest.raises(DeviceError, match=why):
        targets.read(_DEBIAN.replace(before, after), below=False)


def test_what_a_device_has_already_is_read() -> None:
    text = _DEBIAN + f"have releases/3\nfile {'a' * 64} device.yaml\nfile {'b' * 64} a b\n"
    found = targets.read(text, below=False)
    assert found.files == {"device.yaml": "a" * 64, "a b": "b" * 64}
    assert found.have == {"releases/3"}


class Site:
    """A fleet with a device and releases, and a machine below a folder."""

    def __init__(self, folder: Path, server: SshServer, kit: Kit) -> None:
        self.fleet, self.server, self.kit = Fleet(folder / "fleet"), server, kit
        self.below, self.data = folder / "machine", folder / "machine" / "data" / "shelf"

    @property
    def release(self) -> Release:
        return Repository(self.fleet.repository, Keys(self.fleet.keys)).release(1, ARCH)

    def push(self, *more: object, code: int = 0) -> str:
        done = self.kit(
            "deploy", "push", "127.0.0.1", "--port", self.server.port,
            *(f"--ssh-option={word}" for word in self.server.options),
            "--fleet", self.fleet.folder, "--device", DEVICE, "--below", self.below,
            "--python", sys.executable, *more, code=code,
        )  # fmt: skip
        return done.stdout if code == 0 else done.stderr

    def ask(self, *words: object) -> str:
        """Start launcher and updater as the units do."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.below / "opt" / "shelf"),
            "SHELFKIT_RELEASES": str(self.data),
        }
        command = [sys.executable, "-P", "-m", "edge_agent.update", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return done.stdout


@pytest.fixture(scope="module")
def offered(made: Made, bundle_folder: Path, kit: Kit) -> Path:
    """A fleet with one device and one release; its runtime is empty, for the tests' Python has it all."""

    def maker(folder: Path) -> None:
        folder.mkdir()
        kit("deploy", "fleet", "init", "--name", "shops", "--fleet", folder / "fleet")
        fleet = Fleet(folder / "fleet")
        add = ("deploy", "device", "add", DEVICE, "--store", "0417", "--shelf", "12", "--broker", "localhost")
        kit(*add, "--camera", "shelf:seed=7", "--fleet", fleet.folder)
        repository = Repository(fleet.repository, Keys(fleet.keys))
        into = repository.components
        into.mkdir(parents=True, exist_ok=True)
        (folder / "lock.py").write_text("# the libraries of these tests are those of their own Python\n")
        release = Release(
            number=1,
            arch=ARCH,
            created="2026-11-26T09:00:00.000Z",
            runtime=pack("runtime", "1", {"site-packages/shelfkit_lock.py": folder / "lock.py"}, into),
            agent=agent_component(None, into, folder),
            bundle=pack("demo", "1", files_below(bundle_folder), into),
        )
        assert repository.offer([release, replace(release, number=2)], datetime.now(UTC))

    return made("push-fleet", maker)


@pytest.fixture(scope="module")
def site(offered: Path, tmp_path_factory: pytest.TempPathFactory, kit: Kit) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("push")
    shutil.copytree(offered / "fleet", folder / "fleet")
    with SshServer(folder / "sshd") as server:
        yield Site(folder, server, kit)


@pytest.fixture(scope="module")
def device(site: Site) -> dict[str, object]:
    """The first push, after one that was interrupted; what it said."""
    agent = site.release.agent
    staged = site.below / ".shelfkit-push" / "repository" / "targets"
    (staged / "components").mkdir(parents=True)
    whole = (site.fleet.repository / "targets" / agent.target).read_bytes()
    (staged / agent.target).write_bytes(whole[: agent.size // 2])
    # And the program was about to be replaced.
    (site.below / "opt" / "shelf.new").mkdir(parents=True)
    (site.below / "opt" / "shelf.before").mkdir()
    said: dict[str, object] = json.loads(site.push("--release", 1, "--json"))
    return said


def test_a_machine_becomes_a_device(site: Site, device: dict[str, object]) -> None:
    assert (device["release"], device["arch"]) == (1, ARCH)
    assert len(device["applied"]) == 7  # type: ignore[arg-type]  # a list
    assert json.loads(site.ask("status"))["good"] == 1
    # The agent of the release itself finds everything that it needs.
    config = site.data / "device" / "device.yaml"
    assert DEVICE in site.ask("agent", "check", "--config", config)
    folder = site.fleet.device_folder(DEVICE)
    assert (site.data / "device" / "device.key").read_bytes() == (folder / "device.key").read_bytes()
    assert (site.data / "device" / "device.key").stat().st_mode & 0o777 == 0o600
    unit = (site.below / "etc/systemd/system/shelfkit-agent-launched.service").read_text()
    assert f"--config {config}" in unit
    assert not (site.below / "etc/systemd/system/shelfkit-provision.service").exists()
    assert not list(site.below.glob(".shelfkit-push*"))


def test_what_was_interrupted_was_gone_on_with(site: Site, device: dict[str, object]) -> None:
    whole = sum(part.size for part in site.release.components.values())
    assert device["moved"] == whole - site.release.agent.size // 2
    assert [path.name for path in (site.below / "opt").iterdir()] == ["shelf"]


@pytest.mark.slow
@pytest.mark.usefixtures("device")
def test_pushing_again_moves_what_is_new_and_what_the_device_has_renewed_stays(site: Site) -> None:
    again = json.loads(site.push("--release", 1, "--json"))
    assert (again["applied"], again["moved"]) == ([], 0)
    renewed = site.data / "state" / "identity.pem"
    renewed.write_bytes(b"its own")
    text = (site.fleet.device_folder(DEVICE) / "device.yaml").read_text()
    (site.fleet.device_folder(DEVICE) / "device.yaml").write_text(text + "# changed\n")
    assert json.loads(site.push("--release", 1, "--json"))["applied"] == ["device.yaml"]
    assert renewed.read_bytes() == b"its own"
    assert (site.data / "device" / "device.yaml").read_text().endswith("# changed\n")
    assert json.loads(site.ask("status"))["good"] == 1
    # A device that was away for too long is given another by hand.
    site.kit("deploy", "device", "renew", DEVICE, "--fleet", site.fleet.folder)
    assert json.loads(site.push("--release", 1, "--json"))["applied"] == ["device.pem", "device.key"]
    folder = site.fleet.device_folder(DEVICE)
    for name in ("device.pem", "device.key"):
        assert (site.data / "device" / name).read_bytes() == (folder / name).read_bytes()
    assert not again["trial"]
    assert json.loads(site.push("--release", 2, "--json"))["trial"]
    assert json.loads(site.ask("status"))["good"] == 1


def test_of_another_release_a_push_says_that_it_is_on_trial(offered: Path) -> None:
    fleet = Fleet(offered / "fleet")
    release = Repository(fleet.repository, Keys(fleet.keys)).release(2, ARCH)
    done = Pushed(release, targets.Target(ARCH, "Debian 12"), 0, (), trial=True)
    assert "on trial" in told_of(DEVICE, Login("pi@shelf-12"), done, started=True)
    assert "the agent runs" in told_of(DEVICE, Login("pi@shelf-12"), replace(done, trial=False), started=True)


_STUMBLING = """\
#!/bin/sh
count=$(/usr/bin/wc -l < "$STEPS")
echo >> "$STEPS"
[ "$count" -lt "$UNTIL" ] || { kill -9 $PPID; exit 1; }
exec /usr/bin/${0##*/} "$@"
"""


def _interrupted(folder: Path, until: int) -> int:
    """Run the script that installs until a step that it does not come back from; return the step."""
    script = resources("deploy.push").joinpath("install.sh").read_text(encoding="utf-8")
    (folder / "steps").write_text("")
    environment = {
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "STEPS": str(folder / "steps"),
        "UNTIL": str(until),
    }
    places = (
        folder / "staged",
        folder / "data",
        folder / "opt" / "shelf",
        sys.executable,
        folder,
        "nobody",
        1,
    )
    command = ["/bin/sh", "-c", script, "push", *map(str, places)]
    subprocess.run(command, env=environment, capture_output=True, check=False)
    return len((folder / "steps").read_text().splitlines())


def test_whenever_the_power_goes_a_whole_program_is_there(tmp_path: Path) -> None:
    """Before, or after, and never none: the launcher is in it."""
    for name in ("bin", "staged", "opt/shelf", "new/program"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("rm", "mkdir", "tar", "mv", "cp", "sync"):
        (tmp_path / "bin" / name).write_text(_STUMBLING)
        (tmp_path / "bin" / name).chmod(0o755)
    for name in ("repository/metadata", "repository/targets/releases", "system"):
        (tmp_path / "new" / name).mkdir(parents=True)
    for name in ("launcher", "updater"):
        (tmp_path / "opt" / "shelf" / name).write_text("before")
        (tmp_path / "new" / "program" / name).write_text("after")
    tar = ["tar", "-c", "-f", str(tmp_path / "staged/small.tar"), "-C", str(tmp_path / "new"), "."]
    subprocess.run(tar, check=True)
    seen = []
    for until in range(100):
        steps = _interrupted(tmp_path, until)
        [state] = {(tmp_path / "opt" / "shelf" / name).read_text() for name in ("launcher", "updater")}
        seen.append(state)
        if steps <= until:
            break
    assert seen[0] == "before"
    assert seen[-1] == "after"
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["shelf"]


@pytest.mark.parametrize("planted", ["before", "meanwhile"])
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, planted: str) -> None:
    wanted, other = tmp_path / "wanted", tmp_path / "other"
    other.mkdir(mode=0o755)
    (tmp_path / "bin").mkdir()
    if planted == "before":
        wanted.symlink_to(other)
    else:
        # Somebody is there between the look and the making.
        mkdir = tmp_path / "bin" / "mkdir"
        mkdir.write_text(f'#!/bin/sh\nln -s {other} {wanted}\nexec /usr/bin/mkdir "$@"\n')
        mkdir.chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    command = ["/bin/sh", "-c", _ROOM, "push", str(wanted)]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode != 0
    assert other.stat().st_mode & 0o777 == 0o755


def test_what_is_wrong_is_told_before_anything_moves(site: Site) -> None:
    assert "release for" in site.push("--release", 9, code=2)
    (site.fleet.device_folder(DEVICE) / "device.yaml").write_text("device: [")
    assert "not valid YAML" in site.push(code=3)
    assert not list(site.below.glob(".shelfkit-push*"))
