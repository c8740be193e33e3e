"""What a device knows outlives what happens to its disk."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contracts.errors import BundleError, DeviceError
from edge_agent.contracts.release import Place
from edge_agent.update import launcher, records, slots, state
from edge_agent.update.disk import read_small
from edge_agent.update.install import install
from edge_agent.update.records import End, Start
from edge_agent.update.state import Bad, Outcome, State, Trial
from tests.deploy.releases import World
from tests.edge_agent.update.test_machine import PROOFS, STARTS, STATES

KNOWN = State(
    good=2,
    previous=1,
    trial=Trial(
        3, "r3", 1, charged=1, cut=2, camera=True, linked=True, boot_id="b", since=1.5, last="signal"
    ),
    bad={4: Bad("why\nand where", 2)},
    settled=(Outcome("r2", 1, 2, "committed"), Outcome(None, 1, 4, "rolled_back", "why")),
    folded=9,
    rebooted="b0",
)


@pytest.fixture
def world(world: World) -> World:
    """Release 1 is on the device."""
    install(world.place, str(world.offered.folder), "amd64", number=1, now=lambda: world.now)
    return world


@given(STATES)
def test_a_state_comes_back_as_it_was(known: State) -> None:
    assert state.decode(state.encode(known)) == known


def test_a_whole_state_comes_back_as_it_was() -> None:
    assert state.decode(state.encode(KNOWN)) == KNOWN


@given(st.integers(0, len(state.encode(KNOWN)) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_never_believed(place: int, bit: int) -> None:
    content = bytearray(state.encode(KNOWN))
    content[place] ^= 1 << bit
    found = state.decode(bytes(content))
    assert found is None or found == KNOWN


@pytest.mark.parametrize("damage", [b"", b"{}", b"null", b"\xff" * 10, b"[" * 5000, b'{"format": 99}'])
def test_the_spare_is_read_where_a_state_is_damaged(world: World, damage: bytes) -> None:
    known = replace(KNOWN, good=1)
    state.save(world.place, known)
    world.place.state.write_bytes(damage)
    assert state.load(world.place) == known
    world.place.spare.write_bytes(damage)
    assert state.load(world.place) == State(good=1)


def test_where_nothing_is_left_the_disk_says_what_ran(world: World) -> None:
    for path in (world.place.state, world.place.spare):
        path.unlink()
    assert state.load(world.place) == State(good=1)
    world.place.current.unlink()
    assert state.load(world.place) == State(good=1)
    shutil.rmtree(world.place.releases)
    assert state.load(world.place) == State()


def laid(world: World, number: int) -> None:
    release = world.offered.release(number, "amd64")
    parts = slots.missing(world.place, release)
    archives = {kind: world.offered.folder / "targets" / part.target for kind, part in parts.items()}
    slots.stage(world.place, release, archives)


def test_another_model_alone_is_all_that_comes(world: World) -> None:
    release = world.offered.release(2, "amd64")
    assert list(slots.missing(world.place, release)) == ["bundle"]
    laid(world, 2)
    files = [world.place.release(number) / "agent/agent.bin" for number in (1, 2)]
    assert files[0].stat().st_ino == files[1].stat().st_ino
    assert slots.missing(world.place, release) == {}
    laid(world, 2)
    assert state.on_disk(world.place) == [1, 2]


def test_a_full_disk_is_no_place_to_begin(world: World) -> None:
    """A full disk kills the supervisor (balena #674)."""
    wanted = slots.missing(world.place, world.offered.release(2, "amd64"))
    need = 2 * max(wanted["bundle"].size, wanted["bundle"].unpacked)
    slots.require_room(world.place, wanted, need)
    with pytest.raises(DeviceError, match="MB free"):
        slots.require_room(world.place, wanted, need - 1)


def test_good_previous_and_trial_are_kept(world: World) -> None:
    laid(world, 2)
    laid(world, 3)
    (world.place.releases / ".new-9").mkdir()
    (world.place.runtimes / ("f" * 64)).mkdir()
    slots.collect(world.place, State(good=2, previous=1, trial=Trial(3, None, 1)))
    assert state.on_disk(world.place) == [1, 2, 3]
    slots.collect(world.place, State(good=2, previous=1))
    assert sorted(path.name for path in world.place.releases.iterdir()) == ["1", "2"]
    assert len(list(world.place.runtimes.iterdir())) == 1
    # What it does not understand it does not take away.
    (world.place.release(1) / "release.json").write_text("{}")
    slots.collect(world.place, State(good=1))
    assert len(list(world.place.runtimes.iterdir())) == 1
    slots.collect(world.place, State())
    assert world.place.release(1).is_dir()


def started(place: Place, boot: str = "b1") -> int:
    told: list[dict[str, str]] = []
    launcher.launch(place, ["run"], boot=boot, at=1.0, execute=lambda *it: told.append(it[2]))
    assert told[0]["PYTHONPATH"].startswith(str(place.release(int(told[0]["SHELFKIT_RELEASE"]))))
    return int(told[0]["SHELFKIT_RELEASE"])


def test_the_launcher_starts_what_is_whole(world: World) -> None:
    laid(world, 2)
    known = State(good=1, trial=Trial(2, "r", 1))
    state.save(world.place, known)
    assert started(world.place) == 2
    (world.place.release(2) / "release.json").write_text("half")
    assert started(world.place) == 1
    laid(world, 3)
    shutil.rmtree(world.place.release(1))
    assert started(world.place) == 3
    shutil.rmtree(world.place.release(3))
    with pytest.raises(BundleError, match="none that is whole"):
        started(world.place)


def test_the_launcher_falls_back_by_itself(world: World) -> None:
    """Where no updater runs a release on trial is given up all the same."""
    laid(world, 2)
    state.save(world.place, State(good=1, trial=Trial(2, "r", 1)))
    for expected in (2, 2, 1, 1):
        assert started(world.place) == expected
        launcher.ended(world.place, End("signal", "SEGV"), boot="b1")


def test_a_start_that_cannot_be_counted_is_no_trial(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    laid(world, 2)
    state.save(world.place, State(good=1, trial=Trial(2, "r", 1)))

    def full(path: Path, _content: bytes) -> None:
        raise DeviceError(f"Expected: room for {path}. Received: No space left on device.")

    monkeypatch.setattr(launcher, "write_whole", full)
    assert started(world.place) == 1
    assert "release 2 is not tried" in caplog.text


def test_an_end_belongs_to_the_start_of_this_life(world: World) -> None:
    assert started(world.place, "b1") == 1
    launcher.ended(world.place, End("success", "0"), boot="b2")
    launcher.ended(world.place, End("watchdog", "ABRT"), boot="b1")
    launcher.ended(world.place, End("success", "0"), boot="b1")
    found = records.decode_starts(read_small(world.place.starts))
    assert [start.end for start in found] == [End("watchdog", "ABRT")]


@given(STARTS)
def test_starts_come_back_as_they_were(starts: tuple[Start, ...]) -> None:
    assert records.decode_starts(records.encode_starts(starts)) == starts[-records.KEPT :]


@given(PROOFS)
def test_a_proof_comes_back_as_it_was(proof: records.Proof | None) -> None:
    if proof is not None:
        assert records.decode_proof(records.encode_proof(proof)) == proof


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["starts", "desired", "source", "release", "start", "boot_id", "linked_at"]), JSON
    )
)
def test_what_cannot_be_read_was_not_said(value: dict[str, object]) -> None:
    content = json.dumps({"format": 1, **value}).encode()
    records.decode_starts(content)
    records.decode_desired(content)
    records.decode_proof(content)


def test_no_link_is_followed_and_nothing_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "large").write_bytes(b"x" * (256 * 1024 + 1))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "large", "folder", "pipe", "none"):
        assert read_small(tmp_path / name) is None
    assert read_small(tmp_path / "secret") == b"secret"


def test_a_first_release_is_laid_down_once(world: World) -> None:
    repository = str(world.offered.folder)
    install(world.place, repository, "amd64", number=1, now=lambda: world.now)
    with pytest.raises(BundleError, match="a device without a release"):
        install(world.place, repository, "amd64", now=lambda: world.now)
