"""The web side: JSON, the stream, and the page in a real browser."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from dashboard.store import Store
from dashboard.web import Hub, build_app
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication
from tests.brokers import Mosquitto, free_port, subscribed
from tests.conftest import missing
from tests.dashboard.test_recorder import GOLDEN, TOPICS, event

BROWSER = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)


Get = Callable[[str], httpx.Response]


@pytest.fixture
def get(store: Store) -> Get:
    """Ask the application itself, without a server."""
    transport = httpx.ASGITransport(build_app(store, Hub(), lambda: True))

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://kit") as client:
            return await client.get(path)

    return lambda path: asyncio.run(ask(path))


def test_an_empty_store_is_no_error(get: Get) -> None:
    assert get("/api/v1/devices").json() == {"devices": [], "next": None}
    assert get("/api/v1/gaps").json() == {"gaps": [], "next": None}
    assert get("/api/events").json() == {"events": []}
    assert get("/healthz").json() == {"broker": True}


@pytest.mark.parametrize("query", ["after=x", "limit=many"])
def test_questions_that_make_no_sense(get: Get, query: str) -> None:
    assert get(f"/api/events?{query}").status_code == 400


def test_the_page_loads_nothing_from_elsewhere(get: Get) -> None:
    answer = get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for address in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
        assert get(address).status_code == 200
    assert get("/static/../store.py").status_code == 404


@pytest.fixture
def address(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[str]:
    """A dashboard as its own process, with a device's snapshot retained at the broker."""
    port = free_port()
    command = (
        "--broker",
        mosquitto.url,
        "--database",
        f"sqlite:///{tmp_path / 'd.sqlite'}",
        "--port",
        str(port),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard", *command], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) in {0, -signal.SIGTERM}
    process.stdout.close()


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The page in headless Chromium; errors on its console fail the test."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        missing("chromium", "install it, for example: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*BROWSER])
        opened = browser.new_page()
        errors: list[str] = []
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.goto(address)
        yield opened
        browser.close()
    assert errors == []


def publish_state(link: Link, **changes: object) -> None:
    state = json.loads((GOLDEN / "state.v1.json").read_text()) | changes
    link.publish(Publication(TOPICS.state, json.dumps(state).encode(), retain=True))


@pytest.mark.browser
@pytest.mark.broker
def test_a_browser_shows_the_shelf_live(mosquitto: Mosquitto, page: Page) -> None:
    with subscribed(mosquitto.address, client_id="device") as device:
        health = (GOLDEN / "health.v1.json").read_bytes()
        device.publish(Publication(TOPICS.health, health, retain=True))
        slots = {"A3": {"state": "empty", "label": "empty", "stale": False}}
        publish_state(device, slots=slots, camera={"faults": []})
        slot = page.locator('[data-slot="A3"]')
        expect(slot).to_have_class("slot empty")
        expect(page.locator('[data-product="milk-1l"]')).to_contain_text("0 of 1, out")
        expect(page.locator("#link")).to_have_text("live")
        expect(page.locator("#faults")).to_be_hidden()

        slots["A3"] |= {"state": "present", "label": "milk-1l"}
        publish_state(device, slots=slots, camera={"faults": []})
        expect(slot).to_have_class("slot present")
        expect(slot).to_contain_text("milk")

        device.publish(Publication(TOPICS.event("restocked"), event(1)))
        expect(page.locator("#events li").first).to_contain_text("restocked")

        publish_state(device, slots={"A3": slots["A3"] | {"stale": True}}, camera={"faults": ["blocked"]})
        expect(page.locator("#faults")).to_contain_text("blocked")
        expect(slot).to_have_class("slot present stale")


@pytest.mark.browser
@pytest.mark.broker
def test_the_page_says_when_the_broker_is_away_and_when_it_is_back(mosquitto: Mosquitto, page: Page) -> None:
    expect(page.locator("#link")).to_have_text("live")
    mosquitto.kill()
    expect(page.locator("#link")).to_have_text("broker away", timeout=15_000)
    mosquitto.start()
    expect(page.locator("#link")).to_have_text("live", timeout=30_000)


@pytest.mark.browser
@pytest.mark.broker
def test_words_from_the_wire_are_words_and_never_markup(mosquitto: Mosquitto, page: Page) -> None:
    evil = "<img src=x onerror=document.title='evil'>"
    with subscribed(mosquitto.address, client_id="device") as device:
        product = {"label": evil.replace("/", ""), "name": evil, "facings": 1, "filled": 0, "state": "out"}
        publish_state(device, products=[product])
        expect(page.locator("#products")).to_contain_text("onerror")
    assert page.title() == "shelfkit"


@pytest.mark.broker
def test_the_stream_goes_on_where_a_page_left_off(mosquitto: Mosquitto, address: str) -> None:
    every = DeviceTopics("+", "+")
    with subscribed(mosquitto.address, every.ack, client_id="device") as device:
        for sequence in (1, 2, 3):
            device.publish(Publication(TOPICS.event("restocked"), event(sequence)))
        end = time.monotonic() + 10
        while len(found := httpx.get(f"{address}/api/events").json()["events"]) < 3:
            assert time.monotonic() < end
            time.sleep(0.1)
    with httpx.stream(
        "GET", f"{address}/api/stream", headers={"Last-Event-ID": str(found[1]["row"])}
    ) as stream:
        lines = stream.iter_lines()
        data = next(line for line in lines if line.startswith("data:") and '"row"' in line)
    assert int(json.loads(data.removeprefix("data:"))["event"]["sequence"]) == 3
