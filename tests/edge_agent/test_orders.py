"""Commands, pushed planograms, last good configurations and the schedule, without a process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import lastgood, pushed
from edge_agent.commands import Commands, Handler, Requests
from edge_agent.contracts import config, planogram
from edge_agent.contracts.errors import ConfigError, DeviceError, KitError
from edge_agent.contracts.messages import Command, SetLogLevel, SetPlanogram, TakeSnapshot
from edge_agent.contracts.pictures import size_of
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.memory import Memory
from edge_agent.mqtt import Received
from edge_agent.pushed import Place
from edge_agent.recalibrate import recalibrated
from edge_agent.schedule import Schedule
from tests.conftest import write_device
from tests.edge_agent.test_agent import SLOTS, Shelf, picture

TOPICS = DeviceTopics("1", "cam")
TEXT = """
shelf: "12"
reference: ../../etc/passwd
products: [{label: tea, name: Tea}]
slots: [{id: A1, quad: [[60, 60], [140, 60], [140, 160], [60, 160]], product: tea}]
"""
LABELS = ["empty", "tea", "jam"]


def commands(folder: Path, done: list[Command]) -> Commands:
    """Return commands that note what is asked."""

    def do(command: Command) -> Mapping[str, object]:
        done.append(command)
        if isinstance(command, TakeSnapshot):
            raise DeviceError("Expected: a camera. Received: none.", hint="look at it")
        return {"seen": len(done)}

    models: dict[str, type[Command]] = {
        "ping": Command,
        "set-planogram": SetPlanogram,
        "set-log-level": SetLogLevel,
    }
    models["snapshot"] = TakeSnapshot
    handlers = {name: Handler(model, do) for name, model in models.items()}
    return Commands(TOPICS, Requests(folder), handlers)


def asked(name: str, payload: bytes, *, retain: bool = False) -> Received:
    return Received(TOPICS.command(name), payload, retain, (1, 1, 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
payloads = st.binary(max_size=200) | st.dictionaries(
    st.sampled_from(["request", "planogram", "reference", "level", "width", "x"]), json_values
).map(lambda value: json.dumps(value).encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    name=st.sampled_from(["ping", "set-planogram", "set-log-level", "snapshot", "dance", "", "a/b"]),
    payload=payloads,
)
def test_no_payload_does_more_than_be_refused(tmp_path: Path, name: str, payload: bytes) -> None:
    done: list[Command] = []
    answer = commands(tmp_path, done).answer(asked(name, payload))
    if answer is None:
        assert done == []
        return
    reply = json.loads(answer.payload)
    assert answer.topic == TOPICS.reply(name)
    assert reply["request"] == json.loads(payload)["request"]
    assert reply["ok"] is (bool(done) and name != "snapshot")
    assert reply["ok"] or reply["error"]


def test_a_request_is_done_once_even_over_a_restart(tmp_path: Path) -> None:
    done: list[Command] = []
    first = commands(tmp_path, done)
    assert first.answer(asked("ping", b'{"request": "a"}')) is not None
    assert first.answer(asked("ping", b'{"request": "a"}')) is None
    assert commands(tmp_path, done).answer(asked("ping", b'{"request": "a"}')) is None
    assert commands(tmp_path, done).answer(asked("ping", b'{"request": "b"}', retain=True)) is None
    assert len(done) == 1
    for number in range(300):
        first.answer(asked("ping", b'{"request": "%d"}' % number))
    assert len(json.loads((tmp_path / "requests.json").read_text())) == 100


@pytest.mark.parametrize("content", [b"", b"{", b"[1, null, {}]", b"\xff", b"[" * 100_000, b'{"a": 1}'])
def test_a_broken_list_of_requests_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "requests.json").write_bytes(content)
    assert Requests(tmp_path).first_time("a")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | json_values.map(json.dumps))
def test_no_text_is_more_than_a_planogram_that_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(KitError):
        pushed.received(text, None, tmp_path, before=tmp_path / "none.jpg", labels=LABELS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"]))
def test_no_bytes_are_more_than_a_picture_that_is_refused(tmp_path: Path, noise: bytes, head: bytes) -> None:
    with pytest.raises(ConfigError):
        pushed.received(TEXT, head + noise, tmp_path, before=None, labels=LABELS)


def test_a_picture_that_claims_to_be_huge_is_not_decoded(tmp_path: Path) -> None:
    _, data = cv2.imencode(".png", picture())
    claims = bytearray(data.tobytes())
    claims[16:24] = (60_000).to_bytes(4) * 2
    with pytest.raises(ConfigError, match="60000"):
        pushed.received(TEXT, bytes(claims), tmp_path, before=None, labels=LABELS)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(225, 400), (1, 1), (300, 7)])
def test_the_size_of_a_picture_is_in_its_head(suffix: str, size: tuple[int, int]) -> None:
    _, data = cv2.imencode(suffix, np.zeros((*size, 3), np.uint8))
    assert size_of(data.tobytes()) == (size[1], size[0])


def file_on_device(folder: Path) -> Path:
    cv2.imwrite(str(folder / "reference.png"), picture())
    path = folder / "planogram.yaml"
    path.write_text(TEXT.replace("../../etc/passwd", "reference.png"))
    return path


def other_planogram(folder: Path, name: str = "Other tea") -> Planogram:
    room = folder / "room"
    room.mkdir(exist_ok=True)
    _, data = cv2.imencode(".png", picture(3))
    text = TEXT.replace("name: Tea", f"name: {name}")
    return pushed.received(text, data.tobytes(), room, before=None, labels=LABELS)


def test_the_pushed_planogram_holds_until_the_file_is_changed(tmp_path: Path) -> None:
    path = file_on_device(tmp_path)
    place = Place(path, tmp_path / "state")
    (tmp_path / "state").mkdir()
    assert place.now == path
    kept = place.push(other_planogram(tmp_path))
    assert Place(path, tmp_path / "state").now == kept
    read = planogram.read(kept, known_labels=LABELS).require()
    assert read.products[0].name == "Other tea"
    assert read.reference.parent == kept.parent
    again = place.push(other_planogram(tmp_path, "Third tea"))
    assert place.now == again
    assert not kept.exists()
    cv2.imwrite(str(tmp_path / "reference.png"), picture(9))
    assert place.now == path


@pytest.mark.parametrize("content", [b"", b"{}", b'{"folder": "../..", "over": "x"}', b"\xff\x00"])
def test_a_broken_pointer_is_none(tmp_path: Path, content: bytes) -> None:
    path = file_on_device(tmp_path)
    (tmp_path / "planogram.json").write_bytes(content)
    assert Place(path, tmp_path).now == path


def test_slots_go_to_where_the_shelf_is_now(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    move = np.array([[1, 0, 12.0], [0, 1, -9.0]])
    shown = np.asarray(cv2.warpAffine(picture(1), move, (400, 225), borderMode=cv2.BORDER_REFLECT), np.uint8)
    found = recalibrated(shelf.planogram, picture(), shown, shown)
    for before, after in zip(shelf.planogram.slots, found.slots, strict=True):
        assert np.abs(np.array(after.quad) - np.array(before.quad) - [12, -9]).max() < 1.5


@pytest.mark.parametrize(
    ("frame", "earlier", "said"),
    [
        (picture(1), picture(2, A1="empty"), "moves"),
        (np.zeros((225, 400, 3), np.uint8), picture(), "dark"),
        (np.random.default_rng(1).integers(0, 255, (225, 400, 3), np.uint8), None, "not found"),
    ],
)
def test_a_picture_that_cannot_be_the_reference(
    tmp_path: Path, frame: np.ndarray, earlier: np.ndarray | None, said: str
) -> None:
    with pytest.raises(DeviceError, match=said):
        recalibrated(Shelf(tmp_path).planogram, picture(), frame, frame if earlier is None else earlier)


def device(folder: Path, state: str = "state") -> config.DeviceConfig:
    path = write_device(folder, folder / "bundle", state_dir=state)
    found = config.read(path).require()
    found.state_dir.mkdir(exist_ok=True)
    return found


@pytest.mark.parametrize(
    "content",
    ["state_dir: state\nbroken: [", "state_dir: 'state' # here\n\tx", "state_dir: state\nrules: 7\n"],
)
def test_the_last_good_configuration_is_found_by_what_the_broken_one_says(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    good = device(tmp_path)
    lastgood.keep(tmp_path / "device.yaml", good)
    (tmp_path / "device.yaml").write_text(content)
    assert lastgood.find(tmp_path / "device.yaml") == good
    assert (good.state_dir / "last-good.json").stat().st_mode & 0o777 == 0o600


def test_the_last_good_configuration_of_another_device_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = device(tmp_path)
    lastgood.keep(tmp_path / "device.yaml", good)
    monkeypatch.setenv("STATE_DIRECTORY", f"{good.state_dir}:/elsewhere")
    assert lastgood.find(tmp_path / "other.yaml") is None
    (tmp_path / "device.yaml").unlink()
    assert lastgood.find(tmp_path / "device.yaml") == good
    (good.state_dir / "last-good.json").write_text("{}")
    assert lastgood.find(tmp_path / "device.yaml") is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), min_size=1, max_size=60), st.floats(6, 900))
def test_rare_pictures_come_in_short_rows(frames: list[tuple[bool, float]], interval: float) -> None:
    schedule, due, now, starts = Schedule(interval, 12.0), 0.0, 0.0, [0.0]
    for settled, took in frames:
        now = due + took
        following = schedule.after(due, now, settled=settled)
        assert now <= following <= max(starts[-1] + interval, now) or following == now + 0.5
        if following != now + 0.5:
            assert settled or now - starts[-1] >= 12
            starts.append(following)
        due = following


@given(st.floats(0.02, 5), st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_a_slow_frame_is_no_reason_to_hurry(interval: float, took: list[float]) -> None:
    schedule, due = Schedule(interval, 12.0), 0.0
    for seconds in took:
        now = due + seconds
        assert schedule.after(due, now, settled=False) == max(due + interval, now)
        due = max(due + interval, now)


@dataclass
class Case:
    shelf: str
    facings: dict[str, tuple[str, ...]]
    slots: set[str]
    products: set[str]


@pytest.mark.parametrize(
    "case",
    [
        Case("12", {"tea": ("A1", "A2"), "jam": ("B1",)}, {"A1", "A2", "B1"}, {"tea", "jam"}),
        Case("12", {"tea": ("A1",), "jam": ("B1",)}, {"B1"}, {"jam"}),
        Case("12", {"tea": ("A1", "A2"), "jam": ("B1", "B2")}, {"A1", "A2"}, {"tea"}),
        Case("12", {"tea": ("A1", "B1"), "jam": ("A2",)}, set(), set()),
        Case("13", {"tea": ("A1", "A2"), "jam": ("B1",)}, set(), set()),
    ],
)
def test_what_is_the_same_product_in_the_same_slots_stays_known(tmp_path: Path, case: Case) -> None:
    shelf = Shelf(tmp_path)
    shelf.show()
    before = shelf.outbox.memory()
    assert set(before.slots) == set(SLOTS)
    after = before.under("another", case.shelf, case.facings)
    assert (set(after.slots), set(after.products)) == (case.slots, case.products)
    assert before.under(before.planogram, "whatever", {}) == before
    assert Memory().under("another", case.shelf, case.facings).slots == {}


def test_a_shelf_that_was_moved_in_the_picture_tells_nothing_twice(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.show()
    assert shelf.show(A1="empty") == ["slot-changed A1", "low-stock tea 1/2"]
    moved = [
        slot.model_copy(update={"quad": tuple((x + 2, y + 1) for x, y in slot.quad)})
        for slot in shelf.planogram.slots
    ]
    shelf.planogram = shelf.planogram.model_copy(update={"slots": moved})
    shelf.agent = shelf.fresh()
    assert shelf.show(A1="empty") == []
    assert shelf.show() == ["slot-changed A1", "restocked tea 2/2"]
