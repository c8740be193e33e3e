"""The planogram editor: drafts, what is refused, and a browser that changes a real agent's planogram."""

import contextlib
import json
import re
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from playwright.sync_api import Dialog, Page, expect

from dashboard.editor import draft as drafts
from dashboard.editor import reference
from dashboard.editor.draft import Draft, DraftProduct, DraftSlot
from dashboard.operator import Operator
from edge_agent.contracts import planogram
from edge_agent.contracts.errors import DataError, DeviceError, ServiceError
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication
from tests.brokers import Mosquitto, received, subscribed
from tests.conftest import write_device
from tests.dashboard.conftest import Opener
from tests.dashboard.pages import Dashboard, Visitor, arrived, hidden, open_shop, publish, snapshot
from tests.dashboard.test_accounts import House
from tests.edge_agent.agents import running
from tests.shops import wait_until

HERE = "/stores/0417/devices/cam-12-01/planogram"


def picture(kind: str = ".jpg", width: int = 640, height: int = 480) -> bytes:
    rows = np.linspace(0, 255, width, dtype=np.uint8)
    _, data = cv2.imencode(kind, cv2.merge([np.tile(rows, (height, 1))] * 3))
    return data.tobytes()


def with_exif(data: bytes, orientation: int) -> bytes:
    """Return a JPEG with an orientation, and a place where somebody lives."""
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, orientation)
    body = b"Exif\x00\x00" + tiff + b"\x00" * 4 + b"GPS 47.37 8.54"
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that claims to be huge."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


QUAD = ((10.0, 10.0), (110.0, 10.0), (110.0, 200.0), (10.0, 200.0))
FINE = Draft(
    shelf="12",
    products=[DraftProduct(label="milk-1l", name="Milk", gtin="9506000134352", low_at=1)],
    slots=[DraftSlot(id="A1", quad=QUAD, product="milk-1l")],
    width=640,
    height=480,
)


def test_a_draft_becomes_the_yaml_of_the_contract(tmp_path: Path) -> None:
    problems, text = drafts.checked(FINE, picture())
    assert problems == []
    (tmp_path / "reference.jpg").write_bytes(picture())
    (tmp_path / "planogram.yaml").write_text(text)
    shelf = planogram.read(tmp_path / "planogram.yaml").require()
    assert shelf.products[0].gtin == "09506000134352"
    assert shelf.slots[0].quad == QUAD
    again = drafts.opened(text, (640, 480))
    assert again.slots == FINE.slots


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"products": [{"label": "milk-1l", "name": "M", "gtin": "9506000134353"}]}, ("products", 0, "gtin")),
        ({"slots": [{"id": "A 1", "quad": QUAD, "product": "milk-1l"}]}, ("slots", 0, "id")),
        ({"slots": [{"id": "A1", "quad": QUAD[::-1], "product": "milk-1l"}]}, ("slots", 0, "quad")),
        ({"slots": [{"id": "A1", "quad": QUAD, "product": "tea"}]}, ("slots", 0, "product")),
        ({"slots": []}, (None, None, "slots")),
        ({"shelf": "../x"}, (None, None, "shelf")),
        ({"shelf": "\x7f"}, (None, None, "")),
        ({"width": 100}, ("slots", 0, "quad")),
    ],
)
def test_each_problem_stands_at_its_place(change: dict[str, Any], place: tuple[Any, ...]) -> None:
    problems, text = drafts.checked(Draft.model_validate(FINE.model_dump() | change), None)
    assert text == ""
    assert place in [(one["list"], one["index"], one["field"]) for one in problems], problems


def test_two_slots_of_one_name_are_both_told() -> None:
    twice = FINE.model_copy(
        update={"slots": [FINE.slots[0], FINE.slots[0].model_copy(update={"product": "x"})]}
    )
    found, _ = drafts.checked(twice, None)
    assert [(one["index"], one["field"]) for one in found] == [(1, "id"), (1, "product")]


