"""The store's side as written: read by systemd, and really started, with the certificates of a fleet."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from deploy.fleet import Fleet
from deploy.release.repository import Keys, Repository
from deploy.rollout.choice import addresses
from deploy.store.plan import StorePlan
from deploy.store.units import BROKER_UNIT, RECORDER_UNIT, units
from edge_agent.contracts import config
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import UsageError
from tests.brokers import free_port
from tests.conftest import Kit, find_program, missing
from tests.deploy.rollout.devices import Devices
from tests.deploy.rollout.test_live import offer
from tests.filtered import LIBRARY, settings
from tests.fleet_simulator import SimulatedDevice

PLAN = StorePlan(
    store="0417", host="mqtt.store.example", root="/srv/shelfkit", program="/opt/shelfkit/bin/shelfkit"
)


@pytest.mark.parametrize("name", [BROKER_UNIT, RECORDER_UNIT])
def test_systemd_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        missing("systemd-analyze", "apt install systemd")
    plan = replace(PLAN, program="/usr/bin/env", mosquitto="/usr/bin/env")
    for unit, text in units(plan).items():
        # Users that are not made yet are none of the unit's faults.
        (tmp_path / unit).write_text(
            text.replace("=shelfkit-broker\n", "=root\n").replace("=shelfkit-recorder\n", "=root\n")
        )
    done = subprocess.run(
        [str(analyze), "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "shelfkit-" in line] == []


def test_each_service_is_somebody_else_and_writes_one_folder() -> None:
    texts = units(PLAN)
    broker, recorder = settings(texts[BROKER_UNIT]), settings(texts[RECORDER_UNIT])
    assert broker["User"] != recorder["User"]
    assert broker["ReadWritePaths"] == ["/srv/shelfkit/broker/data"]
    assert recorder["ReadWritePaths"] == ["/srv/shelfkit/recorder/data"]
    for found in (broker, recorder):
        assert found["ProtectSystem"] == ["strict"]
        assert found["CapabilityBoundingSet"] == [""]
        assert found["Restart"] == ["always"]
        assert f"u {found['User'][0]} " in texts["shelfkit-store.conf"]


@pytest.mark.parametrize("place", ["srv", "/srv/a b", "/srv/../etc", "/srv/$HOME", "/srv/%i"])
def test_a_place_that_a_unit_would_read_otherwise_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match="--root"):
        replace(PLAN, root=place)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, kit: Kit) -> tuple[Fleet, int, Path]:
    """A fleet with two devices that offers two releases, the port of its broker, and the store's folder."""
    tmp_path = tmp_path_factory.mktemp("store")
    port, folder, root = free_port(), tmp_path / "fleet", tmp_path / "root"
    place = ("--fleet", folder)
    kit("deploy", "fleet", "init", "--name", "shops", "--broker-name", "localhost", *place)
    for name in ("cam-1", "cam-2"):
        where = ("--store", "0417", "--shelf", "1", "--broker", f"localhost:{port}")
        kit("deploy", "device", "add", name, *where, *place)
    made = Fleet(folder)
    for number in (1, 2):
        offer(Repository(made.repository, Keys(made.keys)), tmp_path, number)
    program = tmp_path / "shelfkit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_agent.cli "$@"\n')
    program.chmod(0o755)
    options: tuple[object, ...] = ("--root", root, "--program", program, "--port", port)
    options += ("--page-port", free_port(), "--mosquitto", find_program("mosquitto"))
    kit("deploy", "store", "--store", "0417", "--out", root, "--operator", *options, *place)
    return made, port, root


def test_keys_are_for_their_owners_and_containers_start_the_same(fleet: tuple[Fleet, int, Path]) -> None:
    _, port, root = fleet
    names = ("broker/broker.key", "recorder/svc-recorder.key", "recorder/svc-operator-page.key")
    for key in map(root.joinpath, names):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    found: dict[str, Any] = YAML(typ="safe").load(root / "compose.yaml")
    assert set(found["services"]) == {"broker", "dashboard"}
    users = set()
    for service in found["services"].values():
        users.add(service["user"])
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "privileged" not in service
        assert [item for item in service["volumes"] if not item.endswith((":ro", "/data"))] == []
        for volume in service["volumes"]:
            assert (root / volume.partition(":")[0]).is_dir()
    assert len(users) == 2
    assert found["services"]["broker"]["ports"] == [f"{port}:{port}"]
    page = found["services"]["dashboard"]
    assert all(item.startswith("127.0.0.1:") for item in page["ports"])
    unit = settings((root / "systemd" / RECORDER_UNIT).read_text())["ExecStart"][0].split()
    inside = ["shelfkit", *unit[1:]]
    inside[inside.index("--host") + 1] = "0.0.0.0"  # noqa: S104 - what a container listens on
    command = page["command"]
    assert command[: len(inside)] == inside
    # The proxy in front asks from the gateway of the engine's network.
    assert set(command[len(inside) :: 2]) == {"--trusted-proxy"}


@pytest.mark.broker
def test_what_the_units_start_takes_a_rollout_over_certificates(
    kit: Kit, fleet: tuple[Fleet, int, Path]
) -> None:
    made, port, root = fleet
    if os.geteuid() == 0:
        # As root, the broker would become a user who cannot read this folder.
        with (root / "broker" / "mosquitto.conf").open("a") as file:
            file.write("user root\n")
    devices = {name: SimulatedDevice("0417", 1, True, [None]) for name in ("cam-1", "cam-2")}
    own = {
        name: Address(
            "localhost",
            port,
            config.Tls(
                ca=made.ca_certificate,
                certificate=made.device_folder(name) / "device.pem",
                key=made.device_folder(name) / "device.key",
            ),
            encrypted=True,
        )
        for name in devices
    }
    assert {
        address.port for _, address in addresses(made, dict.fromkeys(devices, "0417"), None).values()
    } == {port}
    with ExitStack() as stack:
        for unit in (BROKER_UNIT, RECORDER_UNIT):
            stack.enter_context(started(root / "systemd" / unit, root.parent / f"{unit}.log"))
        words = settings((root / "systemd" / RECORDER_UNIT).read_text())["ExecStart"][0].split()
        page = words[words.index("--port") + 1]
        stack.enter_context(Devices(devices, own))
        waves = ("--waves", "1,100%", "--soak", "0s")
        said = kit("deploy", "rollout", "start", 2, "--fleet", made.folder, *waves, "--json")
        assert json.loads(said.stdout)["state"] == "done"
        health = well(f"http://127.0.0.1:{page}/healthz")
    assert {device.good for device in devices.values()} == {2}
    assert health["broker"], health
    assert (root / "recorder" / "data" / "shelfkit.sqlite").is_file()


def well(address: str, patience_s: float = 40.0) -> dict[str, Any]:
    """Return what a page says of itself, once it is there and has its broker."""
    end = time.monotonic() + patience_s
    found: dict[str, Any] = {}
    while time.monotonic() < end and not found.get("broker"):
        try:
            found = dict(httpx.get(address, timeout=5).json())
        except httpx.TransportError:
            time.sleep(0.2)
    return found


@contextmanager
def started(unit: Path, log: Path) -> Iterator[None]:
    """Start the very command line that a unit names, under the unit's system call filter."""
    command = settings(unit.read_text())["ExecStart"][0].split()
    if find_library(LIBRARY.removeprefix("lib").partition(".")[0]):
        command = [sys.executable, "-m", "tests.filtered", str(unit), *command]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        time.sleep(1.0)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(30)
