"""Hard examples: what is worth a label, what is not, and a folder that stays whole and small."""

import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import crops
from edge_agent.agent import Agent
from edge_agent.camera.base import Frame
from edge_agent.contracts import config, messages
from edge_agent.contracts.events import Event
from edge_agent.contracts.pictures import read_picture
from edge_agent.contracts.preprocess import Image
from edge_agent.hard import HardExamples, Opinion, Policy, Watch, alike, doubtful, step, thumb
from edge_agent.hard_folder import Example, Folder, Kept, Why, head, leaving, listed, packed, unpacked
from tests.edge_agent.test_agent import COLOURS, START, ColourModel, Shelf, picture, words

POLICY = Policy(confirm_s=1.0, unknown_below=0.5)
MB = 1024 * 1024
Colour = tuple[int, int, int]


def opinion(answer: str | None, at: float, sure: float = 0.95, second: float = 0.02) -> Opinion:
    return Opinion(answer, (answer or "tea", sure), ("jam", second), at)


def found(story: str, sure: float = 0.95) -> list[tuple[str, int, str]]:
    """Return what is found in readings 0.4 s apart, a letter each: `?` is unknown, at `|` the slot moves."""
    watch, told = Watch(), []
    for number, letter in enumerate(story):
        if letter == "|":
            watch = watch.moved()
            continue
        answer = None if letter == "?" else letter
        watch, more = step(watch, opinion(answer, number * 0.4, sure), POLICY)
        told += [(item.why.value, round(item.opinion.at / 0.4), item.opinion.answer or "?") for item in more]
    return told


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ("aaaaaaa", []),
        ("aaaa|bbbb", []),
        ("aaaa|b|aaaa", []),
        ("aaaa|bb|b|aaaa", []),
        ("aaaabaaaa", [("flicker", 4, "b")]),
        ("aaaa?aaaa", [("flicker", 4, "?")]),
        ("aaaabbcaaaa", [("flicker", 4, "b"), ("flicker", 6, "c")]),
        ("aaaa|baaaa", [("flicker", 5, "b")]),
        ("baaaa", [("flicker", 0, "b")]),
        ("aaaabbbb", [("turned", 4, "b")]),
        ("aaaa|abbbb", [("turned", 6, "b")]),
        ("aaaab|aaaa", []),
    ],
    ids=[
        "sure and steady",
        "a change behind a hand",
        "a hand that rests",
        "a hand that rests twice",
        "one other answer",
        "once unknown",
        "two other answers",
        "wrong at first behind a hand",
        "wrong at first of all",
        "another answer for good though nothing moved",
        "the same after a hand",
        "what would have come is hidden",
    ],
)
def test_what_is_worth_a_label(story: str, expected: list[tuple[str, int, str]]) -> None:
    assert found(story) == expected


def test_an_unsure_answer_counts_only_when_it_has_held() -> None:
    assert found("aaa", 0.52) == []
    assert found("aaaa", 0.52) == [("doubt", 3, "a")]
    # Hands look unknown: that must hold twice as long, as for events.
    assert found("?????", 0.3) == []
    assert found("??????", 0.3) == [("doubt", 5, "?")]


@pytest.mark.parametrize(
    ("sure", "second", "expected"),
    [(0.3, 0.1, True), (0.54, 0.1, True), (0.56, 0.1, False), (0.56, 0.4, True), (0.99, 0.01, False)],
    ids=["unknown", "just known", "known", "two answers", "sure"],
)
def test_when_the_model_is_hardly_sure(sure: float, second: float, expected: bool) -> None:
    assert doubtful(opinion("tea", 0, sure, second), POLICY) is expected


@given(st.text("ab?|", max_size=40))
def test_what_is_found_was_an_answer_of_a_slot_that_stood_still(story: str) -> None:
    for why, number, answer in found(story):
        assert story[number] == answer
        assert why != "doubt"
        # Until it gave way or came to count, nothing has moved.
        spell = story[number:].split("|", maxsplit=1)[0]
        assert len(set(spell)) > 1 or why == "turned"


def test_near_copies_are_told_from_other_pictures_in_any_light() -> None:
    rng = np.random.default_rng(5)
    plain = np.asarray(cv2.resize(rng.integers(40, 200, (6, 4, 3), np.uint8), (80, 120)), np.uint8)
    noisy = np.clip(plain + rng.normal(0, 4, plain.shape), 0, 255).astype(np.uint8)
    dim = (plain * 0.6).astype(np.uint8)
    shaken = np.asarray(np.roll(plain, 1, axis=1), np.uint8)
    assert all(alike(thumb(plain), thumb(other)) for other in (noisy, dim, shaken))
    other = np.asarray(cv2.resize(rng.integers(40, 200, (6, 4, 3), np.uint8), (80, 120)), np.uint8)
    recoloured = plain[..., ::-1]
    assert not any(alike(thumb(plain), thumb(shown)) for shown in (other, recoloured))


