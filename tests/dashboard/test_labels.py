"""Label and retrain: what comes in, what is refused, and that `train`'s own reader takes what comes out."""

import csv
import io
import json
import struct
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from playwright.sync_api import expect
from typer.testing import CliRunner

from dashboard.__main__ import app as command
from dashboard.labelling import exchange
from dashboard.labelling.exchange import export_to, import_from
from dashboard.labelling.queue import Queue
from dashboard.store import Store
from edge_agent.contracts import dataset
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.preprocess import Image
from edge_agent.hard_export import COLUMNS
from tests.brokers import Mosquitto, subscribed
from tests.conftest import Kit, write_device
from tests.dashboard.conftest import Opener
from tests.dashboard.pages import Dashboard, Visitor, arrived, hidden, open_shop, snapshot
from tests.dashboard.stored import note
from tests.dashboard.test_accounts import House
from tests.edge_agent.agents import running


def crop(number: int, height: int = 90, width: int = 60) -> Image:
    """Return a picture of its own."""
    return np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)


def jpeg(number: int) -> bytes:
    _, data = cv2.imencode(".jpg", crop(number))
    return data.tobytes()


def told(number: int, **more: str) -> dict[str, str]:
    row = {"path": f"A{number % 3}/{number}.jpg", "group": f"cam-12-01/A{number % 3}/2026-11-26"}
    row |= {"slot": f"A{number % 3}", "guess": "milk-1l", "confidence": "0.41", "second": "oat-drink"}
    return row | {"reason": "doubt", "time": "2026-11-26T09:14:05.120Z", "model": "dairy"} | more


def index(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def archive(rows: list[dict[str, str]], files: dict[str, bytes], root: str = "hard/") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(f"{root}index.csv", index(rows))
        for name, data in files.items():
            made.writestr(f"{root}{name}", data)
    return out.getvalue()


def some(count: int) -> bytes:
    rows = [told(number) for number in range(count)]
    return archive(rows, {row["path"]: jpeg(number) for number, row in enumerate(rows)})


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "labels")


def test_recorders_that_share_a_folder_may_start_at_one_moment(tmp_path: Path) -> None:
    for number in range(5):
        with ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(Queue, [tmp_path / str(number)] * 8))) == 8


def test_what_is_labelled_is_a_data_set_for_train(queue: Queue, tmp_path: Path) -> None:
    found = import_from(io.BytesIO(some(6)), queue, "mei")
    assert (found.new, found.known, found.left_out) == (6, 0, 0)
    assert import_from(io.BytesIO(some(6)), queue, "mei").known == 6
    items = queue.items("open", 10)
    for number, label in enumerate(["milk-1l", "empty", "milk-1l", "oat-drink"]):
        assert queue.label(items[number]["name"], label, "labelled", "mei")
    assert queue.label(items[4]["name"], "", "skipped", "mei")
    assert export_to(tmp_path / "out", queue, {"milk-1l": ("Milk 1 l", "09506000134352")}) == 4
    read = dataset.read(tmp_path / "out")
    assert [(one.label, one.name, one.gtin) for one in read.classes] == [
        ("empty", "", None),
        ("milk-1l", "Milk 1 l", "09506000134352"),
        ("oat-drink", "", None),
    ]
    assert read.rejected == []
    assert sorted(read.classes[photo.label].label for photo in read.photos) == [
        "empty",
        "milk-1l",
        "milk-1l",
        "oat-drink",
    ]
    assert {photo.group for photo in read.photos} == {f"cam-12-01/A{slot}/2026-11-26" for slot in range(3)}
    original = cv2.imdecode(np.frombuffer(jpeg(0), np.uint8), cv2.IMREAD_COLOR)
    assert original is not None
    pictures = [photo.decode() for photo in read.photos]
    assert any(np.array_equal(picture, original) for picture in pictures), "to the pixel"
    with pytest.raises(DataError, match="which is there"):
        export_to(tmp_path / "out", queue, {})


