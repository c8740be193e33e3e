"""From a device of the fleet to its events, over a real broker with the fleet's own certificates."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import pytest

from deploy.fleet import Fleet
from deploy.provision import files
from deploy.run import Device, findings, told
from edge_agent.contracts import events, messages
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.messages import Availability, CameraState, Health, ModelState, PlanogramState, State
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Notice, Publication, Received
from edge_agent.provision import provisioned
from tests.brokers import free_port
from tests.conftest import Kit, find_program

DEVICE = "cam-12-01"
TOPICS = DeviceTopics("0417", DEVICE)
NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)


class World:
    """A broker's other side in memory, and a clock that only this moves."""

    def __init__(self) -> None:
        self.notices: SimpleQueue[Notice] = SimpleQueue()
        self.asked: list[Publication] = []
        self.now = 0.0

    def publish(self, publication: Publication) -> tuple[int, int]:
        self.asked.append(publication)
        return 1, len(self.asked)

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.notices.put(Received(topic, payload, retain, (1, 1, 1)))

    @property
    def device(self) -> Device:
        return Device(self, TOPICS, self.clock)  # type: ignore[arg-type]  # what of a link is used here


def _health(**fields: object) -> bytes:
    return messages.encode(Health(status=Availability.ONLINE, **fields))  # type: ignore[arg-type]  # as given


def test_what_the_broker_has_kept_is_no_device_that_works() -> None:
    world = World()
    world.say(TOPICS.health, _health(), retain=True)
    with pytest.raises(DeviceError, match="nothing of it"):
        world.device.ready(3)
    world.say(TOPICS.health, b"{}")
    world.say(TOPICS.health, messages.encode(Health(status=Availability.STOPPED)))
    world.say(TOPICS.health, _health(uptime_s=1))
    assert world.device.ready(9).uptime_s == 1


def test_safe_mode_is_no_device_that_works() -> None:
    world = World()
    world.say(TOPICS.health, _health(safe_mode="no planogram"))
    with pytest.raises(DeviceError, match="no planogram"):
        world.device.ready(3)


def test_an_answer_to_another_is_none_and_a_no_is_told() -> None:
    world = World()
    world.say(TOPICS.reply("ping"), b'{"request": "another", "ok": true}')
    with pytest.raises(DeviceError, match="Received: none"):
        world.device.ping(3)
    assert {item.topic for item in world.asked} == {TOPICS.command("ping")}


def _state(*faults: events.CameraFault) -> State:
    return State(
        device=DEVICE, store="0417", shelf="12", time=NOW, stream="a" * 32, oldest=1, last=0,
        model=ModelState(name="demo", version="1", sha256="b" * 64),
        planogram=PlanogramState(sha256="c" * 64, width=10, height=10, slots={}),
        camera=CameraState(faults=faults), products=[], slots={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("health", "state", "good"),
    [
        (Health(status=Availability.ONLINE, camera_age_s=0.5, inference_ms=3.2), _state(), True),
        (Health(status=Availability.ONLINE, camera_age_s=60), _state(), False),
        (Health(status=Availability.ONLINE), _state(), False),
        (Health(status=Availability.ONLINE, camera_age_s=1), _state(events.CameraFault.DARK), False),
    ],
)
def test_a_device_that_does_not_see_is_not_good(health: Health, state: State, good: bool) -> None:
    assert all(fine for fine, _ in findings(health, state)) is good


class Store:
    """A fleet with one device, its broker, and its agent: real processes."""

    def __init__(self, folder: Path, kit: Kit, bundle: Path) -> None:
        self.kit, self.folder, self.fleet = kit, folder, Fleet(folder / "fleet")
        self.port = free_port()
        fleet = ("--fleet", self.fleet.folder)
        kit("deploy", "fleet", "init", "--name", "shops", *fleet)
        add = ("deploy", "device", "add", DEVICE, "--store", "0417", "--shelf", "12")
        kit(*add, "--camera", "shelf:seed=7", "--broker", f"localhost:{self.port}", *fleet)
        kit("deploy", "broker", "--store", "0417", "--port", self.port, "--out", folder / "broker", *fleet)
        data, boot = folder / "data", folder / "boot"
        for name, content in files(self.fleet, DEVICE, datetime.now(UTC), data=data).items():
            boot.mkdir(exist_ok=True)
            (boot / name).write_bytes(content)
        (data / "current").mkdir(parents=True)
        (data / "current" / "bundle").symlink_to(bundle)
        provisioned(boot, data, datetime.now(UTC))
        self.config = data / "device" / "device.yaml"

    def processes(self) -> Iterator[subprocess.Popen[bytes]]:
        conf = self.folder / "broker" / "mosquitto.conf"
        with conf.open("a") as file:
            file.write("user root\n")
        agent = [sys.executable, "-m", "edge_agent.cli", "agent", "run", "--config", str(self.config)]
        for name, command in (("broker", [find_program("mosquitto"), "-c", str(conf)]), ("agent", agent)):
            with (self.folder / f"{name}.log").open("wb") as log:
                yield subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)

    def run(self, *more: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.kit("deploy", "run", DEVICE, "--fleet", self.fleet.folder, *more, code=code)


@pytest.mark.slow
@pytest.mark.broker
def test_a_device_is_waited_for_asked_and_followed(tmp_path: Path, kit: Kit, bundle_folder: Path) -> None:
    store = Store(tmp_path, kit, bundle_folder)
    assert "broker" in store.run("--patience", 1, code=8).stderr
    running: list[subprocess.Popen[bytes]] = []
    try:
        processes = store.processes()
        running.append(next(processes))
        assert "nothing of it" in store.run("--patience", 2, code=7).stderr
        running.append(next(processes))
        done = store.run("--patience", 120, "--follow", 4, "--json")
    finally:
        for process in running:
            process.terminate()
            process.wait()
    assert "works and answers" in done.stderr
    assert "FAIL" not in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["source"] for line in lines} == {f"/stores/0417/devices/{DEVICE}"}
    assert "shelfkit.device.device-started.v1" in {line["type"] for line in lines}
    assert "device-started" in told(events.decode(done.stdout.splitlines()[0].encode()))


def test_words_that_do_not_go_together_are_refused(tmp_path: Path, kit: Kit) -> None:
    assert "fleet.json" in kit("deploy", "run", DEVICE, "--fleet", tmp_path, code=3).stderr
