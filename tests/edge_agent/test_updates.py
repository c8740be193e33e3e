"""The agent's side of updates: what it hears, shows, and passes on."""

import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.contracts import config
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.events import Kind
from edge_agent.contracts.messages import Reported, UpdatePhase, decode
from edge_agent.contracts.release import Place
from edge_agent.contracts.scoring import Floats
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.launched import Launched, launched
from edge_agent.mqtt import Connected, Delivered, Received
from edge_agent.renewal import HELD
from edge_agent.update.disk import read_small, write_whole
from edge_agent.update.machine import INFERENCES, RAN_ALREADY
from edge_agent.update.records import (
    Proof,
    Report,
    Source,
    Wish,
    decode_desired,
    decode_proof,
    encode_report,
)
from edge_agent.updates import Spent, Updates, bound_s
from tests.conftest import write_device
from tests.deploy.fleets import Authority

TOPICS = DeviceTopics("0417", "cam-12-01")
WISH = {"rollout": "spring", "attempt": 2, "release": 7, "window": "23:30-05:00"}
AWAY = Delivered((1, 1), ok=False, no_subscribers=False, reason="Not authorized")
TAKEN = Delivered((1, 2), ok=True, no_subscribers=False, reason="Success")


class Shelf:
    """An agent that is release 6, and its clock."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.place = Place(folder / "shelf")
        for name in ("exchange", "launcher"):
            (self.place.root / name).mkdir(parents=True, exist_ok=True)
        (folder / "state").mkdir(exist_ok=True)
        found = config.read(write_device(folder, self.place.current / "bundle", port=1, **more)).value
        assert found is not None
        self.device: DeviceConfig = found
        self.now = 1000.0
        self.updates = self.again()

    def again(self) -> Updates:
        started = Launched(self.place, 6, 4)
        return Updates(started, self.device, up_s=lambda: self.now, boot_id="b1")

    def hear(self, payload: object) -> None:
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.updates.notice(Received(TOPICS.desired, content, True, (1, 1, 1)))

    def step(self) -> None:
        self.now += 2
        self.updates.step(self.now)

    @property
    def proof(self) -> Proof:
        found = decode_proof(read_small(self.place.proof))
        assert found is not None
        return found

    def report(self, phase: str, reason: str | None = None) -> None:
        report = Report(phase, "spring", 2, 7, 6, reason)
        time = datetime(2026, 11, 26, tzinfo=UTC).isoformat()
        write_whole(self.place.reported, encode_report(report, boot_id="b1", time=time))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path, updates="{url: https://releases.example/}")


def test_the_updater_is_told_where_the_device_stands(tmp_path: Path) -> None:
    Shelf(tmp_path, updates="{url: https://releases.example/, zone: Asia/Tokyo}").hear(WISH)
    found = decode_desired(read_small(Place(tmp_path / "shelf").desired))
    assert found is not None
    assert found.zone == ZoneInfo("Asia/Tokyo")


def test_a_wish_reaches_the_updater(shelf: Shelf) -> None:
    shelf.hear({**WISH, "of_a_later_version": 1})
    found = decode_desired(read_small(shelf.place.desired))
    assert found is not None
    assert found.wish == Wish("spring", 2, 7, window=(23 * 60 + 30, 5 * 60))
    assert found.source == Source("https://releases.example/")
    shelf.hear(b"")
    found = decode_desired(read_small(shelf.place.desired))
    assert found is not None
    assert found.wish is None


@pytest.mark.parametrize("payload", [b"{", {"release": 7}, {**WISH, "window": "25:00-26:00"}, [1]])
def test_what_is_no_wish_is_left_out(shelf: Shelf, payload: object) -> None:
    shelf.hear(WISH)
    before = read_small(shelf.place.desired)
    shelf.hear(payload)
    assert read_small(shelf.place.desired) == before


def test_certificates_are_those_of_the_broker(tmp_path: Path) -> None:
    broker = "{host: b, tls: {ca: ca.pem, certificate: device.pem, key: device.key}}"
    shelf = Shelf(tmp_path, updates="{url: https://releases.example}", broker=broker)
    shelf.hear(WISH)
    found = decode_desired(read_small(shelf.place.desired))
    assert found is not None
    paths = [str(tmp_path / name) for name in ("ca.pem", "device.pem", "device.key")]
    assert found.source == Source("https://releases.example", *paths)
    # Once it was renewed, that one: a server that checks clients lets in no other after a year.
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    held = shelf.device.state_dir / HELD
    held.write_bytes(b"".join(authority.issue(shelf.device.device)))
    shelf.hear(WISH)
    found = decode_desired(read_small(shelf.place.desired))
    assert found is not None
    assert found.source == Source("https://releases.example", paths[0], str(held), str(held))


def test_a_wish_is_written_once_the_disk_takes_it(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    room = shelf.place.desired.parent
    room.rmdir()
    room.write_text("no folder")
    shelf.hear(WISH)
    assert "cannot be told" in caplog.text
    room.unlink()
    shelf.step()
    assert decode_desired(read_small(shelf.place.desired)) is not None


def test_a_release_shows_what_it_can(shelf: Shelf) -> None:
    shelf.step()
    assert shelf.proof == Proof(6, 4, "b1")
    for _ in range(3):
        shelf.updates.saw(shelf.now)
    shelf.updates.notice(AWAY)
    shelf.step()
    assert (shelf.proof.camera, shelf.proof.puback) == (True, False)
    shelf.updates.notice(TAKEN)
    shelf.step()
    assert (shelf.proof.puback, shelf.proof.linked_at) == (True, shelf.now - 2)
    shelf.now += 60
    shelf.step()
    assert not shelf.proof.camera, "pictures that no longer come"
    shelf.updates.safe_mode("device.yaml is wrong")
    shelf.step()
    assert shelf.proof.safe_mode == "device.yaml is wrong"


def test_a_disk_is_spared(shelf: Shelf) -> None:
    shelf.updates.notice(TAKEN)
    shelf.step()
    written = 0
    for _ in range(300):
        shelf.place.proof.unlink(missing_ok=True)
        shelf.updates.notice(TAKEN)
        shelf.step()
        written += shelf.place.proof.exists()
    assert written == 2, "in ten minutes in which nothing but the time has changed"


@pytest.mark.parametrize(("took", "in_time", "slow"), [(0.01, INFERENCES, None), (0.5, 0, 500.0)])
def test_inferences_are_timed_on_what_the_bundle_brings(
    took: float, in_time: int, slow: float | None
) -> None:
    class Model:
        def __init__(self) -> None:
            self.now = 0.0

        def probabilities(self, images: NDArray[np.uint8]) -> Floats:
            self.now += took
            return np.zeros((len(images), 2), np.float32)

    model = Model()
    spent = Spent(model, np.zeros((3, 8, 8, 3), np.uint8), 0.1, lambda: model.now)
    assert (spent.in_time, spent.slow_ms) == (in_time, slow)
    nothing = Spent(model, np.zeros((0, 8, 8, 3), np.uint8), 0.1, lambda: model.now)
    assert (nothing.in_time, nothing.slow_ms) == (0, None)


def test_a_whole_shelf_is_judged_before_its_answer_counts(shelf: Shelf) -> None:
    assert bound_s(shelf.device, 12) == pytest.approx(0.1)


def test_reports_go_out_once_and_again_on_a_new_connection(shelf: Shelf) -> None:
    shelf.step()
    assert shelf.updates.report() is None
    shelf.report("trial", "waits for: ready")
    shelf.step()
    publication = shelf.updates.report()
    assert publication is not None
    assert (publication.topic, publication.retain) == (TOPICS.reported, True)
    assert decode(Reported, publication.payload).phase is UpdatePhase.TRIAL
    assert shelf.updates.phase is UpdatePhase.TRIAL
    shelf.updates.told()
    shelf.step()
    assert shelf.updates.report() is None
    shelf.updates.notice(Connected(20, "5"))
    assert shelf.updates.report() is not None


def test_the_end_of_an_update_is_told_once(shelf: Shelf) -> None:
    shelf.report("trial")
    shelf.step()
    assert shelf.updates.news() is None
    shelf.report("rolled_back", "ended 2 times by itself: signal SEGV")
    shelf.step()
    told = (Kind.UPDATE_ROLLED_BACK, "release 7: ended 2 times by itself: signal SEGV")
    assert shelf.updates.news() == told
    # The power goes before it is among the events: it is told by the next process.
    shelf.updates = shelf.again()
    shelf.step()
    assert shelf.updates.news() == told
    shelf.updates.announced()
    assert shelf.updates.news() is None
    shelf.updates = shelf.again()
    shelf.step()
    assert shelf.updates.news() is None
    shelf.report("committed", RAN_ALREADY)
    shelf.step()
    assert shelf.updates.news() is None, "nothing has changed"
    shelf.report("committed")
    shelf.step()
    assert shelf.updates.news() == (Kind.UPDATE_COMMITTED, "release 7")


def test_a_report_that_cannot_be_read_is_left_out(shelf: Shelf) -> None:
    shelf.place.reported.write_text("{}")
    shelf.step()
    assert (shelf.updates.phase, shelf.updates.report()) == (None, None)


def test_a_release_looks_at_its_own_bundle(shelf: Shelf, tmp_path: Path) -> None:
    environ = {"SHELFKIT_RELEASES": str(shelf.place.root), "SHELFKIT_RELEASE": "6", "SHELFKIT_START": "4"}
    found = launched(environ)
    assert found == Launched(shelf.place, 6, 4)
    assert found.placed(shelf.device).bundle == shelf.place.release(6) / "bundle"
    other = shelf.device.model_copy(update={"bundle": tmp_path / "mine"})
    assert found.placed(other).bundle == tmp_path / "mine"
    assert launched({}) is None
    assert launched(environ | {"SHELFKIT_START": "x"}) is None
