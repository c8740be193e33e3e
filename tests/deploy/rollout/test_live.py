"""The commands, as an operator runs them: a real mosquitto, devices with connections of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.broker import OPERATOR
from deploy.fleet import Device, Fleet, FleetInfo
from deploy.release.keys import NAMES, write_key
from deploy.release.pack import pack
from deploy.release.repository import Keys, Repository
from deploy.rollout.back import architecture, before, failed, way_back
from deploy.rollout.brokers import connected, wait_ready
from deploy.rollout.kept import Kept
from deploy.rollout.model import Rollout, Standing, State
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import ConfigError, UsageError
from edge_agent.contracts.messages import UpdatePhase
from edge_agent.contracts.release import Component, Release
from tests.brokers import Mosquitto
from tests.conftest import Kit, find_program
from tests.deploy.rollout.devices import Devices
from tests.fleet_simulator import FleetSimulator, SimulatedDevice

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
QUICK = ("--soak", "0s", "--waves", "1,50%,100%")
OPERATED = ("deploy", "rollout")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet of six devices whose repository offers releases 1 and 2."""
    made = Fleet(tmp_path / "fleet")
    made.write(made.info, FleetInfo(name="shops", created=NOW).model_dump_json().encode())
    for name in NAMES:
        write_key(made.keys / f"{name}.pem")
    offered = Repository(made.repository, Keys(made.keys))
    offered.begin(NOW)
    for number in (1, 2):
        offer(offered, tmp_path, number)
    for number in range(6):
        made.keep(Device(device=f"cam-{number}", store="0417", shelf="1", added=NOW, arch="amd64"))
    return made


def offer(offered: Repository, folder: Path, number: int, *, downgrade: bool = False) -> None:
    parts: dict[str, Component] = {}
    for kind in ("runtime", "agent", "bundle"):
        source = folder / f"{kind}-{number}"
        source.write_bytes(f"{kind} {number}".encode())
        parts[kind] = pack(kind, str(number), {"file": source}, offered.components, xz=False)
    made = Release(
        number=number,
        arch="amd64",
        created="2026-11-26T09:00:00Z",
        downgrade=downgrade,
        runtime=parts["runtime"],
        agent=parts["agent"],
        bundle=parts["bundle"],
    )
    assert offered.offer([made], NOW)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(find_program("mosquitto"), tmp_path / "mosquitto", persistent=True) as made:
        yield made


def simulated(
    fleet: Fleet, fates: dict[str, list[UpdatePhase | str | None]] | None = None
) -> dict[str, SimulatedDevice]:
    return {
        item.device: SimulatedDevice("0417", 1, True, (fates or {}).get(item.device, [None]))
        for item in fleet.devices()
    }


def options(fleet: Fleet, broker: Mosquitto) -> tuple[object, ...]:
    return ("--fleet", fleet.folder, "--broker", f"loopback:{broker.port}")


def status(kit: Kit, fleet: Fleet) -> dict[str, Any]:
    return dict(json.loads(kit(*OPERATED, "status", "--fleet", fleet.folder, "--json").stdout))


def until(told: Callable[[], bool], patience_s: float = 30.0) -> None:
    end = time.monotonic() + patience_s
    while not told():
        assert time.monotonic() < end
        time.sleep(0.05)


def desired(fleet: Fleet, broker: Mosquitto) -> dict[str, int]:
    """Return the release that each device is told, as the broker retains it."""
    address = Address("127.0.0.1", broker.port)
    with connected({item.device: ("0417", address) for item in fleet.devices()}) as brokers:
        wait_ready(brokers)
        views = brokers.views(frozenset())
    return {name: view.desired.release for name, view in views.items() if view.desired is not None}


