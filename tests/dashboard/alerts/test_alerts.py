"""From a device to whoever is told, with a real recorder, broker, HTTP and SMTP; and the command line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from playwright.sync_api import expect
from typer.testing import CliRunner

from dashboard.__main__ import app as command
from dashboard.alerts.book import Book
from dashboard.alerts.channels import KEY_PREFIX
from dashboard.store import Store
from edge_agent.contracts.errors import KitError, ServiceError, UsageError
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link
from tests.brokers import Mosquitto, free_port, received, subscribed
from tests.dashboard.alerts.ears import Hook, Letterbox, letterbox, until
from tests.dashboard.alerts.files import KEY
from tests.dashboard.conftest import Opener
from tests.dashboard.pages import Dashboard, health, moment, open_shop, publish, snapshot

DEVICE = DeviceTopics("0417", "cam-12-01")
OATS = {"label": "oat-drink", "name": "Oat drink", "facings": 2, "filled": 0}


def file(folder: Path, hook: Hook, box: Letterbox, broker: Mosquitto) -> Path:
    """Write rules that look each second, to three channels."""
    folder.mkdir(exist_ok=True)
    (folder / "webhook.key").write_text(KEY)
    path = folder / "alerts.yaml"
    path.write_text(f"""
every: 1s
settle: 1s
channels:
  till: {{webhook: {{url: "{hook.url}", key: {{file: webhook.key}}}}}}
  crew: {{mail: {{host: 127.0.0.1, port: {box.port}, tls: none, sender: kit@a.example, to: mei@a.example}}}}
  bus: {{mqtt: {{broker: "{broker.url}"}}}}
rules:
  - {{name: empty, kind: out-of-stock, products: oat-drink, to: [till, crew, bus]}}
  - {{name: cut, kind: device-offline, to: till}}
