"""The preview: its page in a real browser, who may look, and what is measured."""

import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from edge_agent import setup
from edge_agent.align import View
from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.masked import Masked
from edge_agent.camera.rotated import Rotated
from edge_agent.camera.shelf.files import write_scene
from edge_agent.camera.shelf.film import Film
from edge_agent.contracts.errors import DeviceError, UsageError
from edge_agent.contracts.events import CameraFault
from edge_agent.preview.command import show
from edge_agent.preview.door import TRIES, Answer, Door
from edge_agent.preview.meters import Detail, seen_part
from edge_agent.preview.scene import Scene, scene_of_config, scene_of_source
from edge_agent.preview.server import House, asked_rightly, served
from edge_agent.preview.watch import Watch
from edge_agent.preview.words import place_words
from edge_agent.sight import Sight
from tests.conftest import Kit, missing, write_device
from tests.dashboard.pages import BROWSER

CODE, TOKEN = "12345678", "a-token"
MASK = ((0, 0), (300, 0), (300, 90), (0, 90))


class Lens(Camera):
    """The rendered shelf, as often as it is asked for, through a lens that a test turns and moves."""

    def __init__(self) -> None:
        self.film = Film(7)
        self.picture = self.film.frame(-1.0)
        self.blur, self.right = 0.0, 0
        self.broken = False
        self._noise = np.random.default_rng(3)

    def read(self) -> Frame:
        if self.broken:
            raise DeviceError("Expected: a frame. Received: none.")
        picture = self.picture
        if self.right:
            picture = np.roll(picture, self.right, axis=1)
        if self.blur:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), self.blur), np.uint8)
        grain = self._noise.integers(0, 4, picture.shape, np.uint8)
        return Frame(np.asarray(cv2.add(picture, grain), np.uint8), time.monotonic())


@pytest.fixture
def lens() -> Lens:
    return Lens()


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def at(camera: Camera, scene: Scene, door: Door | None = None, clock: Clock | None = None) -> Iterator[int]:
    """Serve a scene on a free port, with a picture to show."""
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(camera, scene))
        house = House(watch, door, steady=clock or Clock())
        port = stack.enter_context(served(house, "127.0.0.1", 0))
        end = time.monotonic() + 10
        while watch.shot() is None:
            watch.check()
            assert time.monotonic() < end
            time.sleep(0.01)
        yield port


def ask(
    port: int, path: str, method: str = "GET", body: str = "", **headers: str
) -> tuple[HTTPResponse, bytes]:
    """Ask as a client that may say anything in its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    names = {"Host": f"127.0.0.1:{port}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host=True)
    for name, value in (names | {"Content-Length": str(len(body))}).items():
        connection.putheader(name, value)
    connection.endheaders(body.encode())
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


@contextmanager
def browser() -> Iterator[Page]:
    """A phone's page in headless Chromium; errors on its console fail the test."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        missing("chromium", "install it, for example: apt install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=[*BROWSER])
        page = opened.new_page(viewport={"width": 390, "height": 844})
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        opened.close()
    # A code that is refused is an error to the browser, and what such a test is about.
    assert [error for error in errors if "403" not in error and "401" not in error] == []


