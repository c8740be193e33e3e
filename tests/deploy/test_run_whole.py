"""`deploy run` as a whole: a machine with a systemd of its own, over SSH, becomes a device that works."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.fleet import Fleet
from deploy.release.pack import files_below, pack
from deploy.release.parts import agent_component
from deploy.release.repository import Keys, Repository
from edge_agent.contracts.release import Release
from edge_agent.contracts.times import rfc3339
from tests.conftest import Kit
from tests.deploy.flash.images import SIZE, make_image, on_boot
from tests.deploy.runtimes import installed_runtime
from tests.deploy.stores import DEVICE, Store, hear, worked
from tests.machines import Machine
from tests.sshd import SshServer

ARCH = {"aarch64": "arm64"}.get(os.uname().machine, "amd64")
AGENT, UPDATER = "shelfkit-agent-launched.service", "shelfkit-updater.service"
pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(900)]


def offer(fleet: Fleet, bundle: Path, room: Path) -> None:
    """Offer the first release: the agent and the libraries that are installed here, and a real bundle."""
    repository, now = Repository(fleet.repository, Keys(fleet.keys)), datetime.now(UTC)
    into = repository.components
    into.mkdir(parents=True, exist_ok=True)
    made = Release(
        number=1,
        arch=ARCH,
        created=rfc3339(now),
        runtime=installed_runtime(into),
        agent=agent_component(None, into, room),
        bundle=pack("demo", "1", files_below(bundle), into),
    )
    assert repository.offer([made], now)


class Site:
    """A store with its broker at work, and a machine that runs Debian and nothing of the kit."""

    def __init__(self, folder: Path, kit: Kit, bundle: Path) -> None:
        self.ssh = SshServer(folder / "machine" / "shared" / "sshd")
        self.machine = Machine(folder / "machine", {"sshd.service": self.ssh.unit})
        self.store = Store(folder, kit)
        offer(self.store.fleet, bundle, folder)

    @property
    def push(self) -> tuple[object, ...]:
        """Words of `deploy run`."""
        options = (f"--ssh-option={word}" for word in self.ssh.options)
        return ("--push", "127.0.0.1", "--port", self.ssh.port, *options, "--patience", 240, "--json")

    def active(self, unit: str) -> bool:
        return self.machine.ask("systemctl", "is-active", unit).stdout.strip() == "active"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, kit: Kit, bundle_folder: Path) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), kit, bundle_folder)
    with made.store.broker(), made.machine:
        yield made


def test_a_machine_is_pushed_to_proves_itself_and_is_followed(site: Site) -> None:
    done = site.store.run(*site.push, "--follow", 4)
    assert worked(done), site.machine.journal()
    assert f"{DEVICE}: release 1 is on 127.0.0.1" in done.stderr
    for unit in (AGENT, UPDATER):
        assert site.active(unit), site.machine.journal(unit)
        assert site.machine.ask("systemctl", "is-enabled", unit).stdout.strip() == "enabled"
    # It is the release's own Python files that run, as the user that the push has made.
    shown = site.machine.ask("systemctl", "show", "--property=User,Type,WatchdogUSec,NRestarts", AGENT).stdout
    assert {"User=shelfkit", "Type=notify", "WatchdogUSec=1min", "NRestarts=0"} <= set(shown.split())
    assert site.store.fleet.device(DEVICE).host == "127.0.0.1"


def test_it_is_pushed_to_again_where_it_was_before(site: Site) -> None:
    words = ["-" if word == "127.0.0.1" else word for word in site.push]
    done = site.store.run(*words, "--follow", 4)
    assert worked(done)
    assert "it was there already" in done.stderr


def test_it_works_again_after_a_power_cut(site: Site) -> None:
    site.machine.cut()
    with site.store.running("--patience", 240, "--follow", 3, "--json") as waiting:
        site.machine.start()
        said, shown = waiting.communicate(timeout=300)
    assert waiting.returncode == 0, shown
    assert "works and answers" in shown
    assert "device-started" in said


def test_a_drive_is_flashed_carried_to_the_machine_and_followed(site: Site, tmp_path: Path) -> None:
    """What the boot partition then holds is taken over by the machine that was pushed to."""
    image, drive = make_image(tmp_path / "shelf.img"), tmp_path / "drive"
    drive.write_bytes(bytes(SIZE * 2))
    told = ("--image", image, "--drive", drive, "--yes")
    assert "--allow-file" in site.store.run(*told, code=7).stderr
    with site.store.running(*told, "--allow-file", "--patience", 240, "--follow", 3, "--json") as waiting:
        hear(waiting, "waiting for")
        boot = site.machine.shared / "boot"
        boot.mkdir()
        names = (
            "device.yaml",
            "planogram.yaml",
            "reference.jpg",
            "ca.pem",
            "device.pem",
            "device.key",
            "root.json",
        )
        for name in names:
            (boot / name).write_bytes(on_boot(drive, name))
        site.machine.ask("systemctl", "stop", AGENT)
        program = ("PYTHONPATH=/opt/shelf", "SHELFKIT_RELEASES=/data/shelf", "/usr/bin/python3", "-P")
        words = ("agent", "provision", "--boot", str(boot), "--user", "shelfkit")
        taken = site.machine.ask("env", *program, "-m", "edge_agent.update", *words)
        assert taken.returncode == 0, taken.stderr
        site.machine.ask("systemctl", "start", AGENT)
        said, shown = waiting.communicate(timeout=300)
    assert waiting.returncode == 0, shown
    assert "works and answers" in shown
    assert "device-started" in said