@pytest.mark.slow
def test_what_was_exported_is_trained_on(queue: Queue, tmp_path: Path, kit: Kit) -> None:
    rows = [told(number) for number in range(36)]
    import_from(io.BytesIO(archive(rows, {row["path"]: jpeg(n) for n, row in enumerate(rows)})), queue, "mei")
    for number, item in enumerate(queue.items("open", 100)):
        assert queue.label(item["name"], ("milk-1l", "empty")[number % 2], "labelled", "mei")
    assert export_to(tmp_path / "set", queue, {}) == 36
    kit("train", tmp_path / "set", "--out", tmp_path / "run", "--image-px", 32, "--epochs", 1)
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_folder_and_labels_that_are_there_already(queue: Queue, tmp_path: Path) -> None:
    folder = tmp_path / "hard"
    (folder / "A0").mkdir(parents=True)
    (folder / "A0" / "0.jpg").write_bytes(jpeg(0))
    (folder / "index.csv").write_bytes(index([told(0, label="oat-drink")]))
    done = CliRunner().invoke(
        command, ["labels", "import", str(folder), "--files", str(tmp_path / "files"), "--json"]
    )
    assert json.loads(done.output)["new"] == 1, done.output
    out = tmp_path / "set"
    done = CliRunner().invoke(
        command, ["labels", "export", "--files", str(tmp_path / "files"), "--out", str(out)]
    )
    assert "1 labelled pictures" in done.output
    assert dataset.read(out).classes[0].label == "oat-drink"
    url = f"sqlite:///{tmp_path / 'd.sqlite'}"
    recorded = Store(url)
    oats = snapshot()["products"][0] | {"label": "oat-drink", "name": "Oat drink"}
    state = json.dumps(snapshot(products=[oats]))
    note(recorded, "/stores/0417/devices/cam-12-01", "0417", "cam-12-01", state=state)
    recorded.close()
    whole = ["labels", "export", "--files", str(tmp_path / "files"), "--out", str(tmp_path / "named")]
    done = CliRunner().invoke(command, [*whole, "--database", url])
    assert done.exit_code == 0, done.output
    named = dataset.read(tmp_path / "named").classes[0]
    assert (named.name, named.gtin) == ("Oat drink", oats["gtin"])
    with pytest.raises(DataError, match="none yet"):
        export_to(tmp_path / "none", queue, {})


def test_nothing_outside_of_what_came_is_read(queue: Queue, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(9))
    folder = tmp_path / "hard"
    folder.mkdir()
    (folder / "link.jpg").symlink_to(secret)
    paths = ["../secret.jpg", str(secret), "link.jpg", "", ".", "\x00", "a\\..\\..\\secret.jpg"]
    (folder / "index.csv").write_bytes(index([told(0, path=path) for path in paths]).replace(b"\x00", b""))
    found = import_from(folder, queue, "")
    assert (found.new, found.left_out) == (0, len(paths))
    evil = {"../../evil.jpg": jpeg(1), "/etc/evil.jpg": jpeg(2)}
    rows = [told(0, path=name) for name in evil]
    before = {path for path in tmp_path.rglob("*") if "labels" not in path.parts}
    found = import_from(io.BytesIO(archive(rows, evil, root="")), queue, "")
    assert {path for path in tmp_path.rglob("*") if "labels" not in path.parts} == before
    assert all(path.parent.name == "pictures" for path in (tmp_path / "labels").rglob("*.png"))


def test_bad_rows_are_left_out_with_their_lines(queue: Queue) -> None:
    small, svg = cv2.imencode(".png", crop(1, 4, 4))[1].tobytes(), b"<svg onload=alert(1)>"
    files = {"fine.jpg": jpeg(1), "small.png": small, "svg.jpg": svg, "cut.jpg": jpeg(2)[:500]}
    rows = [told(0, path=name) for name in (*files, "missing.jpg")]
    rows.append(told(0, path="fine.jpg", label="=HYPERLINK()"))
    found = import_from(io.BytesIO(archive(rows, files)), queue, "")
    assert found.new == 1
    assert [text.split()[0] for text in found.refused] == [f"index.csv:{line}" for line in (3, 4, 5, 6, 7)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04" + bytes(100),
        some(2)[:-30],
        archive([], {}).replace(b"index.csv", b"other.csv"),
    ],
)
def test_what_is_no_archive_is_refused(queue: Queue, data: bytes) -> None:
    with pytest.raises(DataError, match="Expected"):
        import_from(io.BytesIO(data), queue, "")


