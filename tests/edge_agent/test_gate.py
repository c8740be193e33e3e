"""The gate before the model: it misses no change, lets nothing pass that moves, and asks again in time."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.agent_rig import told
from edge_agent import rules, slots
from edge_agent.align import Glance
from edge_agent.contracts import config
from edge_agent.contracts.preprocess import Image
from tests.edge_agent.test_agent import COLOURS, SLOTS, Shelf, picture, words

EVERY_S = 0.2
CONFIRM_S = 1.0


class Look:
    """Thumbnails of three slots, as they would be seen; noise and light are those of a camera."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.contents = self.rng.integers(30, 220, (6, 16, 12, 3))

    def of(self, shown: tuple[int, int, int], light: float = 1.0) -> slots.Thumbs:
        """Show a content, 0 to 5, in each slot."""
        seen = self.contents[list(shown)] * light + self.rng.normal(0, 1.5, (3, 16, 12, 3))
        colour = np.clip(seen, 0, 255).astype(np.uint8)
        grey = np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in colour]).astype(np.uint8)
        return slots.Thumbs(grey, colour)


contents = st.tuples(*[st.integers(0, 5)] * 3)
scenes = st.lists(st.tuples(contents, st.integers(1, 14), st.floats(0.93, 1.07)), min_size=1, max_size=8)


def frames(story: list[tuple[tuple[int, int, int], int, float]]) -> list[tuple[tuple[int, int, int], float]]:
    """Return what each frame shows, and in which light."""
    return [(shown, light) for shown, count, light in story for _ in range(count)]


@given(scenes, st.integers(0, 9), st.sampled_from([0.4, 2.0, 60.0]))
def test_no_change_that_lasts_is_missed_and_no_answer_grows_old(
    story: list[tuple[tuple[int, int, int], int, float]], seed: int, refresh_s: float
) -> None:
    look, gate, tracks = Look(seed), slots.Gate(), [rules.Track()] * 3
    facts, asked = [-1, -1, -1], np.full(3, -np.inf)
    since: list[tuple[int, float]] = [(-1, 0.0)] * 3
    for number, (shown, light) in enumerate(frames(story)):
        at = number * EVERY_S
        settled = np.array([rules.settled(track, CONFIRM_S) for track in tracks])
        gate, verdict = gate.step(look.of(shown, light), at, settled=settled, refresh_s=refresh_s)
        assert not (verdict.due & ~verdict.still).any()
        asked[verdict.due] = at
        for slot in range(3):
            if verdict.still[slot] and not verdict.due[slot]:
                tracks[slot] = rules.again(tracks[slot], at)
                # What is taken as read was read lately, and has been confirmed.
                assert at - asked[slot] < refresh_s
                assert settled[slot]
            else:
                due = verdict.due[slot]
                reading = rules.Reading(str(shown[slot]), 0.9, at) if due else None
                tracks[slot], fact = rules.step(tracks[slot], reading, CONFIRM_S)
                facts[slot] = int(fact.label or -1) if fact else facts[slot]
            if since[slot][0] != shown[slot]:
                since[slot] = shown[slot], at
            # One frame to see it move, and one until the first that is late enough.
            if at - since[slot][1] >= CONFIRM_S + 2 * EVERY_S - 1e-9:
                assert facts[slot] == shown[slot]


def drifting(share: float) -> Image:
    """Draw a shelf whose first slot is on its way from tea to jam, as slowly as ivy grows."""
    drawn = picture(round(share * 1000))
    mixed = (1 - share) * np.array(COLOURS["tea"]) + share * np.array(COLOURS["jam"])
    drawn[60:160, 60:140] = mixed + np.random.default_rng(round(share * 999)).integers(0, 6, (100, 80, 3))
    return drawn


def test_what_changes_too_slowly_to_be_seen_moving_is_seen(shelf: Shelf) -> None:
    shelf.show()
    found = []
    for number in range(101):
        found += shelf.show(0.2, image=drifting(number / 100))
    # Half-way between the two it is neither, and that may be told as well.
    assert "misplaced A1" in found
    assert shelf.snapshot().slots["A1"].label == "jam"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


