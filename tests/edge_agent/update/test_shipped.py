"""What lies outside of every release: whole, alone, and started as systemd will."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from edge_agent.contracts import provisioning
from edge_agent.update import shipped, units
from edge_agent.update.machine import PATIENCE_S
from edge_agent.update.units import Device
from tests.deploy.releases import World
from tests.edge_agent.test_unit import BREAKING, HARD, systemd_analyze
from tests.filtered import settings

DIFFERENT = {"StateDirectory", "StateDirectoryMode"}


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is shipped, and nothing else."""
    folder = tmp_path_factory.mktemp("opt")
    for name, source in {**shipped.kit_files(), **shipped.library_files()}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
    return folder


def alone(opt: Path, *words: object, root: Path) -> subprocess.CompletedProcess[str]:
    """Run launcher or updater with what is shipped alone: no site-packages, no kit."""
    environment = {
        "PYTHONPATH": str(opt),
        "PATH": os.defpath,
        "SHELFKIT_RELEASES": str(root),
        "SHELFKIT_BOOT_ID": "b1",
    }
    command = [sys.executable, "-P", "-S", "-m", "edge_agent.update", "--arch", "amd64", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")


def test_a_device_needs_nothing_else_for_its_releases(opt: Path, tmp_path: Path) -> None:
    world = World(tmp_path / "world", now=datetime.now(UTC))
    world.release(1)
    world.release(2, b"another")
    root, folder = world.place.root, world.offered.folder
    done = alone(opt, "install", folder, "--release", 1, root=root)
    assert done.returncode == 0, done.stderr
    done = alone(opt, "launch", "run", "--config", "device.yaml", root=root)
    # It has become an agent, that of this Python: the release of this test has none.
    assert (done.returncode, "device.yaml" in done.stderr) == (3, True)
    assert alone(opt, "ended", root=root).returncode == 0
    said = json.loads(alone(opt, "status", root=root).stdout)
    assert (said["good"], said["on_disk"]) == (1, [1])
    assert said["starts"][0]["end"] == {"result": "success", "status": ""}
    done = alone(opt, "apply", folder, root=root)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["release", "2"]), done.stderr
    assert json.loads(alone(opt, "status", root=root).stdout)["trial"]["release"] == 2
    done = alone(opt, "apply", folder, root=root)
    assert (done.returncode, "on trial" in done.stderr, "hint: wait" in done.stderr) == (7, True, True)
    done = alone(opt, "launch", "run", root=root / "nothing")
    assert (done.returncode, "none that is whole" in done.stderr) == (6, True)


def test_everything_is_shipped_that_the_updater_imports(opt: Path) -> None:
    code = "import edge_agent.update.updater, sys; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", code],
        env={"PYTHONPATH": str(opt)},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert {"tuf", "securesystemslib", "cryptography", "urllib3"} <= set(done.stdout.split())
    assert "pydantic" not in done.stdout


def test_the_launcher_loads_next_to_nothing(opt: Path) -> None:
    code = "import edge_agent.update.launcher, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", code],
        env={"PYTHONPATH": str(opt)},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert not {"tuf", "cryptography", "urllib3", "ssl", "http"} & set(done.stdout.split())


def test_the_launched_agent_is_as_hardened_as_any() -> None:
    found = settings(units.launched(Device()))
    wrong = {
        key: found.get(key)
        for key, value in HARD.items()
        if key not in DIFFERENT and found.get(key) != [value]
    }
    assert wrong == {}
    assert BREAKING & found.keys() == set()
    assert {"RestartSteps", "RestartMaxDelaySec"} & found.keys() == set(), "systemd 252 knows neither"
    assert found["RestartSec"] == ["3"]
    assert int(found["WatchdogSec"][0]) == 60
    # What hangs at once is known to hang before the updater would give up waiting for its proof.
    assert 2 * int(found["TimeoutStartSec"][0]) < PATIENCE_S
    writable = " ".join(found["ReadWritePaths"]).split()
    assert writable == [f"/data/shelf/{name}" for name in ("state", "exchange", "launcher", "device")]


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    device = Device(user="root", python="/usr/bin/env", console=True)
    paths = []
    for name, text in units.texts(device).items():
        path = tmp_path / Path(name).name
        path.write_text(text)
        paths += [str(path)] if path.suffix == ".service" else []
    done = subprocess.run(
        [systemd_analyze(), "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "shelfkit" in line] == []


def test_systemd_thinks_them_little_exposed(tmp_path: Path) -> None:
    for name, threshold in ((units.LAUNCHED, 25), (units.UPDATER, 45)):
        path = tmp_path / name
        path.write_text(units.texts(Device())[f"etc/systemd/system/{name}"])
        options = ("--offline=true", f"--threshold={threshold}", "--no-pager")
        done = subprocess.run(
            [systemd_analyze(), "security", *options, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout.splitlines()[-1:]


def test_provisioning_is_started_for_every_file_that_may_be_a_wish_and_for_no_other() -> None:
    offered = [
        line.removeprefix("ConditionPathExistsGlob=|/boot/")
        for line in units.provision(Device()).splitlines()
        if line.startswith("ConditionPathExistsGlob=|/boot/")
    ]

    def wished(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in offered)

    for name in provisioning.FILES:
        assert all(map(wished, (name, name.upper(), f"{name}.txt", f"{name}.applied"))), name
    assert wished(".tmp-provisioned.txt")
    others = ("vmlinuz", "initrd.img", "EFI", "loader", "config.txt", "cmdline.txt", provisioning.REPORT)
    assert not any(map(wished, others))
    # Who was never told who it is says so at each boot.
    assert "ConditionPathExists=|!/data/shelf/device/device.yaml\n" in units.provision(Device())


def test_folders_belong_to_those_who_write_there() -> None:
    lines = [line.split() for line in units.folders(Device()).splitlines()]
    owners = {Path(path).name: (mode, user) for _, path, mode, user, _ in lines}
    assert owners["releases"] == owners["runtimes"] == owners["metadata"] == ("0755", "root")
    # Both write there, and neither can take the place of the other's files: the sticky bit.
    assert owners["exchange"] == ("1775", "root")
    assert owners["device"] == owners["state"] == ("0700", "shelfkit")
    assert re.search(r"^RuntimeWatchdogSec=14$", units.machine_watchdog(Device()), re.MULTILINE)
    assert not any("system.conf" in name for name in units.texts(Device(watchdog_s=None)))


def test_units_and_files_are_written_below_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_agent.update"]
    subprocess.run([*command, "units", str(tmp_path), "--user", "kiosk"], check=True)
    subprocess.run([*command, "ship", str(tmp_path / "opt")], check=True)
    text = (tmp_path / "etc/systemd/system" / units.LAUNCHED).read_text()
    assert settings(text)["User"] == ["kiosk"]
    assert (tmp_path / "opt/edge_agent/update/__main__.py").is_file()
    assert not (tmp_path / "opt/edge_agent/agent.py").exists()