def test_nothing_but_pixels_of_a_picture_is_kept() -> None:
    cleaned = reference.cleaned(with_exif(picture(), 6))
    assert b"Exif" not in cleaned
    assert b"GPS" not in cleaned
    shown = cv2.imdecode(np.frombuffer(cleaned, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (640, 480, 3), "upright, as its EXIF said"


BAD = {
    "nothing": b"",
    "text": b"<script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "gif": b"GIF89a" + bytes(20),
    "cut short": picture()[:2000],
    "bomb": bomb(60_000, 60_000),
    "long": bomb(100, 9000),
    "tiny": picture(width=8, height=8),
    "no pixels": bomb(640, 480),
    "webp": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="Expected"):
        reference.decoded(BAD[name])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.accounts.close()
    made.store.close()


@pytest.fixture
def admin(house: House) -> Visitor:
    return house.member("admin")


def send(client: Visitor, leaf: str, body: Any, csrf: str | None = None) -> httpx.Response:  # noqa: ANN401 - JSON or bytes
    token = hidden(client.get("/account")) if csrf is None else csrf
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(HERE + leaf, content=content, headers={"X-CSRF-Token": token})


def test_the_editor_is_for_administrators(house: House, admin: Visitor) -> None:
    assert admin.get(HERE).status_code == 200
    for name in ("viewer", "staff"):
        client = house.member(name)
        for leaf in ("", "/planogram.yaml", "/reference.jpg"):
            assert client.get(HERE + leaf).status_code == 403, leaf
        for leaf in ("", "/picture", "/snapshot", "/product", "/open", "/discard", "/send"):
            assert send(client, leaf, {}).status_code == 403, leaf
    assert send(admin, "", {"shelf": "1", "revision": 0}, csrf="x" * 43).status_code == 403


def test_drafts_are_kept_and_nobody_overwrites_another(admin: Visitor, house: House) -> None:
    body = FINE.model_dump(mode="json", include={"shelf", "products", "slots"})
    first = send(admin, "", body | {"revision": 0})
    assert first.json() == {"revision": 1, "problems": []}
    assert send(admin, "", body | {"revision": 0}).status_code == 409
    answer = admin.get(f"{HERE}/planogram.yaml")
    assert "milk-1l" in answer.text
    assert admin.get(f"{HERE}/reference.jpg").status_code == 404
    for leaf in ("/picture", "/open"):
        assert send(admin, f"{leaf}?revision=0", picture()).status_code == 409, leaf
        assert send(admin, leaf, picture()).status_code == 400, "it must be said what was seen"
    sized = send(admin, "/picture?revision=1", picture(".png")).json()
    assert (sized["width"], sized["height"], sized["picture"]) == (640, 480, True)
    assert admin.get(f"{HERE}/reference.jpg").content[:3] == b"\xff\xd8\xff"
    wrong = body | {"revision": 2, "shelf": ""}
    assert send(admin, "", wrong).json()["problems"][0]["field"] == "shelf"
    assert admin.get(f"{HERE}/planogram.yaml").status_code == 409
    assert send(admin, "/discard", {}).status_code == 200
    assert admin.get(f"{HERE}/reference.jpg").status_code == 404
    assert send(admin, "", body | {"revision": 3}).status_code == 409, "what was discarded does not come back"
    assert ("admin", "planogram-picture") in house.audited()


def test_who_only_looks_begins_no_draft(admin: Visitor) -> None:
    shown = json.loads(re.findall(r'id="shown"[^>]*>(.*?)</script>', admin.get(HERE).text, re.DOTALL)[0])
    draft = shown["draft"]
    assert draft["base"] == shown["in_use"] != ""
    seen = {key: draft[key] for key in ("revision", "shelf", "products", "slots")}
    assert send(admin, "", seen).json()["revision"] == 0
    assert send(admin, "", seen | {"shelf": "13"}).json()["revision"] == 1
    assert send(admin, "", seen | {"shelf": "13", "revision": 1}).json()["revision"] == 1


def test_bad_bodies_are_refused(admin: Visitor) -> None:
    for body in (b"", b"[]", b"null", b"{", b'{"revision": 0, "picture": true, "more": 1}', b"[" * 100_000):
        assert send(admin, "", body).status_code == 400, body[:40]
    slot = {"id": "A", "quad": [[1, 1]] * 3, "product": ""}
    for change in ({"slots": [slot]}, {"slots": [{"id": "x" * 400}]}, {"products": [{"label": 1}]}):
        assert send(admin, "", {"revision": 0} | change).status_code == 400, change
    infinite = b'{"revision": 0, "slots": [{"id": "A", "quad": [[1e999,1],[2,1],[2,2],[1,2]]}]}'
    assert send(admin, "", infinite).status_code == 400
    assert send(admin, "", b" " * (1024 * 1024 + 1)).status_code == 413
    assert send(admin, "/picture?revision=0", b"\xff" * (reference.MOST_BYTES + 1)).status_code == 413
    for name, data in BAD.items():
        answer = send(admin, "/picture?revision=0", data)
        assert answer.status_code == 400, name
        assert "Expected" in answer.json()["error"]
    for text in (b"\xff\xfe", b"a: [", b"shelf: 1", b"!!python/object/apply:os.system [ls]", b"&a [*a]"):
        assert send(admin, "/open?revision=0", text).status_code == 400, text


def test_paths_lead_nowhere_else(admin: Visitor) -> None:
    for device in ("..", "%2e%2e", "..%2f..%2fetc", "nobody", "cam-12-01%00", "+", "%23"):
        path = f"/stores/0417/devices/{device}/planogram/reference.jpg"
        assert admin.get(path).status_code == 404, device
    text = FINE.text().replace("reference.jpg", "../../../etc/passwd").encode()
    assert send(admin, "/open?revision=0", text).status_code == 200
    assert "passwd" not in admin.get(f"{HERE}/planogram.yaml").text
    assert send(admin, "/snapshot?revision=1", {}).status_code == 400, "nobody may command devices here"


def test_words_of_a_draft_are_no_markup(admin: Visitor) -> None:
    body = FINE.model_dump(mode="json", include={"products", "slots"})
    shelf = '</script><script>alert("x")</script>'
    assert send(admin, "", body | {"revision": 0, "shelf": shelf}).status_code == 200
    assert "<script>alert" not in admin.get(HERE).text


def test_a_gtin_is_checked_and_found(admin: Visitor) -> None:
    wrong = send(admin, "/product", {"gtin": "9506000134353"})
    assert "check digit 2" in wrong.json()["error"]
    assert send(admin, "/product", {"gtin": "4006381333931"}).json() == {"gtin": "04006381333931"}
    found = send(admin, "/product", {"gtin": " 9506000134352 "}).json()
    assert (found["gtin"], found["label"]) == ("09506000134352", "milk-1l")


def edited(opened: Opener, shop: Dashboard) -> Page:
    page = opened(shop.address + HERE)
    expect(page.locator("#saved")).to_have_text("draft kept")
    return page


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.timeout(300)
def test_a_browser_changes_what_a_real_agent_watches(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path, opened: Opener, tmp_path: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port, privacy="{snapshots: true}")
    with (
        Dashboard(mosquitto, tmp_path / "shop", "--no-login", "--operator", mosquitto.url) as shop,
        running(mosquitto, config) as agent,
    ):
        seen = agent.state(lambda value: all(slot.get("state") for slot in value["slots"].values()))
        agent.ask_until("snapshot", sorry=("recent pictures",))
        page = edited(opened, shop)
        slots = page.locator("#canvas .place")
        expect(slots).to_have_count(len(seen["slots"]))
        page.locator("#snapshot").click()
        expect(page.locator("#canvas image")).to_have_count(1, timeout=30_000)
        # By keys alone: the first slot is moved, the row is copied and taken away again.
        expect(page.locator("#saved")).to_have_text("draft kept")
        slots.first.focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("c")
        expect(slots).not_to_have_count(len(seen["slots"]))
        page.keyboard.press("Control+z")
        expect(slots).to_have_count(len(seen["slots"]))
        for problem in page.locator("#problems button").all():
            problem.click()
            page.locator("#slot-product").select_option(index=1)
        expect(page.locator("#fine")).to_contain_text("Nothing is wrong", timeout=15_000)
        page.locator("#send").click()
        expect(page.locator("#said")).to_contain_text("The device uses it now", timeout=30_000)
        name, before = next(iter(seen["planogram"]["slots"].items()))
        now = agent.now(lambda value: value["planogram"]["sha256"] != seen["planogram"]["sha256"])
        assert now["planogram"]["slots"][name] == [[x, y - 10] for x, y in before]
        # What the model does not know the device refuses, and the page says where.
        label = page.get_by_label("Label 1", exact=True)
        label.fill("unheard-of")
        label.press("Tab")
        page.locator("#send").click()
        expect(page.locator("#said")).to_contain_text("The device did not take it", timeout=30_000)
        expect(page.locator("#products .problem")).to_contain_text("expected a label of the bundle")


@pytest.fixture
def device_link(mosquitto: Mosquitto) -> Iterator[Link]:
    """The link of a device that sends what a test says."""
    with subscribed(mosquitto.address, client_id="device") as link:
        yield link


@pytest.fixture
def shop(mosquitto: Mosquitto, device_link: Link, tmp_path: Path) -> Iterator[Dashboard]:
    """A real dashboard that knows a store with two shelves."""
    with Dashboard(mosquitto, tmp_path / "shop", "--no-login") as made:
        open_shop(device_link)
        arrived(made.address, 4)
        yield made


@pytest.mark.browser
@pytest.mark.broker
def test_a_browser_draws_a_grid_and_assigns_by_gtin(shop: Dashboard, opened: Opener, tmp_path: Path) -> None:
    page = edited(opened, shop)
    expect(page.locator("#send")).to_be_disabled()
    (tmp_path / "shelf.jpg").write_bytes(picture(width=1280, height=720))
    page.locator("#picture-file").set_input_files(tmp_path / "shelf.jpg")
    expect(page.locator("#canvas image")).to_have_count(1)
    canvas = page.locator("#canvas").bounding_box()
    assert canvas is not None
    sweep = [(0.1, 0.55), (0.5, 0.7), (0.9, 0.9)]
    places = [(canvas["x"] + canvas["width"] * x, canvas["y"] + canvas["height"] * y) for x, y in sweep]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()
    page.locator("#grid-columns").fill("4")
    page.get_by_role("button", name="Make slots").click()
    expect(page.locator("#canvas .place.picked")).to_have_count(4)
    expect(page.locator("#slot-title")).to_have_text("4 slots")
    page.keyboard.press("g")
    page.keyboard.type("9506000134353")
    page.keyboard.press("Enter")
    expect(page.locator("#scan-said")).to_contain_text("check digit 2")
    page.locator("#scan-gtin").fill("9506000134352")
    page.keyboard.press("Enter")
    expect(page.locator("#scan-said")).to_contain_text("New product gtin-09506000134352")
    page.get_by_label("Label 3", exact=True).fill("milk")
    page.get_by_label("Label 3", exact=True).press("Tab")
    expect(page.locator('#canvas .place[data-index="5"]')).to_have_attribute(
        "aria-label", re.compile("^Slot B1, milk")
    )
    # The picture is drawn anew when the server has said what is wrong.
    expect(page.locator("#saved")).to_have_text("draft kept", timeout=30_000)
    page.locator('#canvas .place[data-index="5"]').click()
    handle = page.locator('.handle[data-corner="0"]').bounding_box()
    assert handle is not None
    page.mouse.move(handle["x"] + 5, handle["y"] + 5)
    page.mouse.down()
    page.mouse.move(handle["x"] + 25, handle["y"] + 25)
    page.mouse.up()
    expect(page.locator("#corner-0-0")).not_to_have_value("134")
    page.locator("#corner-1-0").fill("99999")
    page.locator("#corner-1-0").press("Tab")
    expect(page.locator("#corner-1-0")).to_have_value("1280")
    expect(page.locator("#saved")).to_have_text("draft kept", timeout=30_000)
    page.reload()
    expect(page.locator("#canvas .place")).to_have_count(9)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
def test_a_browser_asks_before_what_is_not_kept_is_lost(shop: Dashboard, opened: Opener) -> None:
    page = edited(opened, shop)
    expect(page.locator("#saved")).to_have_text("draft kept", timeout=30_000)
    page.route("**/planogram", lambda route: route.abort())
    page.locator("#shelf").fill("13")
    page.locator("#shelf").press("Tab")
    expect(page.locator("#saved")).to_have_class("pill bad")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.get_by_role("link", name="Stores").first.click()
    assert asked == ["beforeunload"]
    expect(page.locator("#shelf")).to_have_value("13")
    assert all("ERR_FAILED" in error for error in opened.errors)
    opened.errors.clear()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.broker
def test_two_who_draw_at_once_are_told_and_nothing_is_overwritten(
    shop: Dashboard, device_link: Link, opened: Opener, tmp_path: Path
) -> None:
    (tmp_path / "shelf.jpg").write_bytes(picture(width=1280, height=720))
    mine, theirs = edited(opened, shop), edited(opened, shop)
    for page, shelf in ((theirs, "theirs"), (mine, "mine")):
        page.locator("#shelf").fill(shelf)
        page.locator("#shelf").press("Tab")
        said = "draft kept" if page is theirs else "somebody else changed this draft: load the page again"
        expect(page.locator("#saved")).to_have_text(said)
    mine.locator("#picture-file").set_input_files(tmp_path / "shelf.jpg")
    expect(mine.locator("#canvas image")).to_have_count(0)
    theirs.reload()
    expect(theirs.locator("#shelf")).to_have_value("theirs")
    expect(theirs.locator("#said")).to_be_hidden()
    # Meanwhile the device is given another planogram from elsewhere.
    plan = {"sha256": "ef" * 32, "width": 1280, "height": 720, "slots": {"A1": QUAD}}
    device = DeviceTopics(*HERE.split("/")[2:5:2])
    publish(device_link, device.state, snapshot(planogram=plan, slots={}))
    wait_until(lambda: "ef" * 6 in theirs.request.get(shop.address + HERE).text(), 20)
    theirs.reload()
    expect(theirs.locator("#said")).to_contain_text("another planogram since this draft was begun")
    assert all("409" in text for text in opened.errors)
    opened.errors.clear()


@pytest.mark.slow
@pytest.mark.broker
def test_nobody_waits_for_ever_for_a_device(mosquitto: Mosquitto) -> None:
    device = DeviceTopics("0417", "cam-12-01")
    with Operator(mosquitto.address, patience_s=2) as operator:
        with pytest.raises(DeviceError, match="an answer of cam-12-01"):
            operator.ask(device, "ping")
        # Another device cannot answer for it, and what is no reply does no harm.
        with (
            subscribed(mosquitto.address, device.command("ping"), client_id="liar") as liar,
            ThreadPoolExecutor() as threads,
        ):
            asked = threads.submit(operator.ask, device, "ping")
            request = json.loads(received(liar, 1)[0].payload)["request"]
            yes = json.dumps({"request": request, "ok": True}).encode()
            liar.publish(Publication(device.reply("ping"), b"\xff no JSON"))
            liar.publish(Publication(DeviceTopics("0417", "cam-99").reply("ping"), yes))
            with pytest.raises(DeviceError):
                asked.result()
        mosquitto.kill()
        # What was handed over just before the link was seen to be gone has no answer.
        with contextlib.suppress(DeviceError, ServiceError):
            operator.ask(device, "ping")
        with pytest.raises(ServiceError, match="a broker that takes commands"):
            operator.ask(device, "ping")