@pytest.fixture(scope="module")
def shelf_folder(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Path:
    """A folder with a rendered scene and a device.yaml that fits it; nobody changes it."""
    folder = tmp_path_factory.mktemp("shelf")
    write_scene(folder, seed=7)
    write_device(folder, bundle_folder)
    return folder


@pytest.fixture(scope="module")
def scene(shelf_folder: Path) -> Scene:
    made = scene_of_config(shelf_folder / "device.yaml")
    assert made.problems == []
    return made


@pytest.fixture
def device(tmp_path: Path, shelf_folder: Path) -> Path:
    """A copy of that folder, to be changed."""
    return Path(shutil.copytree(shelf_folder, tmp_path / "shelf"))


def sharp(page: Page) -> int:
    return int((page.locator("#sharpness").text_content() or "").split()[0])


@pytest.mark.browser
def test_somebody_aims_and_focuses(lens: Lens, scene: Scene, tmp_path: Path) -> None:
    with at(lens, scene) as port, browser() as page:
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#place")).to_have_text("aligned")
        expect(page.locator("#faults")).to_be_hidden()
        slot = page.locator('#overlay [data-slot="A1"]')
        expect(slot).to_contain_text("milk-carton")
        expect(slot).to_have_class("present")
        expect(page.locator('#rows [data-slot="A1"]')).to_contain_text("milk-carton")
        # The picture comes after the words about it.
        expect(page.locator("#picture")).to_have_js_property("naturalWidth", 1280)
        # Nothing is wider than the phone.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        before = sharp(page)
        lens.blur = 1.5
        end = time.monotonic() + 20
        while sharp(page) > 0.8 * before:
            assert time.monotonic() < end
        # The mark of the best stays, until it is forgotten.
        expect(page.locator("#best")).to_contain_text("best ")
        kept = int((page.locator("#best").text_content() or "").split()[1])
        assert kept >= before
        page.locator("#forget").click()
        expect(page.locator("#best")).to_contain_text("now 100 %")
        lens.blur = 12.0
        expect(page.locator("#faults")).to_contain_text("defocused The picture is blurred")
        expect(page.locator("#place")).to_have_text("hidden")

        lens.blur, lens.right = 0.0, 90
        expect(page.locator("#place")).to_have_text("moved")
        expect(page.locator("#where")).to_contain_text("px too far right")
        expect(page.locator("#faults")).to_contain_text("moved")
        lens.right = 0
        expect(page.locator("#place")).to_have_text("aligned")

        with page.expect_download() as download:
            page.locator("#save").click()
        assert download.value.suggested_filename == "reference.jpg"
        download.value.save_as(tmp_path / "saved.jpg")
        assert cv2.imread(str(tmp_path / "saved.jpg")).shape == (720, 1280, 3)  # type: ignore[union-attr]

        page.locator("#outlines").click()
        expect(page.locator("#overlay")).to_be_hidden()
        lens.broken = True
        expect(page.locator("#live")).to_contain_text("Expected: a frame")


@pytest.mark.browser
def test_a_browser_comes_in_with_the_code_and_goes_when_the_time_is_over(lens: Lens, scene: Scene) -> None:
    clock = Clock()
    door = Door(code=CODE, token=TOKEN, ends=60)
    with at(lens, scene, door, clock) as port, browser() as page:
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("#code").fill("11112222")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_contain_text("not the code")
        page.locator("#code").fill("1234 5678")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#left")).to_contain_text("60 s left")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert page.evaluate("document.cookie") == ""
        clock.now = 61
        expect(page.locator("#live")).to_have_text("The preview has ended.")


def test_a_code_is_good_once(lens: Lens, scene: Scene) -> None:
    clock, door = Clock(), Door(code=CODE, token=TOKEN, ends=60)
    with at(lens, scene, door, clock) as port:
        assert b"terminal" in ask(port, "/")[1]
        assert b"app.js" not in ask(port, "/")[1]
        for path in ("/frame.jpg", "/reference.jpg", "/status.json", "/app.js"):
            assert ask(port, path)[0].status == 401
            assert ask(port, path, Cookie=f"shelfkit-preview={TOKEN}")[0].status == 401
        answer, _ = ask(port, "/code", "POST", f"code={CODE}")
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        own = cookie.split(";")[0]
        assert ask(port, "/frame.jpg", Cookie=own)[1].startswith(b"\xff\xd8")
        again, said = ask(port, "/code", "POST", f"code={CODE}")
        assert again.status == 403
        assert b"used already" in said
        assert "Set-Cookie" not in again.headers
        # Nobody outside can end the session of the one who is in.
        for _ in range(2 * TRIES):
            ask(port, "/code", "POST", "code=1")
        assert ask(port, "/frame.jpg", Cookie=own)[0].status == 200
        assert ask(port, "/frame.jpg", Cookie="shelfkit-preview=another")[0].status == 401
        clock.now = 60
        assert ask(port, "/frame.jpg", Cookie=own)[0].status == 401
        assert ask(port, "/", Cookie=own)[0].status == 410


def test_five_wrong_codes_end_it(lens: Lens, scene: Scene) -> None:
    door = Door(code=CODE, token=TOKEN, ends=60)
    with at(lens, scene, door) as port:
        answers = [ask(port, "/code", "POST", f"code={guess}")[0].status for guess in range(TRIES)]
        assert answers == [403] * (TRIES - 1) + [410]
        assert ask(port, "/code", "POST", f"code={CODE}")[0].status == 410
        assert door.over(0)


@pytest.mark.parametrize("body", ["", "code=", "code=%00%ff", "x" * 256])
def test_nonsense_is_a_wrong_code(lens: Lens, scene: Scene, body: str) -> None:
    with at(lens, scene, Door(code=CODE, token=TOKEN, ends=60)) as port:
        assert ask(port, "/code", "POST", body)[0].status == 403


def test_a_form_has_a_length(lens: Lens, scene: Scene) -> None:
    with at(lens, scene, Door(code=CODE, token=TOKEN, ends=60)) as port:
        assert ask(port, "/code", "POST", "x" * 257)[0].status == 400
    with at(lens, scene) as port:
        assert ask(port, "/code", "POST", f"code={CODE}")[0].status == 400


def test_codes_and_tokens_differ() -> None:
    doors = [Door.fresh(ends=1) for _ in range(50)]
    assert len({door.code for door in doors}) == 50
    for door in doors:
        assert len(door.code.replace(" ", "")) == 8
    door = doors[0]
    assert door.enter(door.code, 1.0) == (Answer.OVER, "")
    answer, token = door.enter(door.code, 0.5)
    assert answer is Answer.IN
    assert len(token) >= 32
    assert door.knows(token, 0.9)
    assert not door.knows(token, 1.0)


@pytest.mark.parametrize(
    ("host", "loopback", "lan"),
    [
        ("127.0.0.1:9470", True, True),
        ("localhost:1", True, True),
        ("LOCALHOST", True, True),
        ("[::1]:9470", True, True),
        ("192.168.1.20:9470", False, True),
        ("board.local:9470", False, True),
        ("evil.example:9470", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("localhost.evil.example", False, False),
        ("[::1", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_only_names_of_this_machine_are_answered(host: str | None, loopback: bool, lan: bool) -> None:
    assert asked_rightly(host, frozenset({"localhost"}), loopback=True) is loopback
    assert asked_rightly(host, frozenset({"localhost", "board.local"}), loopback=False) is lan


def test_pages_of_other_sites_get_nothing(lens: Lens, scene: Scene) -> None:
    with at(lens, scene) as port:
        own = f"127.0.0.1:{port}"
        for path in ("/", "/frame.jpg", "/status.json", "/style.css"):
            assert ask(port, path, Host="evil.example")[0].status == 421
        assert ask(port, "/frame.jpg", Sec_Fetch_Site="cross-site")[0].status == 403
        assert ask(port, "/status.json", Origin="http://evil.example")[0].status == 403
        assert ask(port, "/status.json", Origin=f"http://{own}")[0].status == 200
        # A link from a message leads here.
        linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}
        assert ask(port, "/", **linked)[0].status == 200
        answer, _ = ask(port, "/frame.jpg")
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert answer.headers["Cache-Control"] == "no-store"
        for path in ("/nothing", "/../door.py", "/page.html", "/%2e%2e/door.py", "//evil.example/"):
            assert ask(port, path)[0].status == 404


@pytest.mark.parametrize("number", ["", "x", "-1", "9" * 40, "²"])
def test_numbers_that_are_none_show_the_latest(lens: Lens, scene: Scene, number: str) -> None:
    with at(lens, scene) as port:
        path = f"/frame.jpg?number={number.encode().hex() if not number.isascii() else number}"
        assert ask(port, path)[0].status == 200


def test_private_places_are_black_in_what_leaves(device: Path, bundle_folder: Path) -> None:
    corners = [list(point) for point in MASK]
    config = write_device(device, bundle_folder, privacy=f"{{masks: [{corners}]}}")
    lens = Lens()
    made = scene_of_config(config)
    with at(Masked(lens, made.masks), made) as port:
        for path in ("/frame.jpg", "/reference.jpg"):
            picture = cv2.imdecode(np.frombuffer(ask(port, path)[1], np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None
            assert picture[:80, :290].max() < 16
            assert picture[100:, 310:].mean() > 60


def test_the_planogram_that_holds_is_shown(device: Path, bundle_folder: Path) -> None:
    """One that came from afar takes the place of the file for an installer, too."""
    write_device(device, bundle_folder)
    made = setup.read(device / "device.yaml")
    made.place.push(made.planogram.model_copy(update={"shelf": "13"}))
    shown = scene_of_config(device / "device.yaml").shelf
    assert shown is not None
    assert shown.shelf == "13"


@pytest.mark.parametrize("source", ["ftp://mara:s3cr3t@cam/1", "rtps://cam/1?password=s3cr3t"])
def test_a_source_that_is_none_is_told_without_its_password(source: str) -> None:
    with pytest.raises(UsageError, match="rtsp") as told:
        scene_of_source(source)
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize("program", [["edge_agent.cli", "agent"], ["edge_agent"]])
def test_a_source_alone_and_its_end(tmp_path: Path, program: list[str]) -> None:
    cv2.imwrite(str(tmp_path / "1.jpg"), Film(7).frame(-1))
    process = subprocess.Popen(
        [sys.executable, "-m", *program, "preview", "--source", f"folder:{tmp_path}", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    address = process.stdout.readline().strip()
    port = int(address.removesuffix("/").rpartition(":")[2])
    end = time.monotonic() + 20
    while not (told := json.loads(ask(port, "/status.json?number=1")[1]))["error"]:
        assert time.monotonic() < end
    assert told["number"] == 1
    assert told["place"] is None
    assert told["slots"] == []
    assert told["sharpness"] > 0
    assert "end" in told["error"]
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 130
    assert "Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


def test_what_is_wrong_with_the_rest_is_told_and_the_picture_shown(lens: Lens, device: Path) -> None:
    (device / "reference.jpg").unlink()
    config = write_device(device, device / "no-bundle")
    made = scene_of_config(config)
    assert any("reference" in problem for problem in made.problems)
    assert any("no-bundle" in problem for problem in made.problems)
    with at(lens, made) as port:
        told = json.loads(ask(port, "/status.json")[1])
        assert told["problems"] == made.problems
        assert told["size"] == [1280, 720]
    # A reference picture is enough for the rest, without a model.
    cv2.imwrite(str(device / "reference.jpg"), lens.film.reference())
    with at(lens, scene_of_config(config)) as port:
        told = json.loads(ask(port, "/status.json")[1])
        assert told["place"]["view"] == "aligned"
        assert {slot["label"] for slot in told["slots"]} == {None}
        assert 0.5 < told["slots"][0]["of_reference"] < 1.5


def test_without_the_masks_nothing_is_shown(device: Path, kit: Kit) -> None:
    (device / "device.yaml").write_text("device: cam\nprivacy: {masks: 3}\n")
    assert "masks" in kit("agent", "preview", "--config", device / "device.yaml", code=3).stderr
    assert "--config" in kit("agent", "preview", code=2).stderr
    assert "starts with" in kit("agent", "preview", "--source", "nothing", code=2).stderr


def test_a_port_that_is_taken(lens: Lens, scene: Scene) -> None:
    with at(lens, scene) as port, pytest.raises(UsageError, match="free --port"):
        show(scene_of_source("shelf:seed=7"), port=port, lan_s=None)


def test_a_session_in_the_network_ends_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = itertools.count(0.0, 10.0)
    show(scene_of_source("shelf:seed=7"), port=0, lan_s=120.0, steady=lambda: next(seconds))
    out = capsys.readouterr().out
    assert "code: " in out
    assert "2 min)" in out
    assert "has ended" in out


def test_wrong_codes_end_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    def guess() -> None:
        said = ""
        while "code: " not in said:
            time.sleep(0.05)
            said += capsys.readouterr().out
        port = int(said.split("/\n")[0].rpartition(":")[2])
        for number in range(TRIES):
            ask(port, "/code", "POST", f"code={number}")

    guesser = threading.Thread(target=guess)
    guesser.start()
    with pytest.raises(UsageError, match="5 wrong"):
        show(scene_of_source("shelf:seed=7"), port=0, lan_s=120.0)
    guesser.join()


def test_sharpness_falls_with_every_turn_of_the_lens_in_any_light() -> None:
    picture = Film(7).frame(-1.0)
    counts = seen_part(picture.shape, (), 0)
    for light in (1.0, 0.4):
        noise, values = np.random.default_rng(1), []
        for blur in (0.3, 0.6, 1.0, 1.5, 2.5, 5.0):
            soft = cv2.convertScaleAbs(cv2.GaussianBlur(picture, (0, 0), blur), alpha=light)
            shown = cv2.add(soft, noise.integers(0, 5, picture.shape, np.uint8))
            values.append(Detail.of(np.asarray(shown, np.uint8), counts).meters().sharpness)
        assert values == sorted(values, reverse=True)
        assert values[0] > 2 * values[-1]


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_private_places_count_for_nothing(rotate: int) -> None:
    """Neither as black, nor with their borders: what is measured is that of the rest."""
    masks = ([(400, 200), (800, 200), (800, 500), (400, 500)],)
    grey = np.full((720, 1280, 3), 130, np.uint8)

    class Wall(Camera):
        def read(self) -> Frame:
            return Frame(grey, 0.0)

    camera: Camera = Masked(Wall(), masks)
    frame = (Rotated(camera, rotate) if rotate else camera).read()
    assert frame is not None
    meters = Detail.of(frame.image, seen_part(frame.image.shape, masks, rotate)).meters()
    assert (meters.sharpness, meters.under, meters.light) == (0.0, 0.0, 130.0)
    blind = Detail.of(frame.image, seen_part(frame.image.shape, (), rotate)).meters()
    assert blind.sharpness > 1
    assert blind.under > 0.1


def test_light_is_told_in_shares() -> None:
    picture = np.full((100, 200, 3), 100, np.uint8)
    picture[:, :50], picture[:, 150:] = 0, 255
    meters = Detail.of(picture, np.full((100, 200), 255, np.uint8)).meters()
    assert (meters.under, meters.over) == (0.25, 0.25)
    assert meters.light == pytest.approx((50 * 0 + 100 * 100 + 50 * 255) / 200)


@pytest.mark.parametrize(
    ("move", "said"),
    [
        ((0, 0, 0.0, 1.0), "where it should be"),
        ((30, 0, 0.0, 1.0), "30 px too far right"),
        ((-30, 12, 0.0, 1.0), "30 px too far left, 12 px too low"),
        ((0, 0, 1.5, 1.0), "clockwise"),
        ((0, 0, -1.5, 1.0), "counterclockwise"),
        ((0, 0, 0.0, 1.04), "4% too large"),
    ],
)
def test_where_the_shelf_is_in_words(move: tuple[int, int, float, float], said: str) -> None:
    film = Film(7)
    right, down, turn, growth = move
    # OpenCV counts angles the other way round.
    transform = cv2.getRotationMatrix2D((640, 360), -turn, growth)
    transform[:, 2] += right, down
    picture = cv2.warpAffine(film.frame(-1), transform, (1280, 720), borderMode=cv2.BORDER_REPLICATE)
    seen = Sight(film.reference()).see(Frame(np.asarray(picture, np.uint8), 0.0))
    told = place_words(seen)
    assert told is not None
    assert said in str(told["text"])
    if "clockwise" in said:
        assert ("counter" in str(told["text"])) == ("counter" in said)


def test_faults_as_the_agent_would_name_them() -> None:
    film = Film(7)
    sight = Sight(film.reference())
    dark = np.zeros((720, 1280, 3), np.uint8)
    assert sight.see(Frame(dark, 0.0)).faults == {CameraFault.DARK}
    assert sight.see(Frame(dark, 61.0)).faults == {CameraFault.DARK, CameraFault.FROZEN}
    white = np.full((720, 1280, 3), 255, np.uint8)
    assert sight.see(Frame(white, 62.0)).faults == {CameraFault.OVEREXPOSED}
    other = np.random.default_rng(1).integers(0, 255, (720, 1280, 3), np.uint8)
    seen = sight.see(Frame(other, 63.0))
    assert seen.move is None
    assert seen.placed is not None
    assert seen.placed.view is View.UNSURE
