"""The updater and what can go wrong around it: network, disk, clock, and people who change their minds."""

import contextlib
import shutil
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from edge_agent.contracts import messages
from edge_agent.contracts.errors import BundleError, DeviceError, ServiceError
from edge_agent.contracts.release import Place
from edge_agent.update import launcher, slots, state
from edge_agent.update.fetch import Repository
from edge_agent.update.install import install
from edge_agent.update.machine import Effect, Phase
from edge_agent.update.records import Desired, End, Proof, Source, encode_desired, encode_proof
from edge_agent.update.state import State
from edge_agent.update.updater import Pace
from tests.deploy.releases import Shelf, World
from tests.shops import small_disk


@pytest.fixture
def shelf(world: World) -> Shelf:
    """A device that runs release 2."""
    install(world.place, str(world.offered.folder), "amd64", number=2, now=lambda: world.now)
    return Shelf(world)


def test_what_cannot_be_reached_is_tried_again_and_held_against_nobody(shelf: Shelf) -> None:
    """Slow network counted as a bad release (mender-convert #46)."""
    shelf.want(3, url="http://127.0.0.1:9/")
    assert shelf.phase()[0] == Phase.WAITING
    shelf.want(3)
    assert shelf.phase()[0] == Phase.WAITING
    shelf.up_s += 60
    assert shelf.phase()[0] == Phase.TRIAL
    assert state.load(shelf.place).bad == {}


def test_a_clock_that_is_wrong_is_no_fault_of_a_release(shelf: Shelf) -> None:
    shelf.want(3)
    shelf.world.later(days=90)
    phase, reason = shelf.phase()
    assert (phase, "expired" in reason) == (Phase.WAITING, True)
    shelf.world.later(days=-90)
    shelf.up_s += 60
    assert shelf.phase()[0] == Phase.TRIAL


@pytest.mark.parametrize(
    ("zone", "phase"),
    [("UTC", Phase.WAITING), ("Asia/Tokyo", Phase.TRIAL), ("America/Chicago", Phase.WAITING)],
)
def test_a_window_is_in_the_zone_of_the_device(shelf: Shelf, zone: str, phase: Phase) -> None:
    local = shelf.world.now.astimezone(ZoneInfo("Asia/Tokyo"))
    window = f"{local - timedelta(hours=1):%H:%M}-{local + timedelta(hours=1):%H:%M}"
    shelf.want(3, zone=ZoneInfo(zone), window=window)
    assert shelf.phase()[0] == phase


def test_waits_become_longer(shelf: Shelf) -> None:
    shelf.want(9)
    tried = []
    for _ in range(1000):
        if shelf.updater.tick().effect is Effect.FETCH:
            tried.append(shelf.up_s)
        shelf.up_s += 20
    gaps = [after - before for before, after in pairwise(tried)]
    assert gaps[:3] == [60, 120, 240]
    assert max(gaps) == 3600
    assert shelf.phase()[0] == Phase.REFUSED