class Watched(Shelf):
    """A shelf whose agent keeps hard examples."""

    def __init__(self, folder: Path, max_bytes: int = MB, **options: float) -> None:
        self.place, self.max_bytes, self.options = folder / "state" / "hard", max_bytes, options
        super().__init__(folder)

    def fresh(self) -> Agent:
        identity = messages.ModelState(name="colours", version="1", sha256="ab" * 32)
        return Agent(
            store="1",
            shelf=self.planogram,
            reference=picture(),
            model=ColourModel(),
            identity=identity,
            policy=config.Rules(confirm_s=1, clear_s=1, refresh_s=20),
            unknown_below=0.5,
            journal=self.outbox,
            wall=self.wall,
            examples=HardExamples(
                self.place,
                self.max_bytes,
                shelf=self.planogram,
                labels=ColourModel.labels,
                model=identity,
                policy=POLICY,
                wall=self.wall,
                spare_bytes=int(self.options.get("spare_bytes", 0)),
            ),
        )

    def wall(self, at: float) -> datetime:
        return START + timedelta(seconds=at)

    def kept(self) -> list[tuple[str, str]]:
        return [(kept.slot, kept.why.value) for kept in listed(self.place)]

    def look(
        self,
        colour: Colour = COLOURS["tea"],
        seconds: float = 3,
        *,
        every: float = 0.2,
        pattern: int | None = None,
    ) -> list[str]:
        """Show a packet of one mean colour in A1; each colour has a print of its own, unless it is given."""
        found: list[Event] = []
        for _ in range(round(seconds / every)):
            self.at = round(self.at + every, 3)
            shown = picture(round(self.at * 10))
            shown[60:160, 60:140] = packet(colour, sum(colour) if pattern is None else pattern)
            noise = np.random.default_rng(round(self.at * 10)).integers(0, 6, shown.shape, np.uint8)
            found += self.agent.see(Frame(np.asarray(cv2.add(shown, noise), np.uint8), self.at))
        return [words(event) for event in found]


def packet(colour: Colour, pattern: int) -> Image:
    """Draw a print of blocks around a mean colour."""
    blocks = np.random.default_rng(pattern).integers(-30, 31, (5, 4, 1)).repeat(20, axis=0).repeat(20, axis=1)
    return np.asarray(np.clip(np.array(colour) + blocks - round(blocks.mean()), 0, 250), np.uint8)


def between(share: float) -> Colour:
    """Return a colour on the way from tea to jam, which passes the grey of an empty slot."""
    tea, jam = COLOURS["tea"], COLOURS["jam"]
    return tuple(round((1 - share) * one + share * other) for one, other in zip(tea, jam, strict=True))  # type: ignore[return-value]


OTHER = COLOURS["other"]
ANOTHER = (30, 40, 220)


@pytest.fixture
def shelf(tmp_path: Path) -> Watched:
    shelf = Watched(tmp_path)
    shelf.look()
    return shelf


def test_a_sure_model_leaves_nothing_behind(shelf: Watched) -> None:
    assert "low-stock tea 1/2" in shelf.look(COLOURS["empty"])
    assert "misplaced A1" in shelf.look(COLOURS["jam"])
    assert not shelf.place.exists()


