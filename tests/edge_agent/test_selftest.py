"""The self-test: what is wrong is found, all of it at once, and the agent at work is left alone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.broker import BrokerPlan, write_broker
from edge_agent.board import Clock
from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.shelf.files import write_scene
from edge_agent.contracts import config
from edge_agent.contracts.address import Address
from edge_agent.contracts.config import DeviceConfig, Tls
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.memory import Memory
from edge_agent.mqtt import Connected, Disconnected, Link, Notice, Subscribed
from edge_agent.outbox import Limits, Outbox
from edge_agent.selftest.broker import check_broker
from edge_agent.selftest.camera import FRAMES, Take, _frames, _taken, check_camera
from edge_agent.selftest.examine import Clocks, examined
from edge_agent.selftest.finding import Finding, Status, exit_code
from edge_agent.selftest.machine import check_clock, check_database, check_disk, check_metrics
from edge_agent.selftest.parts import Parts, read_parts
from edge_agent.selftest.running import Running, running
from tests.brokers import Mosquitto, free_port, received, subscribed, wait_for
from tests.conftest import Kit, find_program, write_device
from tests.deploy.test_broker import Authority

NOW = datetime(2026, 11, 23, tzinfo=UTC)
GOOD = Clocks(lambda: NOW, lambda: Clock(synchronized=True, error_s=0.02), lambda: NOW - timedelta(days=1))
NAMES = ["config", "planogram", "bundle", "model", "camera", "shelf", "broker", "login"]
NAMES += ["disk", "outbox", "clock", "metrics"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder, seed=7)
    return folder


@pytest.fixture
def shelf(scene: Path, tmp_path: Path) -> Path:
    """A folder with planogram and reference picture, to be changed."""
    return Path(shutil.copytree(scene, tmp_path / "shelf"))


def found(path: Path, clocks: Clocks = GOOD) -> dict[str, Finding]:
    findings = list(examined(path, clocks=clocks))
    assert [finding.name for finding in findings] == NAMES
    for finding in findings:
        assert finding.expected
        assert finding.received
        assert finding.todo or finding.status is not Status.FAIL
    return {finding.name: finding for finding in findings}


def failed(findings: dict[str, Finding]) -> list[str]:
    return [name for name, finding in findings.items() if finding.status is Status.FAIL]


@pytest.mark.broker
def test_a_device_that_is_well(mosquitto: Mosquitto, shelf: Path, bundle_folder: Path) -> None:
    metrics = f"{{port: {free_port()}}}"
    path = write_device(shelf, bundle_folder, port=mosquitto.port, metrics=metrics)
    before = sorted(shelf.iterdir())
    findings = found(path)
    assert failed(findings) == []
    assert [name for name, item in findings.items() if item.status is Status.SKIP] == ["outbox"]
    assert "1280x720" in findings["camera"].received
    assert "found" in findings["shelf"].received
    assert sorted(shelf.iterdir()) == before, "nothing is left behind, not even a state_dir"


@pytest.mark.slow
@pytest.mark.broker
def test_the_command_says_the_same_twice(
    mosquitto: Mosquitto, shelf: Path, bundle_folder: Path, kit: Kit
) -> None:
    path = write_device(shelf, bundle_folder / "nowhere", port=mosquitto.port)
    told = json.loads(kit("agent", "self-test", "--config", path, "--json", code=6).stdout)
    assert (told["passed"], told["exit_code"]) == (False, 6)
    assert [check["name"] for check in told["checks"]] == NAMES
    words = kit("agent", "self-test", "--config", path, code=6).stdout
    assert "fail  bundle" in words
    assert "do: " in words
    assert "pass  login" in words
    assert len(words.splitlines()) < 40


def test_every_check_runs_where_much_is_wrong(shelf: Path, bundle_folder: Path) -> None:
    text = (shelf / "planogram.yaml").read_text()
    (shelf / "planogram.yaml").write_text(text.replace("product: milk-carton", "product: nothing", 1))
    broken = shelf / "bundle"
    shutil.copytree(bundle_folder, broken)
    with (broken / "model.tflite").open("r+b") as file:
        file.write(b"xxxx")
    path = write_device(shelf, broken, source="file:no.mp4", port=free_port())
    findings = found(path, Clocks(lambda: NOW, lambda: Clock(synchronized=False, error_s=16.0), lambda: NOW))
    assert failed(findings) == ["planogram", "bundle", "camera", "broker", "clock"]
    assert "planogram.yaml" in findings["planogram"].received
    assert exit_code(list(findings.values())) == 3


def test_nothing_can_be_said_without_a_config(tmp_path: Path, kit: Kit) -> None:
    path = tmp_path / "device.yaml"
    path.write_text("device: cam\nstores: 1\n")
    findings = found(path)
    assert failed(findings) == ["config"]
    assert "did you mean" in findings["config"].received
    assert findings["clock"].status is Status.PASS
    kit("agent", "self-test", "--config", path, code=3)


def test_a_config_that_the_agent_would_refuse(shelf: Path, bundle_folder: Path) -> None:
    path = write_device(shelf, bundle_folder, updates="{url: 'http://updates.example/'}")
    findings = found(path)
    assert failed(findings)[0] == "config"
    assert "https://HOST" in findings["config"].received
    assert findings["planogram"].status is Status.PASS


def looked(path: Path) -> Finding:
    camera, shelf_seen = check_camera(read_parts(path), None)
    assert camera.status is Status.PASS
    return shelf_seen


@pytest.mark.slow
def test_a_camera_that_looks_elsewhere(shelf: Path, bundle_folder: Path) -> None:
    path, reference = write_device(shelf, bundle_folder), shelf / "reference.jpg"
    picture = cv2.imread(str(reference))
    assert picture is not None
    cv2.imwrite(str(reference), np.roll(picture, -100, axis=1))
    moved = looked(path)
    assert "too far right" in moved.received
    assert "Turn it back" in moved.todo
    cv2.imwrite(str(reference), np.random.default_rng(1).integers(0, 255, picture.shape, np.uint8))
    assert "not found" in looked(path).received
    cv2.imwrite(str(reference), np.full_like(picture, 128))
    assert looked(path).status is Status.SKIP


class Slow(Camera):
    """Gives a frame every `every_s` of a clock that it moves itself; fails now and then."""

    def __init__(self, every_s: float, failures: int = 0) -> None:
        self.now, self.every_s, self.failures = 0.0, every_s, failures

    def read(self) -> Frame:
        self.now += self.every_s
        if self.failures:
            self.failures -= 1
            raise DeviceError("Expected: a frame. Received: none in 1 s.")
        return Frame(np.zeros((480, 640, 3), np.uint8), self.now)


def test_how_many_frames_and_how_large() -> None:
    slow = Slow(0.5, failures=3)
    take = _taken(slow, lambda: slow.now)
    assert take.rate == pytest.approx(2.0)
    wanted = config.Camera(source="v4l2:/dev/video0", width=640, height=480, fps=2.0)
    assert _frames(take, wanted).status is Status.PASS
    turned = wanted.model_copy(update={"rotate": 90})
    assert "instead of 480x640" in _frames(take, turned).received
    assert "instead of 10" in _frames(take, wanted.model_copy(update={"fps": 10.0})).received
    dead = Slow(1.0, failures=100)
    take = _taken(dead, lambda: dead.now)
    assert (take.frames, take.rate) == ([], None)
    assert "none in 1 s" in take.error
    once = Take([Frame(np.zeros((480, 640, 3), np.uint8), 0.0)], None)
    assert _frames(once, wanted).status is Status.PASS
    assert FRAMES.code == 7


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def store_broker(folder: Path) -> Iterator[tuple[int, Authority]]:
    """The broker that `shelfkit deploy broker` sets up, running."""
    port = free_port()
    write_broker(folder, BrokerPlan(store="0417", port=port))
    authority = Authority(folder)
    authority.issue("broker")
    with (folder / "mosquitto.conf").open("a") as file:
        file.write("user root\n")
    with (folder / "log").open("wb") as log:
        command = [find_program("mosquitto"), "-c", str(folder / "mosquitto.conf")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 10
            while not listens(port):
                assert time.monotonic() < end
                time.sleep(0.05)
            yield port, authority
        finally:
            process.terminate()
            process.wait()


def device_of(port: int, tls: Tls | None = None, **more: object) -> DeviceConfig:
    broker: dict[str, object] = {"host": "localhost" if tls else "127.0.0.1", "port": port, "tls": tls}
    least = {"state_dir": "/nonexistent", "bundle": "b", "planogram": "p", "camera": {"source": "shelf:"}}
    return DeviceConfig.model_validate(
        {"device": "cam-12-01", "store": "0417", **least, "broker": broker, **more}
    )


def judged(device: DeviceConfig, agent: Running | None = None) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_broker(Parts(device), agent)}


def test_a_broker_that_is_not_there(tmp_path: Path) -> None:
    findings = judged(device_of(free_port()))
    assert "refused" in findings["broker"].received
    assert findings["login"].status is Status.SKIP
    unknown = device_of(1).model_copy(update={"broker": config.Broker(host="no.invalid", port=1)})
    assert "broker.host" in judged(unknown)["broker"].todo
    own = Tls(ca=tmp_path / "ca", certificate=tmp_path / "c", key=tmp_path / "k")
    assert "broker.tls" in judged(device_of(1, own))["broker"].todo


@pytest.mark.slow
def test_something_else_at_the_brokers_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        findings = judged(device_of(other.getsockname()[1]))
    assert findings["broker"].status is Status.PASS
    assert findings["login"].status is Status.FAIL


@pytest.mark.broker
def test_certificates_and_rights_are_tried(tmp_path: Path) -> None:
    with store_broker(tmp_path / "broker") as (port, authority):
        good = judged(device_of(port, authority.issue("cam-12-01")))
        assert {item.status for item in good.values()} == {Status.PASS}
        assert "TLSv1" in good["broker"].received
        # Another device's certificate may not speak for this one, nor this one for another store.
        other = judged(device_of(port, authority.issue("cam-12-02")))["login"]
        assert other.status is Status.FAIL
        assert "common name" in other.todo
        (tmp_path / "stranger").mkdir()
        stranger = Authority(tmp_path / "stranger")
        foreign = stranger.issue("cam-12-01").model_copy(update={"ca": tmp_path / "broker" / "ca.pem"})
        assert "authority" in judged(device_of(port, foreign))["broker"].todo
        wrong = authority.issue("cam-12-01").model_copy(update={"ca": tmp_path / "stranger" / "ca.pem"})
        assert "broker.tls.ca" in judged(device_of(port, wrong))["broker"].todo
        plain = judged(device_of(port))
        assert "TLS" in plain["login"].todo


def heard(link: Link) -> list[Notice]:
    notices = []
    while not link.notices.empty():
        notices.append(link.notices.get())
    return notices


@pytest.mark.broker
def test_an_agent_keeps_its_session_where_client_ids_are_kept(mosquitto: Mosquitto) -> None:
    topics = DeviceTopics("0417", "cam-12-01")
    with subscribed(mosquitto.address, topics.ack, client_id="cam-12-01") as agent:
        assert judged(device_of(mosquitto.port))["login"].status is Status.PASS
        assert heard(agent) == []


@pytest.mark.broker
def test_a_kits_broker_gives_every_login_the_agents_session(tmp_path: Path) -> None:
    """What the guide says: a login takes the agent's place for a moment; there is none while it runs."""
    with store_broker(tmp_path / "broker") as (port, authority):
        own = authority.issue("cam-12-01")
        address = Address("localhost", port, own, encrypted=True)
        ack = DeviceTopics("0417", "cam-12-01").ack
        with Link(address, client_id="cam-12-01", subscriptions=(ack,), session_expiry_s=60) as agent:
            wait_for(agent, lambda notice: isinstance(notice, Subscribed))
            device = device_of(port, own)
            assert judged(device, Running(connected=True))["login"].status is Status.PASS
            assert judged(device, Running())["login"].status is Status.SKIP
            assert heard(agent) == []
            judged(device)
            wait_for(agent, lambda notice: isinstance(notice, Disconnected))
            wait_for(agent, lambda notice: isinstance(notice, Connected))
            wait_for(agent, lambda notice: isinstance(notice, Subscribed))