def test_a_bomb_stays_small(queue: Queue) -> None:
    """64 MB of nothing in 64 KB: no more than a picture may be is ever unpacked."""
    files = {"bomb.jpg": b"\xff\xd8\xff" + bytes(64 * 1024 * 1024)}
    found = import_from(io.BytesIO(archive([told(0, path="bomb.jpg")], files)), queue, "")
    assert "at most" in found.refused[0]
    lying = bytearray(archive([told(0, path="bomb.jpg")], files))
    at = lying.index(b"PK\x01\x02", lying.index(b"PK\x01\x02") + 4)
    lying[at + 24 : at + 28] = struct.pack("<I", 10)
    found = import_from(io.BytesIO(bytes(lying)), queue, "")
    assert (found.new, found.left_out) == (0, 1)


def test_labels_are_labels(queue: Queue) -> None:
    queue.add(crop(1), told(1))
    (item,) = queue.items("open", 5)
    for label in ("", " ", "a/b", "../x", "x" * 129, "a\nb", "=1+1", "+x", "-x", "@x"):
        with pytest.raises(UsageError):
            queue.label(item["name"], label, "labelled", "mei")
    assert queue.items("labelled", 5) == []
    for name in ("../labels", "..", "x/y", "\x00", "ä"):
        assert queue.picture(name) is None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.accounts.close()
    made.store.close()


def send(client: Visitor, path: str, body: Any) -> httpx.Response:  # noqa: ANN401 - JSON or bytes
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content=content, headers={"X-CSRF-Token": hidden(client.get("/account"))})


