"""The pages in a real browser, fed by a real recorder through a real broker."""

import asyncio
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from dashboard.pages import assets, language
from dashboard.queries import Queries
from dashboard.store import Store
from dashboard.web import Hub, build_app
from edge_agent.mqtt import Publication
from tests.brokers import Mosquitto, subscribed
from tests.dashboard.conftest import Opener
from tests.dashboard.pages import Dashboard, arrived, health, moment, open_shop, publish, snapshot
from tests.dashboard.test_recorder import TOPICS, event

Get = Callable[[str], httpx.Response]


@pytest.fixture
def get(store: Store) -> Get:
    """Ask the application itself, without a server."""
    transport = httpx.ASGITransport(build_app(store, Hub(), lambda: True), raise_app_exceptions=False)

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://kit") as client:
            return await client.get(path)

    return lambda path: asyncio.run(ask(path))


def test_an_empty_store_is_no_error(get: Get) -> None:
    assert get("/api/v1/devices").json() == {"devices": [], "next": None}
    assert get("/api/v1/gaps").json() == {"gaps": [], "next": None}
    assert get("/api/v1/events").json()["events"] == []
    assert get("/healthz").json() == {"broker": True}
    assert "No device has reported yet" in get("/").text
    assert "Devices: 0" in get("/fleet").text


def test_the_page_loads_nothing_from_elsewhere(get: Get) -> None:
    answer = get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text)
    assert len(addresses) >= 3
    assert all(get(address).status_code == 200 for address in addresses)


def test_what_a_page_loads_stays_what_it_is_for_ever(get: Get) -> None:
    style = f"/static/{assets.version()}/style.css"
    answer = get(style)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"
    assert "--card" in answer.text
    for outside in (
        "/static/0123456789abcdef/style.css",
        style.replace("style.css", "../store.py"),
        style.replace("style.css", "%2e%2e/store.py"),
        style.replace("style.css", "..%2fstore.py"),
        style.replace("style.css", ""),
        "/static//etc/passwd",
    ):
        assert get(outside).status_code == 404


def test_a_page_asks_for_all_its_modules_at_once() -> None:
    folder = Path(assets.__file__).parents[1] / "static"
    for script in folder.glob("*.js"):
        imported = set(re.findall(r'from "\./([\w-]+\.js)"', script.read_text()))
        assert imported <= set(assets.needed(script.name))
    assert set(assets.needed("refresh.js")) == {"live.js", "words.js"}


