"""The rendered shelf: the same for the same seed, and a script that a right agent can follow."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.camera.shelf import ShelfCamera, arms, layout, shelf_camera
from edge_agent.camera.shelf.film import Film
from edge_agent.camera.shelf.long import write_long
from edge_agent.camera.shelf.photos import LABELS, shots
from edge_agent.camera.shelf.script import (
    APART_S,
    AROUND_COVER_S,
    QUIET_S,
    REACH_S,
    SLOT_APART_S,
    write_script,
)
from edge_agent.contracts import planogram
from edge_agent.contracts.errors import ConfigError
from tests.conftest import Kit


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_every_script_keeps_the_rules(seed: int) -> None:
    script = write_script(seed)
    moments = [change.at for change in script.changes]
    assert all(later - earlier >= 2.5 for earlier, later in itertools.pairwise(moments))
    assert QUIET_S < min(moments) <= max(moments) < script.duration_s - QUIET_S
    assert APART_S > 2.5
    contents, touched = dict(script.start), dict[str, float]()
    for change in script.changes:
        assert contents[change.slot] != change.label
        assert change.at - touched.get(change.slot, -99) >= SLOT_APART_S - 0.2
        # The moments are rounded to hundredths of a second.
        assert (
            not script.cover[0] - AROUND_COVER_S + 0.01 < change.at < script.cover[1] + AROUND_COVER_S - 0.01
        )
        contents[change.slot] = change.label
        touched[change.slot] = change.at
    causes = {change.cause for change in script.changes}
    assert causes == {"taken", "restocked", "misplaced", "removed"}
    assert len(script.passes) >= 2
    assert contents == script.start


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 10]))
def test_every_long_script_keeps_its_rules(seed: int, minutes: int) -> None:
    script = write_long(seed, minutes)
    assert script.duration_s == 60 * minutes
    moments = [change.at for change in script.changes]
    assert len(moments) >= 2 * minutes
    assert all(later - earlier >= 2.5 for earlier, later in itertools.pairwise(moments))
    assert QUIET_S < min(moments) <= max(moments) < script.duration_s - QUIET_S
    hands = list(arms.hands(script))
    contents, touched = dict(script.start), dict[str, float]()
    for change in script.changes:
        assert contents[change.slot] != change.label
        if change.slot in touched:
            assert change.at - touched[change.slot] >= SLOT_APART_S - 0.02
            assert longest_in_the_open(hands, change.slot, touched[change.slot], change.at - REACH_S) >= 4.48
        for begin, end in script.covers:
            assert not begin - AROUND_COVER_S < change.at < end + AROUND_COVER_S
        contents[change.slot] = change.label
        touched[change.slot] = change.at
    if minutes == 10:
        assert {change.cause for change in script.changes} == {"taken", "restocked", "misplaced", "removed"}
        assert len(script.covers) >= 3
        assert len(script.passes) >= 10
        assert len(script.lights) >= 10
        assert len(script.bumps) >= 10


def longest_in_the_open(
    hands: list[tuple[float, float, list[str]]], slot: str, begin: float, end: float
) -> float:
    """Return the longest time between two moments in which no arm hides a slot, s."""
    longest, free = 0.0, begin
    for start, stop, hidden in hands:
        if slot in hidden and stop > begin + 0.02 and start < end - 0.02:
            longest, free = max(longest, start - free), max(free, stop)
    return max(longest, end - free)


def test_a_long_script_is_the_same_each_time_and_shown_to_its_end() -> None:
    assert write_long(3, 2) == write_long(3, 2) != write_long(4, 2)
    camera = shelf_camera("shelf:seed=3,minutes=2", live=False, fps=0.05)
    moments = []
    while (frame := camera.read()) is not None:
        moments.append(frame.at)
    assert moments == [number * 20.0 for number in range(6)]
    film = Film(3, 5)
    assert len(film.script.covers) >= 2
    for begin, end in film.script.covers:
        assert film.frame((begin + end) / 2).std() < 0.5 * film.frame(begin - 1).std()


@pytest.mark.parametrize("minutes", ["0", "-1", "1.5", "1441", "many", "9" * 5000])
def test_a_length_that_cannot_be(minutes: str) -> None:
    with pytest.raises(ConfigError, match="minutes"):
        shelf_camera(f"shelf:minutes={minutes}", live=False)


def test_a_frame_depends_on_seed_and_moment_alone() -> None:
    one, other = Film(3), Film(3)
    later = one.frame(50.0)
    for moment in (0.0, 20.0, 50.0):
        expected = other.frame(moment)
    assert (later == expected).all()
    assert not (Film(4).frame(50.0) == later).all()


def test_there_is_noise_and_shake() -> None:
    film = Film(3)
    assert (film.frame(1.0) != film.frame(1.1)).mean() > 0.3


def test_the_lens_is_covered_when_the_script_says_so() -> None:
    film = Film(3)
    begin, end = film.script.cover
    assert film.frame((begin + end) / 2).std() < 0.5 * film.frame(begin - 1).std()


def test_a_live_shelf_begins_when_it_is_told_to() -> None:
    clock = [0.0]
    camera = ShelfCamera(Film(3), start=1000.0, wall=lambda: 990.0, steady=lambda: clock[0])
    before = camera.read()
    clock[0] = 30.0
    later = camera.read()
    assert (before.image == Film(3).frame(-10.0)).all()
    assert (later.image == Film(3).frame(20.0)).all()


def test_a_shelf_that_is_replayed_ends_with_its_script() -> None:
    camera = shelf_camera("shelf:seed=3", live=False, fps=0.2)
    moments = []
    while (frame := camera.read()) is not None:
        moments.append(frame.at)
    assert moments == [number * 5.0 for number in range(18)]


def test_photos_are_of_every_class_and_none_is_from_a_stream() -> None:
    found = list(shots(5, 2))
    assert sorted(label for label, _ in found) == sorted([*LABELS, *LABELS])
    again = list(shots(5, 2))
    assert all((one[1] == other[1]).all() for one, other in zip(found, again, strict=True))
    # The copies on the photos of a seed are drawn from another sequence than those of its stream.
    frame = Film(5).frame(0.0)
    places = {place.product: place.box for place in layout.places().values()}
    for label, picture in found:
        if label in places:
            left, top, right, bottom = places[label]
            there = cv2.resize(frame[top:bottom, left:right], picture.shape[1::-1])
            assert np.abs(there.astype(int) - picture).mean() > 2


def test_the_scene_is_a_planogram_that_fits(tmp_path: Path, kit: Kit) -> None:
    kit("agent", "render", "--scene", tmp_path, "--seed", 3)
    shelf = planogram.read(tmp_path / "planogram.yaml", known_labels=list(LABELS)).require()
    assert len(shelf.products) >= 6
    assert {slot.id for slot in shelf.slots} == set(write_script(3).start)


@pytest.mark.slow
def test_the_video_is_the_stream(tmp_path: Path, kit: Kit) -> None:
    kit("agent", "render", "--video", tmp_path / "shelf.mp4", "--seed", 3, "--fps", 0.5)
    video = cv2.VideoCapture(str(tmp_path / "shelf.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 45
    _, first = video.read()
    assert np.abs(first.astype(int) - Film(3).frame(0.0)).mean() < 6


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "at least one of"),
        (["--video", "x.avi"], 4, ".mp4"),
        (["--photos", "{full}"], 4, "not empty"),
        (["--scene", "/proc/nowhere"], 4, "can be written"),
    ],
)
def test_what_cannot_be_rendered(
    tmp_path: Path, kit: Kit, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = kit(
        "agent", "render", *(item.format(full=tmp_path) for item in arguments), code=code, cwd=tmp_path
    )
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