def test_staff_labels_and_viewers_do_not(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    staff, viewer = house.member("staff"), house.member("viewer")
    assert send(staff, "/labels/import", some(3)).json()["new"] == 3
    items = staff.get("/labels/items").json()["items"]
    name = items[0]["name"]
    assert staff.get(f"/labels/pictures/{name}").headers["content-type"] == "image/png"
    for path in ("/labels", "/labels/items", f"/labels/pictures/{name}", "/labels/labelled.zip"):
        assert viewer.get(path).status_code == 403, path
    give = {"label": "milk-1l", "state": "labelled"}
    assert send(viewer, f"/labels/items/{name}", give).status_code == 403
    assert send(viewer, "/labels/import", some(1)).status_code == 403
    assert staff.get("/labels/labelled.zip").status_code == 404
    assert send(staff, f"/labels/items/{name}", give).status_code == 200
    for wrong in ({"label": "a/b", "state": "labelled"}, {"state": "gone"}, {"state": ["open"]}, b"[]"):
        assert send(staff, f"/labels/items/{name}", wrong).status_code == 400, wrong
    assert send(staff, "/labels/items/none", give).status_code == 404
    assert send(staff, f"/labels/items/{name}", b"{" + b" " * 20_000).status_code == 413
    assert send(staff, "/labels/import", b"no zip").status_code == 400
    monkeypatch.setattr(exchange, "MOST_BYTES", 1000)
    assert send(staff, "/labels/import", bytes(2000)).status_code == 413
    for other in ("..%2flabels.sqlite", "%2e%2e", "nothing"):
        assert staff.get(f"/labels/pictures/{other}").status_code == 404


def test_the_zip_is_what_train_reads(house: House, tmp_path: Path) -> None:
    staff = house.member("staff")
    send(staff, "/labels/import", some(2))
    for item in staff.get("/labels/items").json()["items"]:
        send(staff, f"/labels/items/{item['name']}", {"label": "milk-1l", "state": "labelled"})
    with zipfile.ZipFile(io.BytesIO(staff.get("/labels/labelled.zip").content)) as made:
        made.extractall(tmp_path / "out")
    read = dataset.read(tmp_path / "out" / "labelled")
    assert (len(read.photos), read.classes[0].gtin) == (2, "09506000134352")


def test_a_wrong_reading_is_noted_until_pictures_of_it_come(house: House) -> None:
    staff = house.member("staff")
    csrf = hidden(staff.get("/account"))
    slot = "/stores/0417/devices/cam-12-01/slots/A3"
    assert staff.post(f"{slot}/wrong", data={"csrf": csrf}).headers["location"] == f"{slot}?wrong=waiting"
    assert "cam-12-01 · A3" in staff.get("/labels").text
    nowhere = "/stores/0417/devices/cam-12-01/slots/Z9/wrong"
    assert staff.post(nowhere, data={"csrf": csrf}).status_code == 404
    viewer = house.member("viewer")
    assert viewer.post(f"{slot}/wrong", data={"csrf": hidden(viewer.get("/account"))}).status_code == 403
    rows = [told(0, path="x.jpg", slot="A3", group="cam-12-01/A3/2026-11-26")]
    send(staff, "/labels/import", archive(rows, {"x.jpg": jpeg(5)}))
    assert "cam-12-01 · A3" not in staff.get("/labels").text
    assert ("staff", "reading-wrong") in house.audited()


@pytest.mark.browser
@pytest.mark.broker
def test_a_browser_labels_by_keys(mosquitto: Mosquitto, opened: Opener, tmp_path: Path) -> None:
    (tmp_path / "hard.zip").write_bytes(some(4))
    with (
        Dashboard(mosquitto, tmp_path / "shop", "--no-login") as shop,
        subscribed(mosquitto.address, client_id="device") as link,
    ):
        open_shop(link)
        arrived(shop.address, 4)
        page = opened(f"{shop.address}/labels")
        expect(page.locator("#nothing")).to_be_visible()
        page.locator("#archive").set_input_files(tmp_path / "hard.zip")
        expect(page.locator("#said")).to_contain_text("New pictures: 4")
        expect(page.locator("#item-title")).to_have_text("Picture 1 of 4")
        expect(page.locator("#choices button").first).to_contain_text("Milk 1 l (milk-1l)")
        page.locator("h1").click()
        page.keyboard.press("1")
        expect(page.locator("#item-title")).to_have_text("Picture 2 of 4")
        page.keyboard.press("x")
        expect(page.locator("#item-title")).to_have_text("Picture 3 of 4")
        page.keyboard.press("u")
        expect(page.locator("#item-title")).to_have_text("Picture 2 of 4")
        page.keyboard.press("/")
        page.keyboard.type("tea=mint")
        page.keyboard.press("Enter")
        expect(page.locator("#item-title")).to_have_text("Picture 3 of 4")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#now")).to_have_text("✓ tea=mint")
        expect(page.locator("#counts")).to_contain_text("labelled: 2")
        expect(page.locator("#picture")).to_have_js_property("naturalWidth", 60)
        with page.expect_download() as download:
            page.locator("#export").click()
        assert zipfile.is_zipfile(download.value.path())


@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.timeout(300)
def test_a_wrong_reading_comes_with_its_picture_where_the_device_lets_it(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path, opened: Opener, tmp_path: Path
) -> None:
    config = write_device(device, bundle_folder, port=mosquitto.port, privacy="{snapshots: true}")
    with (
        Dashboard(mosquitto, tmp_path / "shop", "--no-login", "--operator", mosquitto.url) as shop,
        running(mosquitto, config) as agent,
    ):
        seen = agent.state(lambda value: all(slot.get("state") for slot in value["slots"].values()))
        agent.ask_until("snapshot", sorry=("recent pictures",))
        name, quad = next(iter(seen["planogram"]["slots"].items()))
        page = opened(f"{shop.address}/stores/0417/devices/cam-12-01/slots/{name}")
        page.get_by_role("button", name="This reading is wrong").click()
        expect(page.locator(".note")).to_contain_text("a picture of this slot waits")
        page.get_by_role("link", name="To the labels").click()
        expect(page.locator("#told")).to_contain_text("somebody said that it is wrong")
        expect(page.locator("#told")).to_contain_text(f"cam-12-01 · {name}")
        wide = round(quad[1][0] - quad[0][0])
        expect(page.locator("#picture")).to_have_js_property("naturalWidth", wide)
