"""From rows to a planogram: tiles that fit, on the shelf and in the picture; right, or refused."""

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import draw
from edge_agent.__main__ import app
from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.shelf.layout import places
from edge_agent.contracts import planogram
from edge_agent.contracts.command import run_command
from edge_agent.contracts.errors import DataError, DeviceError, UsageError
from edge_agent.contracts.photos import read_picture
from edge_agent.draw_command import first_good
from tests.conftest import Kit

WIDTH, HEIGHT = 1920, 1080


@st.composite
def rows(draw_: st.DrawFn) -> draw.Row:
    """A row as a camera may see it: a rectangle, and each corner anywhere near its own."""
    left, top = draw_(st.integers(0, 400)), draw_(st.integers(0, 300))
    right, bottom = draw_(st.integers(1200, WIDTH)), draw_(st.integers(600, HEIGHT))
    near = st.floats(0, 120)

    def corner(x: float, y: float, inwards: tuple[int, int]) -> planogram.Point:
        return x + inwards[0] * draw_(near), y + inwards[1] * draw_(near)

    quad = (
        corner(left, top, (1, 1)),
        corner(right, top, (-1, 1)),
        corner(right, bottom, (-1, -1)),
        corner(left, bottom, (1, -1)),
    )
    widths = draw_(st.lists(st.floats(1, 4), min_size=1, max_size=12))
    return draw.Row("A", quad, tuple(widths))


def area(quad: draw.Quad) -> float:
    corners = np.array(quad)
    following = np.roll(corners, -1, axis=0)
    return float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum() / 2)


@given(rows())
def test_slots_tile_their_row(row: draw.Row) -> None:
    """Neighbours share two corners, and together they are the row: nothing is left out or counted twice."""
    found = [quad for _, quad in row.slots()]
    for quad in found:
        # Convex and clockwise, as the contract wants it.
        planogram.Slot(id="A1", quad=quad, product="x")
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in quad)
    for one, other in pairwise(found):
        assert (one[1], one[2]) == (other[0], other[3])
    ends = (found[0][0], found[-1][1], found[-1][2], found[0][3])
    assert np.allclose(ends, row.quad, atol=0.06)
    assert sum(map(area, found)) == pytest.approx(area(row.quad), rel=2e-3)


@given(rows(), st.floats(0, 20))
def test_a_gap_is_as_wide_as_it_was_asked_for(row: draw.Row, gap: float) -> None:
    found = [quad for _, quad in row.slots(gap)]
    for one, other in pairwise(found):
        for before, after in ((one[1], other[0]), (one[2], other[3])):
            assert np.hypot(after[0] - before[0], after[1] - before[1]) == pytest.approx(gap, abs=0.15)
    assert np.allclose((found[0][0], found[-1][2]), (row.quad[0], row.quad[2]), atol=0.06)
    assert sum(map(area, found)) <= area(row.quad) * 1.002


@given(rows())
def test_what_is_equal_on_the_shelf_is_equal_there(row: draw.Row) -> None:
    """Corners, taken back to the shelf by an own homography, lie where the widths say."""
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    back = cv2.getPerspectiveTransform(np.array(row.quad, np.float32), unit)
    marks = np.array([quad[1] for _, quad in row.slots()], np.float64)[None]
    across = cv2.perspectiveTransform(marks, back)[0, :, 0]
    assert np.allclose(across, np.cumsum(row.widths) / sum(row.widths), atol=2e-3)


def test_far_slots_are_narrower_than_near_ones() -> None:
    row = draw.parse_row("A: 100,100 900,200 900,400 100,500 / 4")
    widths = [quad[1][0] - quad[0][0] for _, quad in row.slots()]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1.5 * widths[-1]


