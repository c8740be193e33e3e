"""Commands, reload and safe mode: a real agent, a real broker, an operator."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.brokers import Mosquitto, received, subscribed
from tests.conftest import find_program, write_device
from tests.edge_agent.agents import running

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]


def yaml(device: Path) -> str:
    return (device / "planogram.yaml").read_text()


def quads(state: dict[str, object]) -> dict[str, object]:
    planogram = state["planogram"]
    assert isinstance(planogram, dict)
    slots = planogram["slots"]
    assert isinstance(slots, dict)
    return slots


def without(text: str, slot: str) -> str:
    """Return a planogram without one of its slots."""
    parts = text.split("- id: ")
    assert any(part.startswith(slot) for part in parts)
    return "- id: ".join(part for part in parts if not part.startswith(slot))


def test_what_can_be_asked(mosquitto: Mosquitto, device: Path, bundle_folder: Path) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port)
    with running(mosquitto, config) as agent:
        agent.health(status="online")
        assert agent.ask("ping")["ok"]
        assert agent.ask("set-log-level", level="debug")["ok"]
        wrong = agent.ask("set-log-level", level="loud")
        assert not wrong["ok"]
        assert "level" in wrong["error"]
        assert "ping" in agent.ask("dance")["error"]
        refused = agent.ask("snapshot")
        assert not refused["ok"]
        assert "privacy.snapshots" in refused["error"]
        assert "planogram" in agent.ask("set-planogram")["error"]
        # What is no request is left out, what comes twice is done once, what is retained never.
        for payload in (b"", b"\xff\x00", b"[" * 100_000, b'{"request": 7}', b'{"request": ""}', b"null"):
            agent.tell("ping", payload)
        for _ in range(3):
            agent.tell("ping", b'{"request": "once"}')
        agent.tell("ping", b'{"request": "kept"}', retain=True)
        assert agent.replies(3) == 1 + 1  # a retained message is not retained for whoever listens already
        pid = agent.process.pid
        assert agent.ask("restart")["ok"]
        agent.health(status="stopped")
        again = agent.health(status="online")
        assert again["uptime_s"] < 30
        assert agent.process.pid == pid
        assert agent.process.poll() is None
        assert agent.replies(2) == 0, "the retained command, or the restart, was done again"
        assert agent.kill(signal.SIGTERM) == 0
    assert "Traceback" not in agent.log.read_text()


def test_pictures_leave_the_device_only_masked_and_only_where_they_may(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path
) -> None:
    privacy = "{masks: [[[0, 0], [640, 0], [640, 100], [0, 100]]], snapshots: true}"
    config = write_device(device, bundle_folder, port=mosquitto.port, privacy=privacy)
    with running(mosquitto, config) as agent:
        agent.state()
        told = agent.ask_until("snapshot", sorry=("recent",), width=640)
        assert told["ok"], told
        assert (told["width"], told["height"]) == (640, 360)
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(told["picture"]), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (360, 640, 3)
        assert picture[4:40, 4:300].max() < 20
        assert picture[100:].mean() > 30


def test_a_planogram_from_afar_holds_at_once_and_after_a_restart(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port)
    with running(mosquitto, config) as agent:
        first = agent.state()
        assert len(quads(first)) == 16
        slot = next(iter(quads(first)))
        wrong = agent.ask("set-planogram", planogram=yaml(device).replace("product: ", "product: no-", 1))
        assert not wrong["ok"]
        assert "expected one of" in wrong["error"]
        assert "planogram:" in wrong["error"], "the line is missing"
        reply = agent.ask("set-planogram", planogram=without(yaml(device), slot))
        assert reply["ok"], reply
        changed = agent.state(lambda state: len(quads(state)) == 15)
        assert changed["planogram"]["sha256"] == reply["planogram"]
        agent.kill()
        agent.again()
        assert agent.state(lambda state: state["last"] > changed["last"])["planogram"] == changed["planogram"]
        # Its own picture may come with it.
        picture = cv2.imread(str(device / "reference.jpg"))
        assert picture is not None
        _, data = cv2.imencode(".png", picture)
        sent = base64.b64encode(data.tobytes()).decode()
        assert agent.ask("set-planogram", planogram=yaml(device), reference=sent)["ok"]
        agent.state(lambda state: len(quads(state)) == 16)
        for bad in (base64.b64encode(b"no picture").decode(), sent[:2000], "%%%"):
            assert not agent.ask("set-planogram", planogram=yaml(device), reference=bad)["ok"]
        # Whoever changes the file on the device has the last word.
        (device / "planogram.yaml").write_text(without(yaml(device), slot))
        assert agent.ask("reload")["ok"]
        agent.state(lambda state: len(quads(state)) == 15)
        assert [kind for kind, _ in agent.said if kind == "event/out-of-stock"] == []


def test_the_reference_can_be_taken_anew(mosquitto: Mosquitto, device: Path, bundle_folder: Path) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port)
    with running(mosquitto, config) as agent:
        before = agent.state()
        reply = agent.ask_until("recalibrate", sorry=("recent", "moves"))
        assert reply["ok"], reply
        after = agent.state(lambda state: state["planogram"]["sha256"] == reply["planogram"])
        assert after["planogram"]["sha256"] != before["planogram"]["sha256"]
        for slot, quad in quads(after).items():
            assert np.abs(np.array(quad) - np.array(quads(before)[slot])).max() < 4


def test_another_configuration_holds_as_a_whole_or_not_at_all(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port)
    with running(mosquitto, config) as agent:
        agent.state()
        good = config.read_text()
        config.write_text(good.replace("confirm_s: 1.2", "confirm_s: -1"))
        refused = agent.ask("reload")
        assert not refused["ok"]
        assert "rules.confirm_s" in refused["error"]
        agent.process.send_signal(signal.SIGHUP)
        assert agent.ask("ping")["ok"]
        config.write_text(good.replace("fps: 5", "fps: 2").replace("confirm_s: 1.2", "confirm_s: 2"))
        agent.process.send_signal(signal.SIGHUP)
        agent.state()
        with Mosquitto(find_program("mosquitto"), tmp_path / "other") as other:
            write_device(device, bundle_folder, port=other.port)
            assert agent.ask("reload")["ok"]
            agent.health(status="stopped")
            with subscribed(other.address, "shelfkit/v1/+/+/health", client_id="elsewhere") as link:
                assert b'"online"' in received(link, 1, 30)[0].payload
            assert agent.process.poll() is None
        assert "Traceback" not in agent.log.read_text()


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: text.replace("confirm_s: 1.2", "confirm_s: soon"),
        lambda text: text.replace("planogram: planogram.yaml", "planogram: nowhere.yaml"),
        lambda text: text + "\n  : [ {",
        lambda _: "",
    ],
    ids=["a value", "a file that is not there", "no YAML", "nothing"],
)
def test_a_broken_configuration_leaves_a_device_that_says_why(
    mosquitto: Mosquitto,
    device: Path,
    bundle_folder: Path,
    broken: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(device / "state"))
    config = write_device(device, bundle_folder, port=mosquitto.port)
    good = config.read_text()
    with running(mosquitto, config) as agent:
        agent.state()
        agent.kill(signal.SIGTERM)
        config.write_text(broken(good))
        agent.replies(1)  # what the first life said is heard by now
        agent.said.clear()
        agent.again()
        why = agent.hear(lambda leaf, value: leaf == "health" and "safe_mode" in value, "safe mode")[
            "safe_mode"
        ]
        assert why
        assert agent.ask("ping")["safe_mode"] == why
        assert "safe mode" in agent.ask("snapshot")["error"]
        assert not agent.ask("reload")["ok"]
        assert not any(leaf.startswith("event/") for leaf, _ in agent.said)
        config.write_text(good)
        assert agent.ask("reload")["ok"]
        agent.hear(
            lambda leaf, value: leaf == "health" and value["status"] == "online" and "safe_mode" not in value,
            "health",
        )
        assert agent.kill(signal.SIGTERM) == 0
    assert "Traceback" not in agent.log.read_text()


def test_a_broken_planogram_is_mended_from_afar(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port)
    good = yaml(device)
    with running(mosquitto, config) as agent:
        agent.state()
        agent.kill()
        (device / "planogram.yaml").write_text("shelf: [")
        agent.again()
        agent.hear(lambda leaf, value: leaf == "health" and "safe_mode" in value, "safe mode")
        sent = base64.b64encode((device / "reference.jpg").read_bytes()).decode()
        assert "reference picture" in agent.ask("set-planogram", planogram=good)["error"]
        assert agent.ask("set-planogram", planogram=good, reference=sent)["ok"]
        assert len(quads(agent.state())) == 16


def test_without_a_last_good_configuration_it_ends(device: Path, bundle_folder: Path) -> None:
    config = write_device(device, bundle_folder)
    config.write_text(config.read_text().replace("confirm_s: 1.2", "confirm_s: soon"))
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "run", "--config", str(config)],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "rules.confirm_s" in done.stderr
    assert not (device / "state").exists()


@pytest.mark.slow
def test_a_flood_of_commands_stops_nothing(mosquitto: Mosquitto, device: Path, bundle_folder: Path) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port)
    with running(mosquitto, config) as agent:
        agent.state()
        before = memory_mb(agent.process.pid)
        large = json.dumps({"request": "large", "planogram": "x" * 4_000_000}).encode()
        for number in range(4000):
            agent.tell("ping", b'{"request": "%d"}' % number if number % 2 else b"}{")
        for _ in range(8):
            agent.tell("set-planogram", large)
        assert agent.ask_again("ping")["ok"]
        assert agent.health(status="online")["camera_age_s"] < 5
        assert memory_mb(agent.process.pid) < before + 150
    assert "Traceback" not in agent.log.read_text()


def memory_mb(pid: int) -> float:
    """Return how much memory a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