@pytest.mark.broker
def test_a_good_release_gets_to_everybody_and_the_command_ends(
    kit: Kit, fleet: Fleet, broker: Mosquitto
) -> None:
    fleet.keep(fleet.device("cam-5").model_copy(update={"pinned": True}))
    devices = simulated(fleet)
    with Devices(devices, broker.address):
        said = kit(*OPERATED, "start", 2, *options(fleet, broker), *QUICK, "--json")
    found = json.loads(said.stdout)
    assert found["state"] == "done"
    assert found["devices"]["committed"] == 5
    assert "cam-5: left out: pinned" in said.stderr
    assert {name: device.good for name, device in devices.items()} == {
        **{f"cam-{number}": 2 for number in range(5)},
        "cam-5": 1,
    }
    assert "done" in kit(*OPERATED, "list", "--fleet", fleet.folder).stdout
    assert "committed" in kit(*OPERATED, "status", "--fleet", fleet.folder).stdout


@pytest.mark.slow
@pytest.mark.broker
def test_a_bad_release_is_stopped_retried_and_called_off(kit: Kit, fleet: Fleet, broker: Mosquitto) -> None:
    bad: list[UpdatePhase | str | None] = [UpdatePhase.ROLLED_BACK, UpdatePhase.ROLLED_BACK]
    devices = simulated(fleet, {item.device: bad for item in fleet.devices()})
    with Devices(devices, broker.address):
        said = kit(*OPERATED, "start", 2, *options(fleet, broker), *QUICK, code=5)
        assert "rolled back" in said.stderr
        assert len(desired(fleet, broker)) == 1
        kit(*OPERATED, "retry", "--fleet", fleet.folder, code=5)
        found = status(kit, fleet)
        assert [item["attempt"] for item in found["members"].values() if item["wave"]] == [2]
        assert "has" in kit(*OPERATED, "start", 2, *options(fleet, broker), code=2).stderr
        kit(*OPERATED, "abort", "--fleet", fleet.folder)
    assert status(kit, fleet)["state"] == "aborted"
    assert desired(fleet, broker) == {}
    assert {device.good for device in devices.values()} == {1}


@pytest.mark.slow
@pytest.mark.broker
def test_a_rollout_outlives_the_machine_that_drives_it(kit: Kit, fleet: Fleet, broker: Mosquitto) -> None:
    """Killed, and killed again, wherever it is; what is retained and what is kept is enough to go on."""
    devices = simulated(fleet)
    arguments = [*OPERATED, "start", "2", *map(str, options(fleet, broker)), "--soak", "3s"]
    with Devices(devices, broker.address):
        killed(arguments, lambda: bool(list(fleet.rollouts.glob("r*.json"))))
        resume = [*OPERATED, "resume", "--fleet", str(fleet.folder)]
        killed(resume, lambda: any(device.good == 2 for device in devices.values()))
        killed(resume, lambda: Kept(fleet).named("").wave > 0)
        assert status(kit, fleet)["state"] == "running"
        assert not status(kit, fleet)["running"]
        kit(*resume)
    assert status(kit, fleet)["state"] == "done"
    assert {device.good for device in devices.values()} == {2}
    # Nobody was asked twice for the same.
    assert {item["attempt"] for item in status(kit, fleet)["members"].values()} == {1}