@pytest.mark.broker
def test_what_the_login_says_changes_nothing(mosquitto: Mosquitto) -> None:
    with subscribed(mosquitto.address, "#") as listener:
        judged(device_of(mosquitto.port))
        (word,) = received(listener, 1)
        assert (word.topic, word.retain) == ("shelfkit/v1/0417/cam-12-01/reply/self-test", False)
        assert json.loads(word.payload)["ok"] is True


@pytest.mark.broker
def test_the_running_agent_is_asked_and_left_alone(
    mosquitto: Mosquitto, shelf: Path, bundle_folder: Path
) -> None:
    port = free_port()
    path = write_device(shelf, bundle_folder, port=mosquitto.port, metrics=f"{{port: {port}}}")
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "run", "--config", str(path)],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"SHELFKIT_LOG": "error"},
    )
    try:
        end = time.monotonic() + 60
        device = config.read(path).require()
        while (agent := running(device)) is None or not agent.connected:
            assert time.monotonic() < end
            time.sleep(0.2)
        findings = found(path)
        assert failed(findings) == []
        assert "running agent" in findings["login"].received
        assert "running agent" in findings["metrics"].received
        assert "events wait" in findings["outbox"].received
        # Its database shows that it runs, where its metrics are off.
        hidden = running(device.model_copy(update={"metrics": config.Metrics(port=0)}))
        assert hidden == Running()
        usb = device.model_copy(update={"camera": config.Camera(source="v4l2:/dev/video0")})

        camera, shelf_seen = check_camera(Parts(usb), agent)
        assert "judges" in camera.received
        assert shelf_seen.status is Status.SKIP
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert running(device) is None


