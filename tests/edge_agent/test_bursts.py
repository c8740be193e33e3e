"""Where the camera is left alone for minutes: bursts of two pictures a second, or single pictures."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from edge_agent.camera.base import Frame
from edge_agent.contracts import config
from edge_agent.contracts.preprocess import Image
from tests.edge_agent.test_agent import START, Shelf, picture, words
from tests.edge_agent.test_gate import Asked

EVERY_S = 180.0
DARK = "dark"


def dark(seed: int) -> Image:
    """Draw a covered lens: nothing but noise, so that no two pictures are the same."""
    return np.random.default_rng(seed).integers(0, 6, (225, 400, 3), np.uint8)


class Bursts:
    """A shelf that is looked at for some seconds every three minutes, with the default rules."""

    def __init__(self, folder: Path) -> None:
        self.shelf = Shelf(folder)
        self.shelf.agent._policy = config.Rules()
        self.number = 0

    def burst(self, *pictures: dict[str, str] | str, seconds: float = 6.0, every: float = 0.5) -> list[str]:
        """Look for some seconds; of several pictures or contents each is shown for its share of them."""
        begin, found = self.number * EVERY_S, list[str]()
        shown = pictures or ({},)
        count = round(seconds / every)
        for number in range(count):
            now = shown[number * len(shown) // count]
            self.shelf.at = begin + number * every
            seed = round(self.shelf.at * 10)
            image = picture(seed, **now) if isinstance(now, dict) else dark(seed)
            found += map(words, self.shelf.agent.see(Frame(image, self.shelf.at)))
        self.number += 1
        return found

    def since(self, slot: str) -> float:
        """Return since when a slot is what it is, seconds of the camera."""
        since = self.shelf.snapshot().slots[slot].since
        assert since is not None
        return (since - START) / timedelta(seconds=1)


@pytest.fixture
def bursts(tmp_path: Path) -> Bursts:
    return Bursts(tmp_path)


def test_a_shelf_that_stays_as_it_is_says_nothing_and_is_asked_about_once_a_burst(bursts: Bursts) -> None:
    assert bursts.burst() == []
    asked = Asked(bursts.shelf)
    for _ in range(5):
        assert bursts.burst() == []
        assert not any(slot.stale for slot in bursts.shelf.snapshot().slots.values())
    # The last answers are three minutes old whenever a burst begins, and fresh to its end.
    assert asked.count == 5 * 3


def test_a_change_is_told_in_the_burst_that_first_shows_it(bursts: Bursts) -> None:
    bursts.burst()
    assert bursts.burst({"B1": "empty"}) == ["slot-changed B1", "out-of-stock jam 0/1"]
    assert EVERY_S <= bursts.since("B1") <= EVERY_S + 1
    assert bursts.burst({"B1": "empty"}) == []


def test_what_a_burst_is_too_short_for_is_told_in_the_next(bursts: Bursts) -> None:
    bursts.burst()
    assert bursts.burst({"B1": "empty"}, seconds=2) == []
    assert bursts.burst({"B1": "empty"}, seconds=3) == ["slot-changed B1", "out-of-stock jam 0/1"]
    assert EVERY_S <= bursts.since("B1") <= EVERY_S + 1


def test_two_that_stop_before_the_shelf_are_no_change(bursts: Bursts) -> None:
    bursts.burst()
    assert bursts.burst({}, {}, {}, {"A1": "other"}) == []
    assert bursts.burst({"A1": "other"}, {}, {}, {}) == []
    assert bursts.burst() == []


def test_two_that_stop_before_the_lens_are_no_fault(bursts: Bursts) -> None:
    bursts.burst()
    assert bursts.burst({}, {}, DARK, seconds=3) == []
    assert bursts.burst(DARK, {}, {}, seconds=3) == []


def test_a_covered_lens_is_told_and_its_end_as_well(bursts: Bursts) -> None:
    bursts.burst()
    assert bursts.burst(DARK) == ["camera-fault dark"]
    assert bursts.burst(DARK) == []
    assert bursts.burst() == ["camera-fault-cleared dark"]


def test_single_pictures_are_enough(bursts: Bursts) -> None:
    for _ in range(4):
        assert bursts.burst(seconds=0.5) == []
    assert bursts.shelf.snapshot().products
    told = [bursts.burst({"B1": "empty"}, seconds=0.5) for _ in range(4)]
    # Three that agree, and between them two gaps that are worth half a hold each.
    assert told == [[], [], ["slot-changed B1", "out-of-stock jam 0/1"], []]


def test_a_slot_that_is_another_at_each_look_does_not_flood(bursts: Bursts) -> None:
    told = [bursts.burst({"B1": "empty"} if number % 2 else {}) for number in range(100)]
    changes = ["slot-changed B1" in found for found in told]
    # Twenty looks an hour: at first each is told, and after an hour no more than half of them.
    assert sum(changes[:11]) == 10
    assert 8 <= sum(changes[-60:]) <= 35
    # Once it has made up its mind, that is told within three looks.
    final = [bursts.burst({"B1": "tea"}) for _ in range(3)]
    assert any("misplaced B1" in found for found in final)