def test_an_unsure_crop_is_kept_once_with_all_that_is_known(shelf: Watched) -> None:
    shelf.look(OTHER)
    shelf.look(OTHER, 600, every=10)
    assert shelf.kept() == [("A1", "doubt")]
    (file,) = shelf.place.iterdir()
    example = head(file)
    assert example is not None
    assert (example.slot, example.model, example.version) == ("A1", "colours", "1")
    assert START + timedelta(seconds=5) <= example.time <= START + timedelta(seconds=6)
    assert example.confirmed == "tea"
    assert example.guess in ColourModel.labels
    assert example.confidence < 0.5
    assert example.second_confidence is not None
    assert example.second_confidence <= example.confidence
    # At the slot's own size, as it was seen.
    shown = read_picture(file, as_named=True)
    assert shown.shape == (100, 80, 3)
    assert np.abs(shown.astype(int) - packet(OTHER, sum(OTHER)) - 4).mean() < 4
    assert stat.S_IMODE(shelf.place.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_another_unsure_crop_of_the_slot_is_kept_only_later(shelf: Watched) -> None:
    shelf.look(OTHER)
    shelf.look(ANOTHER, 10)
    assert shelf.kept() == [("A1", "doubt")]
    shelf.look(ANOTHER, 80, every=10)
    assert shelf.kept() == [("A1", "doubt")] * 2


def test_an_answer_that_gives_way_within_seconds_is_kept(shelf: Watched) -> None:
    # Without anything that moves, and for too short to count: a light flickers.
    for share in (0.0, 0.1, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1):
        shelf.look(between(share), 0.6, pattern=sum(COLOURS["tea"]))
    assert shelf.kept() == [("A1", "flicker")]
    (file,) = shelf.place.iterdir()
    assert np.abs(read_picture(file).mean(axis=(0, 1)) - between(0.4)).max() < 6


def test_a_hand_is_no_hard_example(shelf: Watched) -> None:
    for number in range(60):
        # It rests now and then, for less than what counts.
        rests = number % 10 == 0
        shelf.look((90, 130, 200) if rests else COLOURS["tea"], 0.6 if rests else 0.2, pattern=number)
    shelf.look()
    assert shelf.kept() == []


def test_a_fault_is_no_hard_example(shelf: Watched) -> None:
    dusk = (picture() * 0.04).astype(np.uint8)
    assert "camera-fault dark" in shelf.show(6, image=dusk)
    assert shelf.kept() == []


def test_a_new_start_knows_what_the_last_one_kept(shelf: Watched) -> None:
    shelf.look(OTHER)
    before = listed(shelf.place)
    shelf.agent = shelf.fresh()
    shelf.look(OTHER)
    shelf.look(OTHER, 100, every=10)
    assert listed(shelf.place) == before
    assert len(before) == 1


def test_what_was_exported_is_not_kept_again(shelf: Watched) -> None:
    shelf.look(OTHER)
    for file in shelf.place.iterdir():
        file.unlink()
    shelf.look(OTHER, 100, every=10)
    assert shelf.kept() == []


def test_a_disk_without_room_is_a_warning_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Watched(tmp_path, spare_bytes=2**62)
    shelf.look()
    assert "unknown-product A1" in shelf.look(OTHER)
    shelf.look(OTHER, 300, every=10)
    assert shelf.kept() == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "none is kept for 600 s" in caplog.text
    # It is tried again, and told again, when there may be room.
    shelf.look(OTHER, 400, every=10)
    assert len(caplog.records) == 2


def test_a_folder_that_cannot_be_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    shelf = Watched(tmp_path)
    shelf.look()
    assert "unknown-product A1" in shelf.look(OTHER)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_folder_that_somebody_removed_comes_back(shelf: Watched) -> None:
    shelf.look(OTHER)
    shutil.rmtree(shelf.place)
    shelf.look(ANOTHER)
    shelf.look(ANOTHER, 100, every=10)
    assert shelf.kept() == []
    shelf.look(ANOTHER, 700, every=10)
    assert shelf.kept() == [("A1", "doubt")]


def example(slot: str = "A1", why: Why = Why.DOUBT, ms: int = 0) -> Example:
    return Example(
        slot=slot,
        time=datetime(2026, 11, 23, tzinfo=UTC) + timedelta(milliseconds=ms),
        why=why,
        guess="öl 1/2",
        confidence=0.4,
        model="m",
        version="1",
        thumb=bytes(192),
    )


def noise(seed: int, size: int = 40) -> bytes:
    return crops.jpeg(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))


def test_a_picture_carries_its_example_and_stays_the_same_picture(tmp_path: Path) -> None:
    plain = noise(1)
    whole = packed(plain, example())
    assert unpacked(whole) == example()
    for name, data in (("plain.jpg", plain), ("whole.jpg", whole)):
        (tmp_path / name).write_bytes(data)
    assert np.array_equal(read_picture(tmp_path / "plain.jpg"), read_picture(tmp_path / "whole.jpg"))


@given(st.binary(max_size=200), st.integers(0, 400))
def test_what_is_no_example_is_none(junk: bytes, length: int) -> None:
    whole = packed(noise(1), example())
    assert unpacked(junk) is None
    comment = whole.index(b"}") + 1
    assert unpacked(whole[: min(length, comment - 1)]) is None


kept = st.builds(
    Kept,
    name=st.uuids().map(str),
    ms=st.integers(0, 50),
    slot=st.sampled_from("ABC"),
    why=st.sampled_from(Why),
    room=st.sampled_from([4096, 8192, 12288]),
)