def device_in(folder: Path, **more: object) -> DeviceConfig:
    return device_of(1, None, **more).model_copy(update={"state_dir": folder})


def test_the_disk(tmp_path: Path) -> None:
    assert check_disk(device_in(tmp_path / "a" / "b")).status is Status.PASS
    assert list(tmp_path.iterdir()) == []
    full = device_in(tmp_path, delivery={"max_mb": 10**9})
    assert "max_mb" in check_disk(full).todo
    assert "right to write" in check_disk(device_in(Path("/proc/1/x"))).todo


def test_the_database_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    device, path = device_in(tmp_path), tmp_path / "outbox.sqlite"
    assert check_database(device).status is Status.SKIP
    with Outbox(path, source="/stores/1/devices/a", limits=Limits(10**9, 30)) as outbox:
        outbox.record([], Memory(), NOW)
        before = sorted(tmp_path.iterdir())
        assert "0 events wait" in check_database(device).received
        assert sorted(tmp_path.iterdir()) == before
    before = sorted(tmp_path.iterdir())
    assert check_database(device).status is Status.PASS
    assert sorted(tmp_path.iterdir()) == before, "no file of ours that the agent could not write"
    damaged = bytearray(path.read_bytes())
    damaged[4096:8192] = b"\xff" * 4096
    path.write_bytes(damaged)
    assert check_database(device).status is Status.FAIL
    path.write_bytes(b"no database at all, and long enough to be one" * 100)
    assert "move" in check_database(device).todo


