"""From a device of the fleet to its events, over a real broker with the fleet's own certificates."""

import json
import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import pytest

from deploy.broker import OPERATOR
from deploy.provision import files
from deploy.run import RUN, Device, findings, told
from deploy.service import tls_of
from edge_agent.contracts import events, messages
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import DeviceError, ServiceError
from edge_agent.contracts.messages import Availability, CameraState, Health, ModelState, PlanogramState, State
from edge_agent.contracts.topics import ROOT, DeviceTopics
from edge_agent.mqtt import Disconnected, Link, Notice, Publication, Received, Subscribed
from edge_agent.provision import provisioned
from tests.brokers import received, subscribed
from tests.conftest import Kit
from tests.deploy.fleets import fleet_with_device
from tests.deploy.stores import DEVICE, STORE, Store, hear, process, worked

TOPICS = DeviceTopics(STORE, DEVICE)
NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)


class World:
    """A broker's other side in memory, and a clock that only this moves."""

    def __init__(self) -> None:
        self.notices: SimpleQueue[Notice] = SimpleQueue()
        self.asked: list[Publication] = []
        self.now = 0.0
        self._later: list[Notice] = []

    def publish(self, publication: Publication) -> tuple[int, int]:
        self.asked.append(publication)
        return 1, len(self.asked)

    def clock(self) -> float:
        self.now += 1.0
        if self._later:
            self.notices.put(self._later.pop(0))
        return self.now

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Say something as time passes."""
        self._later.append(Received(topic, payload, retain, (1, 1, 1)))

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


def test_what_a_device_said_before_it_was_pushed_to_does_not_count() -> None:
    world = World()
    world.notices.put(Received(TOPICS.health, _health(uptime_s=999), False, (1, 1, 1)))
    world.say(TOPICS.health, _health(uptime_s=1))
    assert world.device.ready(9).uptime_s == 1


def test_safe_mode_is_no_device_that_works() -> None:
    world = World()
    world.say(TOPICS.health, _health(safe_mode="no planogram"))
    with pytest.raises(DeviceError, match="no planogram"):
        world.device.ready(3)


def test_a_link_that_breaks_is_waited_for_and_one_that_is_taken_away_is_told() -> None:
    """A broker that restarts hangs up now and then; another program with our name does so again and again."""
    world = World()
    device = world.device
    for _ in range(9):
        for notice in (Subscribed(), Disconnected("gone")):
            world.notices.put(notice)
            with pytest.raises(DeviceError, match="nothing of it"):
                device.ready(1)
            world.now += 60
    for _ in range(4):
        world.notices.put(Subscribed())
        world.notices.put(Disconnected("gone"))
    with pytest.raises(ServiceError, match="another program has it"):
        device.ready(60)


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


def applied(store: Store, bundle: Path) -> Path:
    """Provision a folder as a device's first boot does, and return its configuration."""
    data, boot = store.folder / "data", store.folder / "boot"
    boot.mkdir()
    for name, content in files(store.fleet, DEVICE, datetime.now(UTC), data=data).items():
        (boot / name).write_bytes(content)
    (data / "current").mkdir(parents=True)
    (data / "current" / "bundle").symlink_to(bundle)
    provisioned(boot, data, datetime.now(UTC))
    return data / "device" / "device.yaml"


@pytest.mark.broker
def test_another_operator_leaves_it_alone_and_the_same_one_ends_it(tmp_path: Path, kit: Kit) -> None:
    store = Store(tmp_path, kit)
    assert "fleet service bert" in store.run("--operator", "bert", code=3).stderr

    def comes_in(name: str) -> AbstractContextManager[Link]:
        address = Address("localhost", store.port, tls_of(store.fleet, name), encrypted=True)
        return subscribed(address, f"{ROOT}/#", client_id=name)

    with store.broker(), store.running("--patience", 120) as first:
        hear(first, "waiting for")
        with comes_in("anna") as anna, comes_in(OPERATOR) as rollouts:
            anna.publish(Publication(TOPICS.command("ping"), b"{}"))
            assert received(rollouts, 1)[0].topic == TOPICS.command("ping")
        assert first.poll() is None
        with comes_in(RUN):
            assert "another program" in first.communicate(timeout=60)[1]
    assert first.returncode == 8


@pytest.mark.slow
@pytest.mark.broker
def test_a_device_is_waited_for_asked_and_followed(tmp_path: Path, kit: Kit, bundle_folder: Path) -> None:
    store = Store(tmp_path, kit)
    agent = (sys.executable, "-m", "edge_agent.cli", "agent", "run")
    config = applied(store, bundle_folder)
    assert "broker" in store.run("--patience", 1, code=8).stderr
    with store.broker():
        assert "nothing of it" in store.run("--patience", 2, code=7).stderr
        with process(tmp_path / "agent.log", *agent, "--config", str(config)):
            done = store.run("--patience", 120, "--follow", 4, "--json")
    assert worked(done)
    lines = done.stdout.splitlines()
    assert "shelfkit.device.device-started.v1" in {json.loads(line)["type"] for line in lines}
    assert "device-started" in told(events.decode(lines[0].encode()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--image", "x.img"), "--image with --drive"),
        (("--image", "x.img", "--drive", "/dev/null", "--push", "h"), "another mix"),
        (("--port", "22"), "no --push"),
        (("--ssh-option=-J",), "no --push"),
        (("--push", "-"), "never pushed"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    tmp_path: Path, kit: Kit, words: tuple[str, ...], said: str
) -> None:
    fleet = fleet_with_device(tmp_path / "fleet")
    assert said in kit("deploy", "run", DEVICE, "--fleet", fleet.folder, *words, code=2).stderr


def test_a_folder_that_is_no_fleet_is_refused(tmp_path: Path, kit: Kit) -> None:
    assert "fleet.json" in kit("deploy", "run", DEVICE, "--fleet", tmp_path, code=3).stderr