WRONG_ROWS = {
    "410,80 1500,60 1510,300 405,310 / 8": "NAME: four corners",
    "A: 410,80 1500,60 1510,300 405,310": "NAME: four corners",
    "A b: 410,80 1500,60 1510,300 405,310 / 8": "letters, digits",
    "A: 410,80 1500,60 1510,300 / 8": "four corners x,y",
    "A: 410,80 1500,60 1510,300 405;310 / 8": "four corners x,y",
    "A: 410,80 1500,60 1510,300 405,nan / 8": "four corners x,y",
    "A: 410,80 405,310 1510,300 1500,60 / 8": "the other way round",
    "A: 410,80 1510,300 1500,60 405,310 / 8": "two sides cross",
    "A: 405,310 410,80 1500,60 1510,300 / 8": "from the top left to the top right",
    "A: 410,80 1500,60 1510,300 405,310 / 0": "1 to 200 columns",
    "A: 410,80 1500,60 1510,300 405,310 / many": "1 to 200 columns",
    "A: 410,80 1500,60 1510,300 405,310 / 2.5": "1 to 200 columns",
    "A: 410,80 1500,60 1510,300 405,310 / 1e9": "1 to 200 columns",
    "A: 410,80 1500,60 1510,300 405,310 / 1,-1": "1 to 200 columns",
    "A: 410,80 1500,60 1510,300 405,310 / 1,nan": "1 to 200 columns",
    "A: 410,80 1500,60 1510,300 405,310 / 2*x": "behind the *",
}


@pytest.mark.parametrize(("text", "said"), WRONG_ROWS.items())
def test_a_row_that_is_none_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("*", r"\*")):
        draw.parse_row(text)


def test_too_many_columns_are_refused() -> None:
    row = draw.parse_row("A: 100,100 200,100 200,200 100,200 / 20")
    with pytest.raises(UsageError, match="A1 with 5 px"):
        row.slots()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture as large as the rendered shelf's, and quicker to come by."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    picture = np.random.default_rng(3).integers(60, 90, (720, 1280, 3), np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(picture, (0, 0), 3))
    return path


ROW_A = ("--row", "A: 48,30 1232,30 1232,356 48,356 / 142*2,208*2,120*3,124")
ROW_B = ("--row", "B: 48,432 1232,432 1232,666 48,666 / 133*3,149*2,217,135*2")
IN_A = ("--products", "milk-carton*2,cereal-box*2,water-bottle*3,ketchup-bottle")
IN_B = ("--products", "cola-can*3,tomato-tin*2,tea-box,jam-jar*2")


def test_a_rendered_shelf_is_drawn_as_it_stands(kit: Kit, tmp_path: Path, bundle_folder: Path) -> None:
    options = ("--source", "shelf:seed=7", *ROW_A, *IN_A, *ROW_B, *IN_B, "--gap", 6, "--low-at", "cola-can=1")
    more = ("--shelf", "12", "--labels-from", bundle_folder, "--name", "cola-can=Cola", "--json")
    told = json.loads(kit("agent", "slots", *options, *more, "--out", tmp_path / "shelf").stdout)
    made = planogram.read(tmp_path / "shelf" / "planogram.yaml").require()
    assert (made.shelf, told["width"], told["height"]) == ("12", 1280, 720)
    truth = places()
    assert [(slot.id, slot.product) for slot in made.slots] == [(p.id, p.product) for p in truth.values()]
    for slot in made.slots:
        left, top, right, bottom = truth[slot.id].box
        # Drawn by eye: within a few px of where the shelf was drawn, its rows' own ends included.
        assert np.allclose(slot.quad, [(left, top), (right, top), (right, bottom), (left, bottom)], atol=5)
    (cola,) = [product for product in made.products if product.label == "cola-can"]
    assert (cola.name, cola.low_at) == ("Cola", 1)
    assert read_picture(made.reference).shape == (720, 1280, 3)
    assert told["slots"][0] == {
        "id": "A1",
        "product": "milk-carton",
        "quad": [list(p) for p in made.slots[0].quad],
    }