@given(st.lists(kept, max_size=30, unique_by=lambda item: item.name), st.integers(0, 200_000))
def test_who_goes(items: list[Kept], most: int) -> None:
    gone = list(leaving(items, most))
    stays = [item for item in items if item not in gone]
    assert sum(item.room for item in stays) <= most
    if gone:
        # Nobody goes without need.
        assert sum(item.room for item in [*stays, gone[-1]]) > most
    for item in gone:
        of_the_slot = [other for other in stays if other.slot == item.slot]
        if item.why is not Why.DOUBT:
            assert all(other.why is not Why.DOUBT for other in of_the_slot)
        assert all(
            other.ms >= item.ms
            for other in of_the_slot
            if (other.why is Why.DOUBT) == (item.why is Why.DOUBT)
        )


def test_a_loud_slot_takes_nothing_from_a_quiet_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "hard", 20 * 8192, spare_bytes=0)
    for number in range(3):
        folder.keep(example("quiet", ms=number), noise(number))
    for number in range(100):
        folder.keep(example("loud", Why.FLICKER, 1000 + number), noise(number))
    found = Counter(kept.slot for kept in listed(folder.path))
    assert found["quiet"] == 3
    assert found["loud"] >= 10


def taken(folder: Path) -> int:
    """What all files of a folder take on the disk, leftovers included."""
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in folder.iterdir())


@settings(max_examples=30)
@given(st.data())
def test_room_is_never_exceeded(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place, most = tmp_path_factory.mktemp("room") / "hard", 60_000
    folder = Folder(place, most, spare_bytes=0)
    sizes = data.draw(st.lists(st.integers(8, 180), min_size=1, max_size=30))
    for number, size in enumerate(sizes):
        data_of = noise(number, size)
        before = {item.name for item in listed(place)}
        folder.keep(example("AB"[number % 2], ms=number), data_of)
        if place.exists():
            assert taken(place) <= most
        newest = {item.name for item in listed(place)} - before
        assert len(newest) == (len(packed(data_of, example())) // 4096 * 4096 + 4096 <= most)
        if data.draw(st.integers(0, 9)) == 0:
            # A start anew, or somebody who exports and clears.
            folder = Folder(place, most, spare_bytes=0)
        elif data.draw(st.integers(0, 9)) == 0:
            for item in listed(place)[::2]:
                (place / item.name).unlink()


def test_a_smaller_budget_holds_from_the_next_example_on(tmp_path: Path) -> None:
    place = tmp_path / "hard"
    for number in range(20):
        Folder(place, MB, spare_bytes=0).keep(example(ms=number), noise(number))
    Folder(place, 40_000, spare_bytes=0).keep(example(ms=99), noise(99))
    assert taken(place) <= 40_000


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file of this process may grow beyond 1,000 bytes: a write ends in the middle, as on a full disk."""
    soft, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, most))


def test_a_write_that_ends_in_the_middle_leaves_whole_examples_only(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = Folder(tmp_path / "hard", MB, spare_bytes=0)
    folder.keep(example(ms=1), noise(1))
    before = {file.name: file.read_bytes() for file in folder.path.iterdir()}
    request.getfixturevalue("little_room")
    with pytest.raises(OSError, match="File too large"):
        folder.keep(example(ms=2), noise(2))
    assert {file.name: file.read_bytes() for file in folder.path.iterdir()} == before


WRITER = """
import sys
from pathlib import Path
from edge_agent.hard_folder import Folder
from tests.edge_agent.test_hard import example, noise
pictures = [noise(number, 150) for number in range(8)]
folder = Folder(Path(sys.argv[1]), 400_000, spare_bytes=0)
print("begin", flush=True)
for number in range(10**9):
    folder.keep(example("AB"[number % 2], ms=int(sys.argv[2]) + number), pictures[number % 8])
"""


def killed_writers(place: Path, count: int) -> Iterator[None]:
    rng = random.Random(7)
    for number in range(count):
        command = [sys.executable, "-c", WRITER, str(place), str(number * 10**6)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.01, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        yield


def test_a_kill_at_any_moment_leaves_whole_examples_within_the_budget(tmp_path: Path) -> None:
    place = tmp_path / "hard"
    for _ in killed_writers(place, 4):
        assert taken(place) <= 400_000
        found = listed(place)
        assert found
        for item in found:
            read_picture(place / item.name, as_named=True)
            read = head(place / item.name)
            assert read is not None
            assert (read.slot, read.why) == (item.slot, item.why)
        assert {file.name for file in place.iterdir()} - {item.name for item in found} <= {".tmp-example"}
    Folder(place, 400_000, spare_bytes=0).keep(example(ms=10**9), noise(1))
    assert not (place / ".tmp-example").exists()