@pytest.fixture
def shop(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard without log-in."""
    with Dashboard(mosquitto, tmp_path, "--no-login") as dashboard:
        yield dashboard


@pytest.fixture
def page(shop: Dashboard, mosquitto: Mosquitto, opened: Opener) -> Page:
    """The page of a store in which one device has said what it sees."""
    with subscribed(mosquitto.address, client_id="first") as device:
        publish(device, TOPICS.health, health())
        publish(device, TOPICS.state, snapshot(camera={"faults": []}))
        arrived_devices(shop)
    page = opened(f"{shop.address}/stores/0417")
    expect(page.locator("#link")).to_have_text("live")
    return page


def arrived_devices(shop: Dashboard) -> None:
    answer: httpx.Response | None = None
    for _ in range(200):
        answer = httpx.get(f"{shop.address}/api/v1/stores/0417/products")
        if answer.status_code == 200 and answer.json()["products"]:
            return
        httpx.get(f"{shop.address}/healthz")
    raise AssertionError(answer)


@pytest.mark.browser
@pytest.mark.broker
def test_a_browser_shows_the_shelf_live(mosquitto: Mosquitto, page: Page) -> None:
    with subscribed(mosquitto.address, client_id="device") as device:
        slots = {"A3": {"state": "empty", "label": "empty", "stale": False}}
        publish(device, TOPICS.state, snapshot(slots=slots, camera={"faults": []}))
        slot = page.locator('#shelves [data-slot="A3"]')
        expect(slot).to_have_class("slot empty")
        expect(slot).to_contain_text("empty")
        expect(page.locator('[data-task="milk-1l"]')).to_contain_text("out of stock")
        expect(page.locator('[data-product="milk-1l"]')).to_contain_text("0 of 1")
        expect(page.locator(".alarm")).to_be_hidden()

        slots["A3"] |= {"state": "present", "label": "milk-1l"}
        product = {"label": "milk-1l", "name": "Milk 1 l", "facings": 1, "filled": 1, "state": "ok"}
        publish(device, TOPICS.state, snapshot(slots=slots, camera={"faults": []}, products=[product]))
        expect(slot).to_have_class("slot present")
        expect(slot).to_contain_text("Milk")
        expect(page.locator("#nothing")).to_have_text("Nothing is missing.")

        device.publish(Publication(TOPICS.event("restocked"), event(1)))
        expect(page.locator("#events li").first).to_contain_text("restocked")

        stale = {"A3": slots["A3"] | {"stale": True}}
        publish(device, TOPICS.state, snapshot(slots=stale, camera={"faults": ["blocked"]}))
        expect(page.locator(".alarm")).to_contain_text("Something stands before the camera.")
        expect(slot).to_have_class("slot present stale")
        publish(device, TOPICS.health, {"status": "offline"})
        expect(page.locator(".alarm")).to_contain_text("The device is cut off.")


@pytest.mark.browser
@pytest.mark.broker
def test_a_device_that_says_nothing_for_a_while_is_no_longer_trusted(
    mosquitto: Mosquitto, shop: Dashboard, page: Page
) -> None:
    """It hangs, and its connection stands: its status is online all the time."""
    expect(page.locator(".alarm")).not_to_contain_text("nothing")
    engine = sa.create_engine(shop.database)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE device SET heard = :then"), {"then": moment(240)})
    engine.dispose()
    page.reload()
    expect(page.locator(".alarm")).to_contain_text("The device has said nothing for a while.")
    expect(page.locator("[data-device]")).to_have_class("shelf doubtful")
    with subscribed(mosquitto.address, client_id="device") as device:
        publish(device, TOPICS.health, health())
        expect(page.locator(".alarm")).not_to_contain_text("nothing")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
def test_the_page_says_when_the_broker_is_away_and_when_it_is_back(mosquitto: Mosquitto, page: Page) -> None:
    mosquitto.kill()
    expect(page.locator("#link")).to_contain_text("broker away", timeout=15_000)
    mosquitto.start()
    expect(page.locator("#link")).to_have_text("live", timeout=30_000)


@pytest.mark.browser
@pytest.mark.broker
def test_the_page_recovers_by_itself_after_the_server_was_killed(
    mosquitto: Mosquitto, shop: Dashboard, page: Page, opened: Opener
) -> None:
    home = opened(f"{shop.address}/")
    shop.end(signal.SIGKILL)
    expect(page.locator("#link")).to_contain_text("trying again", timeout=15_000)
    home.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(home.locator("#link")).to_contain_text("trying again")
    shop.start()
    expect(page.locator("#link")).to_have_text("live", timeout=30_000)
    home.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(home.locator("#link")).to_be_hidden()
    with subscribed(mosquitto.address, client_id="device") as device:
        slots = {"A3": {"state": "misplaced", "label": "oat-drink", "stale": False}}
        publish(device, TOPICS.state, snapshot(slots=slots, camera={"faults": []}))
        expect(page.locator('#shelves [data-slot="A3"]')).to_have_class("slot misplaced")
    # What a browser says about a server that is away is what this test is about.
    assert all("ERR_" in text for text in opened.errors)
    opened.errors.clear()


@pytest.mark.browser
@pytest.mark.broker
def test_a_proxy_that_answers_for_a_dead_server_does_not_end_the_page(page: Page, opened: Opener) -> None:
    page.route("**/live", lambda route: route.fulfill(status=502, body="bad gateway"))
    page.reload()
    expect(page.locator("#link")).to_contain_text("trying again")
    page.unroute("**/live")
    expect(page.locator("#link")).to_have_text("live", timeout=15_000)
    assert all("502" in text for text in opened.errors)
    opened.errors.clear()


@pytest.mark.browser
@pytest.mark.broker
def test_words_from_the_wire_are_words_and_never_markup(
    mosquitto: Mosquitto, shop: Dashboard, opened: Opener
) -> None:
    """Through every field that a device may fill as it likes."""
    evil = "<img src=x onerror=document.title='evil'>{{977*977}}</script>\"'"
    label = evil.replace("/", "")
    with subscribed(mosquitto.address, client_id="device") as device:
        product = {"label": label, "name": evil, "facings": 1, "filled": 0, "state": "out"}
        model = {"name": evil, "version": evil, "sha256": "ab" * 32}
        slots = {"A3": {"state": "misplaced", "label": label, "stale": False}}
        publish(device, TOPICS.state, snapshot(products=[product], model=model, slots=slots))
        versions = {"agent": evil, "model": evil}
        publish(device, TOPICS.health, health(versions=versions, safe_mode=evil))
        body = json.loads(event(1))
        body["data"] |= {"label": label, "product": {"label": label, "name": evil}, "model": model}
        device.publish(Publication(TOPICS.event("restocked"), json.dumps(body).encode()))
        body = json.loads(event(2)) | {"type": f"shelfkit.product.{label}.v1", "subject": evil, "time": evil}
        device.publish(Publication(TOPICS.event("new"), json.dumps(body).encode()))
        arrived(shop.address, 2)
    page = opened(f"{shop.address}/stores/0417")
    expect(page.locator("[data-product]")).to_contain_text("onerror")
    expect(page.locator("#events li")).to_have_count(2)
    page.locator("[data-product] a").click()
    expect(page.locator("h1")).to_contain_text("onerror")
    for place in ("/fleet", "/stores/0417/availability", "/stores/0417/devices/cam-12-01/slots/A3", "/"):
        page.goto(shop.address + place)
        assert "evil" not in page.title().split("·", maxsplit=1)[0]
        assert page.locator("img[src=x]").count() == 0
        assert "954529" not in page.locator("main").inner_text()
    page.goto(
        f"{shop.address}/fleet?text={'%3Cscript%3E'}&store=%22%3E%3Cb%3E&sort=x&page=999999999999999999999"
    )
    assert page.locator("main b, main script").count() == 0


PLACES = (
    "/",
    "/stores/0417",
    "/stores/0417/settings",
    "/stores/0417/availability?days=28",
    "/stores/0417/products/milk-1l",
    "/stores/0417/devices/cam-12-01/slots/A3",
    "/stores/0417/devices/cam-12-01/planogram",
    "/labels",
    "/fleet",
    "/alerts",
    "/alerts/log",
    "/admin/accounts",
    "/admin/audit",
    "/nowhere",
)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
def test_every_page_in_both_languages_on_a_phone_and_on_a_desk(
    mosquitto: Mosquitto, shop: Dashboard, opened: Opener
) -> None:
    """At a glance, without log-in; `test_proof` looks at each of them closely, as each role."""
    with subscribed(mosquitto.address, client_id="device") as device:
        open_shop(device)
        arrived(shop.address, 4)
    words = language.catalogues()["en"].words
    for phone, code in ((True, "zh"), (False, "en")):
        page = opened(shop.address, phone=phone, language=code)
        for place in PLACES:
            page.goto(shop.address + place)
            expect(page.locator("html")).to_have_attribute("lang", code)
            expect(page.locator("h1")).to_have_count(1)
            if place == "/stores/0417":
                expect(page.locator("#tasks li")).to_have_count(6)
            width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert width <= 0, f"{place} is {width} px too wide"
            if code == "zh":
                heard = page.locator("main").inner_text()
                # Sentences of the other language; single words also come from devices.
                assert [
                    text for text in words.values() if len(text) > 12 and "{" not in text and text in heard
                ] == []
    assert all("404" in text for text in opened.errors), "of the page that is not there"
    opened.errors.clear()


@pytest.mark.browser
@pytest.mark.broker
def test_what_to_refill_comes_by_its_urgency_and_can_be_printed(
    mosquitto: Mosquitto, shop: Dashboard, opened: Opener
) -> None:
    with subscribed(mosquitto.address, client_id="device") as device:
        open_shop(device)
        arrived(shop.address, 4)
    page = opened(f"{shop.address}/stores/0417")
    tasks = page.locator("#tasks li")
    expect(tasks).to_have_count(6)
    expect(tasks.nth(0)).to_contain_text("Milk 1 l")
    expect(tasks.nth(1)).to_contain_text("Oat drink")
    expect(tasks.nth(2)).to_contain_text("Put away: Oat drink")
    expect(page.locator("#counts")).to_contain_text("out of stock: 1")
    page.evaluate("window.print = () => document.body.dataset.printed = 'yes'")
    page.get_by_role("button", name="Print the list").click()
    expect(page.locator("body")).to_have_attribute("data-printed", "yes")
    page.emulate_media(media="print")
    expect(page.locator("#tasks li").nth(0)).to_be_visible()
    for gone in ("header", "#log", "#shelves"):
        expect(page.locator(gone)).to_be_hidden()


@pytest.mark.browser
@pytest.mark.broker
def test_a_keyboard_is_enough(mosquitto: Mosquitto, shop: Dashboard, opened: Opener) -> None:
    with subscribed(mosquitto.address, client_id="device") as device:
        open_shop(device)
        arrived(shop.address, 4)
    page = opened(f"{shop.address}/")
    press(page, "Skip to the content")
    assert page.evaluate("document.activeElement.id") == "main"
    press(page, "Store 0417")
    page.wait_for_url("**/stores/0417")
    expect(page.locator("#tasks li")).to_have_count(6)
    press(page, "Settings")
    press(page, "中文")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.wait_for_url("**/stores/0417")
    press(page, "设置")
    expect(page.locator(".menu > div")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".menu > div")).to_be_hidden()
    press(page, "Milk 1 l")
    page.wait_for_url("**/products/milk-1l")


def press(page: Page, text: str) -> None:
    """Go on with Tab until something with this text has the focus, and press Enter."""
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate("document.activeElement.innerText ?? ''")
        if here.strip().endswith(text):
            page.keyboard.press("Enter")
            return
    raise AssertionError(text)


@pytest.mark.browser
@pytest.mark.broker
def test_under_a_path_of_a_proxy_and_by_the_clock_of_the_store(
    mosquitto: Mosquitto, tmp_path: Path, opened: Opener
) -> None:
    with (
        Dashboard(mosquitto, tmp_path, "--no-login", "--root-path", "/shelf") as shop,
        subscribed(mosquitto.address, client_id="device") as device,
    ):
        open_shop(device)
        arrived(f"{shop.address}/shelf", 4)
        assert httpx.get(f"{shop.address}/stores/0417").status_code == 200, "a proxy may take the path away"
        page = opened(f"{shop.address}/shelf/")
        page.get_by_role("link", name="Store 0417").click()
        expect(page.locator("#link")).to_have_text("live")
        before = page.locator("#events time").first.inner_text()
        page.get_by_role("link", name="Store settings").click()
        page.get_by_label("Name").fill("Bahnhofstrasse")
        page.get_by_label("Time zone").fill("Asia/Kathmandu")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**/shelf/stores/0417")
        expect(page.locator("h1")).to_have_text("Bahnhofstrasse")
        after = page.locator("#events time").first.inner_text()
        minutes = [int(text[:2]) * 60 + int(text[3:5]) for text in (before, after)]
        assert (minutes[1] - minutes[0]) % 1440 == 5 * 60 + 45
        page.get_by_role("link", name="Store settings").click()
        page.get_by_label("Time zone").fill("../../etc/passwd")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_contain_text("Expected: a zone")
        assert "400" in opened.errors.pop()


@pytest.mark.broker
def test_a_stream_tells_everything_once_and_then_what_changes(mosquitto: Mosquitto, shop: Dashboard) -> None:
    with subscribed(mosquitto.address, client_id="device") as device:
        publish(device, TOPICS.state, snapshot())
        publish(device, TOPICS.health, health())
        device.publish(Publication(TOPICS.event("restocked"), event(1)))
        arrived(shop.address, 1)
        with httpx.stream("GET", f"{shop.address}/stores/0417/live") as stream:
            told = messages(stream)
            first = [next(told) for _ in range(4)]
            assert [kind for kind, _ in first] == ["begin", "device", "event", "link"]
            assert first[0][1] == {"devices": ["cam-12-01"]}
            assert first[1][1]["state"] == snapshot()
            seen = snapshot()["slots"]
            name = next(iter(seen))
            publish(device, TOPICS.state, snapshot(slots=seen | {name: {**seen[name], "confidence": 0.5}}))
            kind, change = next(told)
            assert change.pop("heard").endswith("Z"), "by the recorder's clock"
            assert kind == "change"
            assert change == {"device": "cam-12-01", "state": {"slots": {name: {"confidence": 0.5}}}}


def messages(stream: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yield what a stream tells: of what kind, and what."""
    kind = ""
    for line in stream.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def test_what_nobody_foresaw_is_a_page_of_ours(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_queries: object) -> None:
        message = "of no kind that anybody foresaw"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(Queries, "overview", fails)
    monkeypatch.setattr(Queries, "stores", fails)
    page = get("/")
    assert (page.status_code, page.headers["x-frame-options"]) == (500, "DENY")
    assert "Something went wrong." in page.text
    answer = get("/api/v1/stores")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