def test_less_room_than_twice_of_what_comes(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.want(3)
    monkeypatch.setattr(slots, "free", lambda _: 10)
    phase, reason = shelf.phase()
    assert (phase, "MB free" in reason) == (Phase.REFUSED, True)
    monkeypatch.undo()
    shelf.up_s += 60
    assert shelf.phase()[0] == Phase.TRIAL


def test_a_lower_number_needs_the_owners_word(shelf: Shelf) -> None:
    shelf.want(1)
    phase, reason = shelf.phase()
    assert (phase, "above 2" in reason) == (Phase.REFUSED, True)
    assert shelf.updater.tick().effect is Effect.NOTHING
    allowed = replace(shelf.world.offered.release(3, "amd64"), number=4, downgrade=True)
    shelf.world.offered.offer([allowed], shelf.world.now)
    state.save(shelf.place, State(good=5))
    shelf.want(4, rollout="back")
    assert shelf.phase()[0] == Phase.TRIAL


@pytest.mark.parametrize("other", [None, 2])
def test_a_download_ends_when_it_is_not_wanted_any_more(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, other: int | None
) -> None:
    """A broken deployment cannot be cancelled (Greengrass #1161)."""
    shelf.want(3)
    real = Repository.download

    def slowly(self: Repository, *args: object, **more: object) -> Path:
        shelf.want(other, attempt=2)
        return real(self, *args, **more)  # type: ignore[arg-type] # handed on

    monkeypatch.setattr(Repository, "download", slowly)
    shelf.updater.tick()
    known = state.load(shelf.place)
    assert (known.trial, known.bad) == (None, {})
    assert shelf.restarts == 0
    assert state.on_disk(shelf.place) == [2]


@pytest.mark.parametrize("ready", [False, True])
def test_a_slow_download_hides_nothing_of_the_device(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    """Where nothing is ready the machine is helped first; where all is well it is left alone."""
    shelf.want(3)
    real = Repository.download
    if ready:
        launcher.launch(shelf.place, ["run"], boot="b1", at=1.0, execute=lambda *_: None)
        shelf.place.proof.write_bytes(encode_proof(Proof(release=2, start=1, boot_id="b1")))

    def slowly(self: Repository, *args: object, **more: object) -> Path:
        shelf.up_s += 1000
        real(self, *args, **more)  # type: ignore[arg-type] # handed on
        raise ServiceError("Expected: the rest. Received: nothing.")

    monkeypatch.setattr(Repository, "download", slowly)
    shelf.updater.tick()
    told = shelf.updater.told
    assert told is not None
    assert told.phase == (Phase.WAITING if ready else Phase.DOWNLOADING)
    assert (shelf.phase()[0], shelf.reboots) == (Phase.WAITING, 0 if ready else 1)


def test_devices_of_a_rollout_begin_at_their_own_moment(tmp_path: Path, shelf: Shelf) -> None:
    begun = []
    for name in ("a", "b", "c", "d", "e", "f"):
        shelf.pace = Pace(name, jitter_s=100)
        shelf.updater = shelf.made()
        shelf.want(9)
        begin = shelf.up_s
        while shelf.updater.tick().effect is not Effect.FETCH:
            shelf.up_s += 5
        begun.append(shelf.up_s - begin)
    assert len(set(begun)) >= 4
    assert max(begun) <= 105
    assert tmp_path.exists()


def test_where_updates_come_from_must_be_said(shelf: Shelf) -> None:
    shelf.want(3, url=None)
    phase, reason = shelf.phase()
    assert (phase, "updates.url" in reason) == (Phase.REFUSED, True)


def test_the_updater_shows_nobody_elses_certificate(shelf: Shelf, tmp_path: Path) -> None:
    shelf.want(3)
    source = Source("https://repository.example", str(tmp_path / "root-only.pem"), None, None)
    wish = {"rollout": "r", "attempt": 1, "release": 3}
    shelf.place.desired.write_bytes(encode_desired(Desired(source=source), wish))
    phase, reason = shelf.phase()
    assert (phase, "certificates below" in reason) == (Phase.REFUSED, True)


def test_a_release_from_a_stick(shelf: Shelf) -> None:
    folder = str(shelf.world.offered.folder)
    assert shelf.updater.apply(folder, 2) == (2, False)
    assert (shelf.restarts, state.load(shelf.place).trial) == (0, None)
    assert shelf.updater.apply(folder, None) == (3, True)
    assert shelf.restarts == 1
    with pytest.raises(DeviceError, match="3 on trial"):
        shelf.updater.apply(folder, None)
    for _ in range(2):
        crashes(shelf)
        shelf.updater.tick()
    assert 3 in state.load(shelf.place).bad
    # A person at the device may try it again; a wrong number is refused where it is said.
    assert shelf.updater.apply(folder, 3) == (3, True)
    state.save(shelf.place, State(good=2))
    with pytest.raises(BundleError, match="above 2"):
        shelf.updater.apply(folder, 1)
    with pytest.raises(ServiceError):
        shelf.updater.apply("http://127.0.0.1:9/", None)


def test_a_device_on_which_nothing_is_ready_is_rebooted_once(shelf: Shelf) -> None:
    shelf.updater.tick()
    shelf.up_s += 900
    shelf.updater.tick()
    assert shelf.reboots == 1
    for _ in range(5):
        shelf.up_s += 900
        shelf.updater.tick()
    assert shelf.reboots == 1
    assert shelf.updater.tick().state.rebooted == "b1"


def test_a_wrong_release_is_not_started_again_and_again(shelf: Shelf) -> None:
    install_other = replace(state.load(shelf.place), good=3)
    launcher.launch(shelf.place, ["run"], boot="b1", at=1.0, execute=lambda *_: None)
    state.save(shelf.place, install_other)
    for _ in range(360):
        shelf.updater.tick()
        shelf.up_s += 10
    assert 5 <= shelf.restarts <= 12


def test_one_of_two_waits_for_the_other(shelf: Shelf) -> None:
    with slots.locked(shelf.place) as first, slots.locked(shelf.place, wait=False) as second:
        assert (first, second) == (True, False)


def test_time_is_no_matter_of_the_wall_clock(shelf: Shelf) -> None:
    shelf.want(3)
    assert shelf.phase()[0] == Phase.TRIAL
    shelf.world.now += timedelta(days=3650)
    shelf.up_s += 100
    assert shelf.phase()[0] == Phase.TRIAL


def crashes(shelf: Shelf) -> None:
    launcher.launch(shelf.place, ["run"], boot="b1", at=1.0, execute=lambda *_: None)
    launcher.ended(shelf.place, End("exit-code", "1"), boot="b1")


def test_a_full_disk_is_cleaned_and_the_bad_release_taken_back(shelf: Shelf, tmp_path: Path) -> None:
    """An updater that needs room before it can make room never gets any (balena-supervisor #674)."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        shutil.copytree(shelf.place.root, disk / "device", symlinks=True)
        shelf.place = shelf.world.place = Place(disk / "device")
        shelf.updater = shelf.made()
        shelf.want(3)
        assert shelf.phase()[0] == Phase.TRIAL
        for _ in range(2):
            crashes(shelf)
        shelf.place.downloads.mkdir()
        (shelf.place.downloads / "half").write_bytes(bytes(100_000))
        with contextlib.suppress(OSError), (disk / "full").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with pytest.raises(DeviceError, match="No space"):
            shelf.updater.tick()
        assert not shelf.place.downloads.exists()
        assert shelf.phase()[0] == Phase.ROLLED_BACK
        assert state.load(shelf.place).good == 2


def test_what_cannot_be_told_stops_nothing(shelf: Shelf) -> None:
    """The agent may write into the folder in which the updater tells it."""
    shelf.place.reported.unlink(missing_ok=True)
    (shelf.place.reported / "in-the-way").mkdir(parents=True)
    shelf.want(3)
    shelf.updater.tick()
    assert state.load(shelf.place).trial is not None
    assert shelf.restarts == 1
    for _ in range(2):
        crashes(shelf)
        shelf.updater.tick()
    assert 3 in state.load(shelf.place).bad
    shelf.updater.tick()
    assert state.on_disk(shelf.place) == [2]
    assert shelf.updater.told is None
    shutil.rmtree(shelf.place.reported)
    assert shelf.phase()[0] == Phase.ROLLED_BACK


def test_the_good_release_before_is_told(shelf: Shelf) -> None:
    state.save(shelf.place, replace(state.load(shelf.place), previous=1))
    shelf.updater.tick()
    told = messages.decode(messages.Reported, shelf.place.reported.read_bytes())
    assert (told.good, told.previous) == (2, 1)