class Asked:
    """A model that counts the crops that it is shown."""

    def __init__(self, shelf: Shelf) -> None:
        self._model = shelf.agent._model
        self.count = 0
        self.labels, self.height, self.width = self._model.labels, self._model.height, self._model.width
        shelf.agent._model = self

    def probabilities(self, images: slots.Crops) -> np.ndarray:
        self.count += len(images)
        return self._model.probabilities(images)


def test_a_shelf_that_stands_still_is_asked_about_until_confirmed_and_at_each_refresh(shelf: Shelf) -> None:
    asked = Asked(shelf)
    shelf.show(1.2)
    # 0.4 s to 1.2 s: it has not held for a second yet.
    assert asked.count == 3 * 5
    shelf.show(0.6)
    known = asked.count
    assert known <= 3 * 7
    shelf.show(19.2)
    assert asked.count == known
    shelf.show(1)
    assert asked.count == known + 3
    state = shelf.snapshot()
    assert not any(slot.stale for slot in state.slots.values())


def test_nothing_is_asked_about_while_it_moves(shelf: Shelf) -> None:
    shelf.show()
    asked = Asked(shelf)
    rng = np.random.default_rng(3)
    for number in range(30):
        restless = picture(number)
        restless[60:160, 60:140] = rng.integers(0, 256, (100, 80, 3))
        shelf.show(0.2, image=restless)
    assert asked.count == 0
    shelf.show(0.4)
    # It moved once more when it came to rest; what has moved is looked at again though it looks the same.
    assert asked.count == 1


def test_after_a_fault_everything_is_looked_at_again(shelf: Shelf) -> None:
    shelf.show()
    asked = Asked(shelf)
    shelf.show(3, image=np.zeros((225, 400, 3), np.uint8))
    assert asked.count == 0
    shelf.show(3)
    assert asked.count > 3 * 5


class Ungated(Shelf):
    """The same shelf; every answer is too old at the next frame."""

    def fresh(self):  # type: ignore[no-untyped-def] # noqa: ANN201 - as its base
        agent = super().fresh()
        agent._policy = config.Rules(confirm_s=1, clear_s=1, refresh_s=1e-9)
        return agent


shown = st.fixed_dictionaries({name: st.sampled_from(list(COLOURS)) for name in SLOTS})


@settings(max_examples=25)
@given(st.lists(st.tuples(shown, st.integers(1, 16)), min_size=1, max_size=6))
def test_with_and_without_a_gate_the_same_is_told(story: list[tuple[dict[str, str], int]]) -> None:
    told_by = []
    for kind in (Shelf, Ungated):
        with tempfile.TemporaryDirectory() as folder:
            shelf = kind(Path(folder))
            found = [shelf.show(count * 0.2, None, **contents) for contents, count in story]
            told_by.append((found, shelf.snapshot().products, [words(e) for e in shelf.outbox.events()]))
            shelf.outbox.close()
    assert told_by[0] == told_by[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "until_s"),
    [pytest.param(7, 34.0, id="stock and light"), pytest.param(21, 58.0, id="covered")],
)
def test_on_rendered_shelves_the_gate_costs_no_event(seed: int, until_s: float) -> None:
    found = told(seed, 2.5, until_s=until_s)
    assert found["same_events"]
    assert found["missed"] == found["extra"] == {"gated": 0, "every": 0}
    assert found["expected"] >= 5
    assert found["asked"]["gated"] < found["asked"]["every"] / 4


def test_thumbnails_follow_the_shelf() -> None:
    places = np.array([[[100, 50], [180, 50], [180, 150], [100, 150]]], np.float64)
    windows = slots.Windows(places)
    drawn = np.zeros((225, 400, 3), np.uint8)
    drawn[50:150, 100:180] = (200, 100, 50)
    shifted = np.asarray(np.roll(drawn, (20, 30), axis=(0, 1)), np.uint8)
    move = np.array([[1, 0, 30], [0, 1, 20], [0, 0, 1]], np.float64)
    still, moved = windows.thumbs(Glance.of(drawn), np.eye(3)), windows.thumbs(Glance.of(shifted), move)
    assert (np.abs(still.colour.astype(int) - moved.colour) <= 1).all()
    assert tuple(still.colour[0, 8, 6]) == (50, 100, 200)
    assert still.grey.shape == (1, 16, 12)
    assert windows.thumbs(Glance.of(shifted), np.eye(3)).grey.std() > 20