""")
    return path


def stocked(link: Link, level: str) -> None:
    product = OATS | {"state": level, "since": moment(60), "filled": 0 if level == "out" else 2}
    publish(link, DEVICE.state, snapshot(products=[product], slots={}, camera={"faults": []}))


def spoken(bus: Link, ending: str) -> str:
    """Return the first id on the broker that ends so: what was under way may have come twice."""
    while True:
        (heard,) = received(bus, 1, 30)
        identity = str(json.loads(heard.payload)["id"])
        if identity.endswith(ending):
            return identity


def letters(box: Letterbox) -> dict[str, str]:
    """Return the subjects of letters by their id: what was under way may have come twice."""
    return {letter["message-id"]: letter["subject"] for _, letter in box.letters}


@pytest.mark.broker
def test_it_is_told_once_whatever_dies(mosquitto: Mosquitto, tmp_path: Path) -> None:
    topics = DeviceTopics("+", "+").alert("+")
    with (
        Hook() as hook,
        letterbox() as box,
        subscribed(mosquitto.address, topics, client_id="till") as bus,
        subscribed(mosquitto.address, client_id="device") as device,
    ):
        rules = file(tmp_path / "rules", hook, box, mosquitto)
        shop = Dashboard(mosquitto, tmp_path / "shop", "--no-login", "--alerts", str(rules))
        # The first answers of the till are none: it has to be asked again.
        hook.answers = [500, 500]
        publish(device, DEVICE.health, health())
        stocked(device, "out")
        shop.start()
        hook.wait(1)
        heard = spoken(bus, ".opened")
        until(lambda: len(box.letters) == 1)
        shop.end(signal.SIGKILL)
        shop.start()
        hook.wait(3)
        stocked(device, "ok")
        again = spoken(bus, ".resolved")
        until(lambda: len(letters(box)) == 2)
        hook.wait(4)
        publish(device, DEVICE.health, {"status": "offline"})
        hook.wait(5)
        assert shop.end() in {0, -signal.SIGTERM}
    ids = [asked.headers["webhook-id"] for asked in hook.asked]
    opened, closed, cut = dict.fromkeys(ids)
    assert ids == [opened] * 3 + [closed, cut]
    assert (heard, again) == (opened, closed)
    assert closed == opened.replace(".opened", ".resolved")
    assert [subject.split(":")[0] for subject in letters(box).values()] == ["Alert", "Over"]
    store = Store(shop.database)
    assert sorted((row["channel"], row["state"]) for row in Book(store.engine).deliveries(0, 9)) == [
        ("bus", "sent"),
        ("bus", "sent"),
        ("crew", "sent"),
        ("crew", "sent"),
        ("till", "sent"),
        ("till", "sent"),
        ("till", "sent"),
    ]
    store.close()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
def test_somebody_takes_an_alert_and_mutes_the_rest_by_keys_alone(
    mosquitto: Mosquitto, tmp_path: Path, opened: Opener
) -> None:
    with Hook() as hook, subscribed(mosquitto.address, client_id="device") as device:
        rules = file(tmp_path / "rules", hook, Letterbox(1), mosquitto)
        rules.write_text(rules.read_text().replace("products: oat-drink, to: [till, crew, bus]", "to: till"))
        with Dashboard(mosquitto, tmp_path / "shop", "--no-login", "--alerts", str(rules)) as shop:
            open_shop(device)
            hook.wait(2)
            page = opened(f"{shop.address}/alerts", phone=True)
            expect(page.locator(".alerts > li")).to_have_count(2)
            expect(page.locator("h2").first).to_have_text("Open now: 2")
            width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert width <= 0, f"{width} px too wide"
            take = page.get_by_role("button", name="I take care: Out of stock: Milk 1 l")
            take.focus()
            page.keyboard.press("Enter")
            expect(page.locator(".alerts .pill.good")).to_contain_text("local")
            page.get_by_role("link", name="Mute: Device away").focus()
            page.keyboard.press("Enter")
            expect(page.locator("#mute-device")).to_have_value("cam-13-01")
            page.locator("#mute-hours").focus()
            page.keyboard.press("ArrowUp")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            expect(page.locator("#main")).to_contain_text("0417 · cam-13-01 · cut")
            expect(page.locator(".alerts .pill.low")).to_have_count(1)
            page.get_by_role("link", name="Deliveries").click()
            expect(page.locator("#log tbody tr")).to_have_count(2)
            page.go_back()
            publish(device, DeviceTopics("0417", "cam-13-01").health, health())
            # The page follows by itself.
            expect(page.locator(".alerts > li")).to_have_count(1, timeout=30_000)
    assert len(hook.asked) == 2, "of what is muted not even the end is told"


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(command, ["alerts", *arguments])
    if isinstance(done.exception, KitError):
        raise done.exception
    return done


def test_a_file_is_checked_and_tried(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with (
        Hook() as hook,
        letterbox() as box,
        subscribed(mosquitto.address, DeviceTopics("0418", "test").alert("+")) as bus,
    ):
        rules = str(file(tmp_path, hook, box, mosquitto))
        assert "2 rules, channels: 1 mail, 1 mqtt, 1 webhook" in run("check", rules).output
        found: dict[str, Any] = json.loads(run("check", rules, "--json").output)
        assert found == {
            "channels": {"bus": "mqtt", "crew": "mail", "till": "webhook"},
            "rules": ["empty", "cut"],
        }
        done = run("test", rules, "empty", "--store", "0418")
        assert done.output.splitlines() == [
            "till: sent: HTTP 204",
            "crew: sent: taken for 1",
            "bus: sent: taken",
        ]
        (heard,) = received(bus, 1)
        body = json.loads(heard.payload)
        assert body["type"] == "shelfkit.alert.test.v1"
        assert [asked.headers["webhook-id"] for asked in hook.asked] == [body["id"]]
        assert box.letters[0][1]["subject"].startswith("Test, nothing is wrong: Out of stock: oat-drink")
        run("test", rules, "cut")
        assert hook.asked[1].headers["webhook-id"] != body["id"]
        hook.answers = [404]
        with pytest.raises(ServiceError, match="a no from till"):
            run("test", rules, "cut", "--json")
        with pytest.raises(UsageError, match="one of the rules empty, cut"):
            run("test", rules, "none")
    rules_text = Path(rules).read_text().replace("kind: device-offline", "kind: device-of-line")
    Path(rules).write_text(rules_text)
    with pytest.raises(KitError, match=r"alerts\.yaml:10  rules\[1\]\.kind"):
        run("check", rules)
    assert KEY_PREFIX not in rules_text


GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "alerts.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_rules_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, bus = blocks("yaml")
    (tmp_path / "webhook.key").write_text(KEY)
    (tmp_path / "alerts.yaml").write_text(text)
    monkeypatch.setenv("MAIL_PASSWORD", "x")
    assert "5 rules" in run("check", str(tmp_path / "alerts.yaml")).output
    (tmp_path / "alerts.yaml").write_text(f"{bus}rules: [{{name: a, kind: low-stock, to: bus}}]\n")
    assert "1 mqtt" in run("check", str(tmp_path / "alerts.yaml")).output


def test_the_receiver_of_the_guide_knows_who_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    assert sum(bool(line.strip()) for line in code.splitlines()) < 20
    port = str(free_port())
    (tmp_path / "receiver.py").write_text(code.replace("8081", port))
    (tmp_path / "webhook.key").write_text(KEY)
    monkeypatch.setenv("MAIL_PASSWORD", "x")
    rules = tmp_path / "alerts.yaml"
    text = blocks("yaml")[0].replace("8081", port)
    rules.write_text(text.replace("to: [till, crew]", "to: till"))
    command_ = [sys.executable, str(tmp_path / "receiver.py")]
    receiver = subprocess.Popen(command_, stdout=subprocess.PIPE, text=True, env=os.environ | {"KEY": KEY})
    try:
        until(lambda: listens(int(port)))
        assert run("test", str(rules), "empty").output == "till: sent: HTTP 204\n"
        (tmp_path / "webhook.key").write_text(KEY.replace("AAEC", "AQEC"))
        with pytest.raises(ServiceError, match="a no from till"):
            run("test", str(rules), "empty")
        (tmp_path / "webhook.key").write_text(f"{KEY.replace('AAEC', 'AQEC')}\n{KEY}")
        assert run("test", str(rules), "empty").output == "till: sent: HTTP 204\n"
    finally:
        receiver.kill()
        said, _ = receiver.communicate()
    assert len(said.splitlines()) == 2
    assert said.startswith("test-")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_log_by_the_command_line(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'd.sqlite'}"
    assert run("log", "--database", database).output == ""
    assert json.loads(run("log", "--database", database, "--json").output) == {"deliveries": []}


@pytest.mark.broker
def test_wrong_rules_end_a_recorder_before_it_begins(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text("rules: []\n")
    done = CliRunner().invoke(
        command, ["--broker", mosquitto.url, "--alerts", str(tmp_path / "alerts.yaml"), "--port", "0"]
    )
    assert isinstance(done.exception, KitError)
    assert "2 problems" in str(done.exception)