@pytest.mark.slow
@pytest.mark.broker
def test_a_rollout_outlives_its_broker(fleet: Fleet, broker: Mosquitto) -> None:
    """While nothing is heard nothing is decided; afterwards it goes on."""
    devices = simulated(fleet)
    arguments = [*OPERATED, "start", "2", *map(str, options(fleet, broker)), "--soak", "2s"]
    with Devices(devices, broker.address):
        driving = subprocess.Popen(
            [sys.executable, "-m", "edge_agent.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: sum(device.good == 2 for device in devices.values()) == 1)
            broker.keep()
            broker.kill()
            kept = Kept(fleet)
            wave = kept.named("").wave
            time.sleep(2.5)
            assert kept.named("").wave == wave
            assert driving.poll() is None
            broker.start()
            said, _ = driving.communicate(timeout=90)
        finally:
            if driving.poll() is None:
                driving.kill()
    assert driving.returncode == 0, said
    assert {device.good for device in devices.values()} == {2}


def killed(arguments: list[str], when: Callable[[], bool]) -> None:
    """Start a command, and end it as a power cut does once something is so."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: when() or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
@pytest.mark.broker
def test_another_terminal_pauses_resumes_and_aborts_what_a_process_drives(
    kit: Kit, fleet: Fleet, broker: Mosquitto
) -> None:
    devices = simulated(fleet, {item.device: ["stuck"] for item in fleet.devices()})
    place = ("--fleet", fleet.folder)
    arguments = [
        *OPERATED,
        "start",
        "2",
        *map(str, options(fleet, broker)),
        "--waves",
        "100%",
        "--soak",
        "1h",
    ]
    with Devices(devices, broker.address):
        driving = subprocess.Popen(
            [sys.executable, "-m", "edge_agent.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: any(device.place > 0 for device in devices.values()))
            assert status(kit, fleet)["running"]
            kit(*OPERATED, "pause", *place)
            assert "another process drives it" in kit(*OPERATED, "resume", *place, "--no-follow").stderr
            assert status(kit, fleet)["state"] == "running"
            kit("deploy", "device", "pin", "cam-0", *place)
            until(lambda: Kept(fleet).named("").members["cam-0"].standing == Standing.LEFT_OUT)
            kit(*OPERATED, "abort", *place)
            said, _ = driving.communicate(timeout=30)
        finally:
            if driving.poll() is None:
                driving.kill()
    assert driving.returncode == 0
    assert b"aborted" in said
    assert desired(fleet, broker) == {}


@pytest.mark.broker
def test_what_cannot_be_begun_is_said_before_it_begins(kit: Kit, fleet: Fleet, broker: Mosquitto) -> None:
    place = options(fleet, broker)
    assert "offered" in kit(*OPERATED, "start", 9, *place, code=6).stderr
    assert "none" in kit(*OPERATED, "start", 2, *place, "--store", "0000", code=2).stderr
    assert "no-such" in kit(*OPERATED, "start", 2, *place, "--device", "no-such", code=3).stderr
    assert "operator" in kit(*OPERATED, "start", 2, "--fleet", fleet.folder, "--broker", "h", code=3).stderr
    assert "device.yaml" in kit(*OPERATED, "start", 2, "--fleet", fleet.folder, code=3).stderr
    assert "none yet" in kit(*OPERATED, "status", "--fleet", fleet.folder, code=2).stderr
    assert OPERATOR == "svc-operator"
    assert not list(fleet.rollouts.glob("r*.json"))


@pytest.mark.broker
def test_a_device_goes_back_to_the_content_of_the_release_before(
    kit: Kit, fleet: Fleet, broker: Mosquitto
) -> None:
    devices = simulated(fleet)
    offered = Repository(fleet.repository, Keys(fleet.keys))
    with Devices(devices, broker.address):
        kit(*OPERATED, "start", 2, *options(fleet, broker), "--waves", "100%", "--soak", "0s")
        back = ("deploy", "device", "rollback", "cam-3", *options(fleet, broker), "--json")
        said = json.loads(kit(*back).stdout)
        # Release 1 allows no downgrade: the same archives, under the next number.
        assert (said["running"], said["to"], said["release"]) == (2, 1, 3)
        until(lambda: devices["cam-3"].good == 3)
        assert offered.release(3, "amd64").components == offered.release(1, "amd64").components
        assert fleet.device("cam-3").pinned
        # It runs that content now: no further number is made.
        assert json.loads(kit(*back, "--to", 1).stdout)["release"] == 3
        assert max(offered.numbers()) == 3
    kit("deploy", "device", "unpin", "cam-3", "--fleet", fleet.folder)
    assert not fleet.device("cam-3").pinned
    assert {device.good for name, device in devices.items() if name != "cam-3"} == {2}


@pytest.mark.broker
def test_a_device_goes_back_while_a_rollout_is_under_way(kit: Kit, fleet: Fleet, broker: Mosquitto) -> None:
    """Both speak to one broker, which lets each name in once."""
    devices = simulated(fleet)
    command = [sys.executable, "-m", "edge_agent.cli", *OPERATED, "start", "2"]
    command += [*map(str, options(fleet, broker)), "--waves", "1,100%", "--soak", "1h"]
    with (
        Devices(devices, broker.address),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver,
    ):
        try:
            until(lambda: 2 in {device.good for device in devices.values()}, 120)
            [canary] = [name for name, device in devices.items() if device.good == 2]
            kit("deploy", "device", "rollback", canary, *options(fleet, broker))
            until(lambda: devices[canary].good == 3, 60)
            # Another takes its place in the wave.
            until(lambda: 2 in {device.good for device in devices.values()}, 60)
            assert driver.poll() is None
            assert Kept(fleet).named("").members[canary].standing == Standing.LEFT_OUT
            kit(*OPERATED, "abort", "--fleet", fleet.folder)
            said = driver.communicate(timeout=60)
        finally:
            driver.kill()
    assert "taken over" not in "".join(said)
    assert Kept(fleet).named("").state == State.ABORTED


def test_what_a_device_has_rolled_back_and_not_committed_after_all_is_bad_for_it() -> None:
    made = FleetSimulator(2)
    first, second = (
        replace(made.begin(), id=name, release=release) for name, release in (("a", 2), ("b", 3))
    )

    def heard(rollout: Rollout, phase: UpdatePhase) -> Rollout:
        members = {**rollout.members, "cam-00000": replace(rollout.members["cam-00000"], phase=phase)}
        return replace(rollout, members=members)

    bad = [heard(first, UpdatePhase.ROLLED_BACK), heard(second, UpdatePhase.REFUSED)]
    assert failed(bad, "cam-00000") == {2, 3}
    assert failed(bad, "cam-00001") == set()
    assert failed([*bad, heard(first, UpdatePhase.COMMITTED)], "cam-00000") == {3}


def test_the_architecture_of_a_device_is_that_of_what_it_runs(fleet: Fleet) -> None:
    offered = Repository(fleet.repository, Keys(fleet.keys))
    nameless = fleet.device("cam-0").model_copy(update={"arch": None})
    assert architecture(offered, nameless, 2) == "amd64"
    assert architecture(offered, nameless.model_copy(update={"arch": "arm64"}), 2) == "arm64"
    both = [replace(offered.release(2, "amd64"), number=3, arch=arch) for arch in ("amd64", "arm64")]
    assert offered.offer(both, NOW)
    with pytest.raises(ConfigError, match="amd64, arm64"):
        architecture(offered, nameless, 3)


def test_the_way_back_is_the_number_itself_where_signed_metadata_allows_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    offered = Repository(fleet.repository, Keys(fleet.keys))
    offer(offered, tmp_path, 5, downgrade=True)
    offer(offered, tmp_path, 6)
    assert before(offered, "amd64", 6) == 5
    assert way_back(offered, "amd64", 6, 5, NOW) == 5
    assert way_back(offered, "amd64", 6, 2, NOW) == 7
    assert way_back(offered, "amd64", 6, 2, NOW) == 7
    assert before(offered, "amd64", 7) == 6
    with pytest.raises(UsageError, match="before 1"):
        before(offered, "amd64", 1)
    # Never what it has rolled back; and what it says itself that it ran before.
    assert before(offered, "amd64", 6, bad={5}) == 2
    assert before(offered, "amd64", 6, previous=1) == 1
    assert before(offered, "amd64", 6, previous=2, bad={2}) == 5
    # 7 holds what 2 holds: that is no other content.
    assert before(offered, "amd64", 7, previous=2) == 6
    (fleet.keys / "targets.pem").unlink()
    with pytest.raises(ConfigError, match="targets key"):
        way_back(offered, "amd64", 7, 1, NOW)