@pytest.mark.parametrize(
    ("now", "told", "status"),
    [
        (NOW, Clock(synchronized=True, error_s=0.01), Status.PASS),
        (NOW, Clock(synchronized=False, error_s=16.0), Status.FAIL),
        (NOW, None, Status.SKIP),
        (datetime(1970, 1, 1, tzinfo=UTC), Clock(synchronized=True, error_s=0.01), Status.FAIL),
        (NOW - timedelta(days=3), None, Status.FAIL),
    ],
)
def test_the_clock(now: datetime, told: Clock | None, status: Status) -> None:
    assert check_clock(now, NOW - timedelta(days=1), told).status is status


def test_the_clock_of_this_machine_is_asked() -> None:
    clocks = Clocks()
    assert clocks.built() <= clocks.now()
    told = clocks.board()
    assert told is None or told.error_s is None or 0 <= told.error_s <= 100


def test_the_port_of_the_metrics() -> None:
    port = free_port()
    device = device_of(1, metrics={"port": port})
    assert check_metrics(device, None).status is Status.PASS
    with socket.create_server(("127.0.0.1", port)):
        taken = check_metrics(device, None)
        assert (taken.status, taken.code) == (Status.FAIL, 3)
    assert check_metrics(device, Running(connected=False)).status is Status.PASS
    assert check_metrics(device_of(1, metrics={"port": 0}), None).status is Status.SKIP


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.0 200 OK\r\n\r\n{\xff", b"HTTP/1.0 200 OK\r\n\r\nother 1\n", b"x"]
)
def test_others_at_the_metrics_port_are_no_agent(said: bytes) -> None:
    def answer() -> None:
        channel, _ = other.accept()
        with channel:
            channel.recv(1000)
            channel.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as other:
        answering = threading.Thread(target=answer)
        answering.start()
        assert running(device_of(1, metrics={"port": other.getsockname()[1]})) is None
        answering.join()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_database_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    path.touch(mode=0)
    assert "user" in check_database(device_in(tmp_path)).todo
