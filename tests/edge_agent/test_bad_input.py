"""What people get wrong on a device: one clear message, a code that means something, nothing half-written."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.contracts import bundle
from tests.brokers import Mosquitto, free_port, received, subscribed
from tests.conftest import Kit, find_program, write_device


def edit(old: str, new: str, name: str = "device.yaml") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def overwrite(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def five_mistakes(folder: Path) -> None:
    edit("store:", "stor:")(folder)
    edit("port: 1}", "prot: 1}")(folder)
    edit("fps: 5", "fps: often")(folder)
    edit("confirm_s: 1.2", "confirm_s: -1")(folder)
    edit('"shelf:seed=7"', '"webcam"')(folder)


def break_bundle(folder: Path) -> None:
    place = folder / "bundle"
    source = next(
        line for line in (folder / "device.yaml").read_text().splitlines() if line.startswith("bundle:")
    )
    shutil.copytree(source.split('"')[1], place)
    with (place / bundle.MODEL).open("ab") as file:
        file.write(b"x")
    edit(source, "bundle: bundle")(folder)


CASES: list[tuple[Callable[[Path], None], int, list[str]]] = [
    (five_mistakes, 3, ["device.yaml:2", "did you mean `store`", "did you mean `port`", "fps", "webcam"]),
    (lambda folder: (folder / "device.yaml").unlink(), 3, ["No such file"]),
    (overwrite("device.yaml", b"a: ["), 3, ["not valid YAML"]),
    (edit("[1229.0, 666.0]", "[9000, 666]", "planogram.yaml"), 3, ["planogram.yaml:", "1280x720"]),
    (lambda folder: (folder / "planogram.yaml").unlink(), 3, ["planogram.yaml"]),
    (
        overwrite("reference.jpg", b"no picture"),
        3,
        ["reference", "cannot be read"],
    ),
    (edit("label: tea-box", "label: tea-bxo", "planogram.yaml"), 3, ["label of the bundle", "tea-bxo"]),
    (break_bundle, 6, ["model.tflite", "bytes"]),
    (edit("device: cam-12-01", "home_assistant: true\ndevice: cam.12"), 3, ["device", "home_assistant"]),
    (edit("metrics:", "updates: {url: http://x}\nmetrics:"), 3, ["updates.url", "https"]),
]


EVERYWHERE = [(command, *CASES[number]) for command in ("replay", "run") for number in (0, 7)]


@pytest.mark.parametrize(
    ("command", "change", "code", "said"), [*(("check", *case) for case in CASES), *EVERYWHERE]
)
def test_a_device_that_cannot_be(
    device: Path, kit: Kit, command: str, change: Callable[[Path], None], code: int, said: list[str]
) -> None:
    change(device)
    done = kit("agent", command, "--config", device / "device.yaml", code=code)
    assert [words for words in said if words not in done.stderr] == []
    assert done.stdout == ""
    assert not (device / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--source", "file:nowhere.mp4"], 4, "not there"),
        (["--source", "rtsp://camera"], 2, "--source"),
        (["--start", "monday"], 2, "RFC 3339"),
        (["--start", "2026-11-23"], 2, "with a zone"),
    ],
)
def test_a_replay_that_cannot_be(device: Path, kit: Kit, arguments: list[str], code: int, said: str) -> None:
    done = kit("agent", "replay", "--config", device / "device.yaml", *arguments, code=code)
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--source", "file:nowhere.mp4"], 4, "not there"),
        (["--source", "shelf:seed=7"], 2, "--until"),
        (["--source", "shelf:seed=7", "--until", "1", "--labels", "nowhere.csv"], 4, "nowhere.csv"),
        (["--source", "shelf:seed=7", "--until", "1", "--labels", "bad.csv"], 4, "columns"),
        (["--source", "shelf:seed=7", "--until", "1", "--labels", "odd.csv"], 4, "Z9"),
    ],
)
def test_crops_that_cannot_be_collected(
    device: Path, kit: Kit, arguments: list[str], code: int, said: str
) -> None:
    (device / "bad.csv").write_text("slot,label\n")
    (device / "odd.csv").write_text("slot,from,until,label\nZ9,0,1,tea\n")
    options = ("--planogram", "planogram.yaml", "--out", "crops")
    assert said in kit("agent", "collect", *options, *arguments, code=code, cwd=device).stderr
    assert not (device / "crops").exists()


def test_a_good_device_is_called_good(device: Path, kit: Kit) -> None:
    assert "good" in kit("agent", "check", "--config", device / "device.yaml").stdout
    assert '"slots": 16' in kit("agent", "check", "--config", device / "device.yaml", "--json").stdout


@pytest.mark.broker
def test_a_broker_that_refuses_stops_no_agent_and_a_goodbye_is_said(
    device: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    """The agent buffers while it is refused, says so, and leaves in good order when it is told to."""
    lines = ("listener PORT 127.0.0.1", "allow_anonymous false")
    with Mosquitto(find_program("mosquitto"), tmp_path / "b", lines=lines) as broker:
        config = write_device(device, bundle_folder, port=broker.port)
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(config)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        time.sleep(6)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "authori" in said.lower()
    assert "Traceback" not in said


@pytest.mark.broker
def test_an_agent_that_is_told_to_stop_says_stopped(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port)
    with subscribed(mosquitto.address, "shelfkit/v1/+/+/health") as listener:
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(config)]
        process = subprocess.Popen(command, env=os.environ)
        assert b'"online"' in received(listener, 1, 30)[0].payload
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert b'"stopped"' in received(listener, 1)[0].payload


@pytest.mark.broker
def test_home_assistant_is_told_of_the_device_where_it_is_wanted(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port, home_assistant="true")
    with subscribed(mosquitto.address, "homeassistant/#") as listener:
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(config)]
        process = subprocess.Popen(command, env=os.environ)
        told = received(listener, 1, 30)[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert told.topic == "homeassistant/device/cam-12-01/config"
    assert b"product-tea-box" in told.payload
    with subscribed(mosquitto.address, "homeassistant/#", client_id="later") as listener:
        assert received(listener, 1)[0].payload == told.payload


def test_a_dashboard_that_cannot_be(kit: Kit, tmp_path: Path) -> None:
    url = "mqtt://127.0.0.1:1"
    assert "mqtt://host:port" in kit("dashboard", "--broker", "shop", code=2, cwd=tmp_path).stderr
    nowhere = ("--database", "sqlite:////nowhere/x")
    assert "database" in kit("dashboard", "--broker", url, *nowhere, code=8, cwd=tmp_path).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.broker
def test_a_dashboard_that_is_refused_says_so_and_ends(kit: Kit, tmp_path: Path) -> None:
    lines = ("listener PORT 127.0.0.1", "allow_anonymous false")
    with Mosquitto(find_program("mosquitto"), tmp_path / "b", lines=lines) as broker:
        options = ("--broker", broker.url, "--port", free_port())
        assert "lets the recorder in" in kit("dashboard", *options, code=8, cwd=tmp_path).stderr


@pytest.mark.broker
def test_a_port_that_is_taken_is_told(kit: Kit, mosquitto: Mosquitto, tmp_path: Path) -> None:
    options = ("--broker", mosquitto.url, "--port", mosquitto.port)
    assert "taken" in kit("dashboard", *options, code=8, cwd=tmp_path).stderr