def test_every_slot_is_drawn_for_the_eye(kit: Kit, tmp_path: Path, photo: Path) -> None:
    folder = tmp_path / "shelf"
    kit("agent", "slots", "--reference", photo, *ROW_A, *IN_A, "--out", folder)
    plain, shown = (read_picture(folder / name).astype(int) for name in ("reference.jpg", "slots.jpg"))
    changed = np.abs(plain - shown).max(axis=2) > 60
    for slot in planogram.read(folder / "planogram.yaml").require().slots:
        x, y = np.array(slot.quad).round().astype(int)[0]
        assert changed[y - 2 : y + 3, x - 2 : x + 3].all(), slot.id
    # Nothing is drawn where there is no slot.
    assert not changed[400:].any()
    done = kit("agent", "slots", "--show", folder / "planogram.yaml", "--out", tmp_path / "again.jpg")
    assert "8 slots" in done.stdout
    assert (tmp_path / "again.jpg").read_bytes() == (folder / "slots.jpg").read_bytes()


def test_a_picture_instead_of_a_camera(kit: Kit, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((300, 400, 3), 90, np.uint8))
    row = ("--row", "A: 0,0 400,0 400,300 0,300 / 2", "--products", "Käse 1 kg,牛乳")
    kit("agent", "slots", "--reference", "photo.png", *row, "--out", "shelf", cwd=tmp_path)
    made = planogram.read(tmp_path / "shelf" / "planogram.yaml").require()
    assert [product.label for product in made.products] == ["Käse 1 kg", "牛乳"]


def test_a_planogram_that_is_there_is_replaced_only_when_asked(kit: Kit, tmp_path: Path, photo: Path) -> None:
    options = ("--reference", photo, *ROW_A, "--out", tmp_path / "shelf")
    kit("agent", "slots", *options, *IN_A)
    before = (tmp_path / "shelf" / "planogram.yaml").read_bytes()
    assert "--force" in kit("agent", "slots", *options, "--products", "tea-box", code=2).stderr
    assert (tmp_path / "shelf" / "planogram.yaml").read_bytes() == before
    kit("agent", "slots", *options, "--products", "tea-box", "--force")
    made = planogram.read(tmp_path / "shelf" / "planogram.yaml").require()
    assert {slot.product for slot in made.slots} == {"tea-box"}
    assert sorted(path.name for path in (tmp_path / "shelf").iterdir()) == [
        "planogram.yaml",
        "reference.jpg",
        "slots.jpg",
    ]


PHOTO, CAMERA = ("--reference", "PHOTO"), ("--source", "shelf:seed=7")
MISTAKES = {
    "no picture": ([*ROW_A, *IN_A], 2, "--source or --reference"),
    "two pictures": ([*PHOTO, "--source", "shelf:seed=7", *ROW_A, *IN_A], 2, "both"),
    "no row": ([*PHOTO], 2, "at least one --row"),
    "no products": ([*PHOTO, *ROW_A], 2, "as many --products as --row"),
    "too few products": ([*PHOTO, *ROW_A, "--products", "tea-box,cola-can"], 2, "for 8 slots"),
    "no label": ([*PHOTO, *ROW_A, "--products", "tea-box*7,"], 2, "product ''"),
    "the reserved label": ([*PHOTO, *ROW_A, "--products", "empty"], 2, "reserved"),
    "a row twice": ([*PHOTO, *ROW_A, *IN_A, *ROW_A, *IN_A], 2, "A1, A2"),
    "outside": ([*PHOTO, "--row", "A: 0,0 1281,0 1281,99 0,99 / 2", "--products", "x"], 2, "1281,0 1281,99"),
    "no such camera": (["--source", "webcam", *ROW_A, *IN_A], 2, "starts with one of"),
    "no such size": ([*CAMERA, "--size", "large", *ROW_A, *IN_A], 2, "--size"),
    "no such turn": ([*CAMERA, "--rotate", "45", *ROW_A, *IN_A], 2, "--rotate"),
    "no such clip": (["--source", "file:nowhere.mp4", *ROW_A, *IN_A], 4, "nowhere.mp4"),
    "no such photo": (["--reference", "nowhere.jpg", *ROW_A, *IN_A], 4, "nowhere.jpg"),
    "a wrong GTIN": ([*PHOTO, *ROW_A, *IN_A, "--gtin", "milk-carton=123"], 2, "GTIN of 8"),
    "a strange GTIN": ([*PHOTO, *ROW_A, *IN_A, "--gtin", "mlik=09506000134352"], 2, "mlik"),
    "no value": ([*PHOTO, *ROW_A, *IN_A, "--name", "milk-carton"], 2, "LABEL=VALUE"),
    "no such bundle": ([*PHOTO, *ROW_A, *IN_A, "--labels-from", "nowhere"], 6, "manifest.json"),
    "a wrong shelf": ([*PHOTO, *ROW_A, *IN_A, "--shelf", "a/b"], 2, "shelf"),
    "show and more": ([*PHOTO, "--show", "planogram.yaml"], 2, "--show with --out alone"),
    "show nothing": (["--show", "nowhere.yaml"], 2, "ends in .jpg"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_message_and_writes_nothing(
    tmp_path: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    here = [str(photo) if word == "PHOTO" else word for word in arguments]
    assert run_command(lambda: app(["slots", *here, "--out", "shelf"])) == code
    out, err = capsys.readouterr()
    assert said in err
    assert err.startswith("error: Expected: ") or code == 4
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_label_that_the_bundle_does_not_know_is_refused(
    kit: Kit, tmp_path: Path, photo: Path, bundle_folder: Path
) -> None:
    options = ("--reference", photo, *ROW_A, "--products", "tea-bxo", "--labels-from", bundle_folder)
    said = kit("agent", "slots", *options, "--out", "shelf", code=3, cwd=tmp_path).stderr
    assert "label of the bundle" in said
    assert "tea-bxo" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_rows_that_lie_over_each_other_are_told(kit: Kit, tmp_path: Path, photo: Path) -> None:
    over = ("--row", "B: 48,200 1232,200 1232,500 48,500 / 2", "--products", "tea-box")
    done = kit("agent", "slots", "--reference", photo, *ROW_A, *IN_A, *over, "--out", tmp_path / "shelf")
    assert "A and B overlap by 52%" in done.stderr


class Script(Camera):
    """Frames and failures, one after another."""

    def __init__(self, *steps: Frame | DeviceError) -> None:
        self._steps = list(steps)

    def read(self) -> Frame | None:
        """Return or raise the next."""
        step = self._steps.pop(0) if self._steps else None
        if isinstance(step, DeviceError):
            raise step
        return step


def level(value: int, at: float, spread: int = 40) -> Frame:
    picture = np.full((90, 160, 3), value, np.uint8)
    picture[20:60, 20:80] = min(value + spread, 255)
    return Frame(picture, at)


def test_the_first_good_frame() -> None:
    lost = DeviceError("none")
    good = level(100, 3.0)
    camera = Script(lost, level(0, 0.0, 10), lost, level(255, 1.0), level(90, 2.0, 0), good, level(110, 4.0))
    assert first_good(camera, settle_s=0.5) is good.image


def test_a_camera_is_given_a_moment_to_find_its_exposure() -> None:
    frames = [level(200 - 10 * step, 0.25 * step) for step in range(8)]
    assert first_good(Script(*frames), settle_s=1.0) is frames[4].image


def test_a_camera_without_a_good_frame() -> None:
    with pytest.raises(DataError, match="dark"):
        first_good(Script(level(2, 0.0, 0), level(3, 1.0, 0)), settle_s=0)
    with pytest.raises(DeviceError, match="none"):
        first_good(Script(*[DeviceError("none")] * 9), settle_s=0)
