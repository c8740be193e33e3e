"""The proof that the agent is right: that it would notice if it were not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import decision, right
from benchmarks.decision import Hold, Ratio, Tape
from benchmarks.right_watch import Job, around, judged, visible
from deploy.demo.expected import Expected
from edge_agent.camera.shelf import truth
from edge_agent.contracts.errors import DataError
from tests.benchmarks.test_measuring import script

SHELF = truth.planogram(Path("reference.jpg"))
STORY: dict[str, Any] = {
    "start": {slot.id: slot.product for slot in SHELF.slots},
    "changes": [{"at": 20.0, "slot": "A8", "label": "empty", "cause": "taken"}],
    "hands": [
        {"from": 18.2, "until": 20.0, "slots": ["A8", "B8"]},
        {"from": 22.0, "until": 23.5, "slots": ["A8"]},
        {"from": 25.0, "until": 26.0, "slots": ["A1"]},
        {"from": 30.0, "until": 31.0, "slots": ["A8"]},
    ],
    "covers": [{"from": 40.0, "until": 47.0}],
    "lights": [],
    "bumps": [21.0],
}


def told(*said: tuple[float, str, str, str]) -> dict[str, Any]:
    """Return what a seed gives in which one bottle is taken, with an agent that says certain things."""
    due = [
        {"at": 20.0, "kind": "slot-changed", "about": "A8", "detail": "empty", "visible": 23.5},
        {"at": 20.0, "kind": "out-of-stock", "about": "ketchup-bottle", "detail": "", "visible": 23.5},
    ]
    events = [{"at": at, "key": key, "id": str(number)} for number, (at, *key) in enumerate(said)]
    return {"seed": 1, "frames": 1200, "took_s": 20.0, "due": due, "said": events, "script": STORY}


CHANGED, OUT = ("slot-changed", "A8", "empty"), ("out-of-stock", "ketchup-bottle", "")


def test_a_change_is_in_the_open_once_no_arm_hides_it_for_long_enough() -> None:
    slot = Expected(20.0, "slot-changed", "A8", "empty")
    assert visible(STORY, SHELF, slot, 1.5) == 20.0
    assert visible(STORY, SHELF, slot, 4.0) == 23.5
    assert visible(STORY, SHELF, slot, 7.0) == 31.0
    assert visible(STORY, SHELF, Expected(20.0, "out-of-stock", "ketchup-bottle"), 4.0) == 23.5
    assert visible(STORY, SHELF, Expected(40.0, "camera-fault", "blocked"), 4.0) == 40.0


def test_a_right_agent_has_no_mistakes() -> None:
    figures = right.summary(Job(Path(), 10, 2.0, 3.0), [told((26.9, *CHANGED), (27.5, *OUT))])
    assert (figures["expected"], figures["right"], figures["wrong"]) == (2, 2, [])
    assert figures["precision"]["share"] == figures["recall"]["share"] == 1.0
    assert figures["delay_s"] == {
        "allowed": 4.0,
        "median": 3.7,
        "p95": 3.97,
        "worst": 4.0,
        "late_share": 0.0,
        "late": [],
    }
    # Told before anybody could be sure of it, but after it happened.
    assert judged(told((23.2, *CHANGED), (23.2, *OUT))).delays == [0.0, 0.0]


def test_every_mistake_is_named_with_what_happened_around_it() -> None:
    said = (
        (28.0, *CHANGED),
        (28.5, *CHANGED),
        (29.0, "slot-changed", "B1", "unknown"),
        (33.0, "camera-fault", "moved", ""),
    )
    figures = right.summary(Job(Path(), 10, 2.0, 3.0), [told(*said)])
    assert [(one["what"], one["event"]) for one in figures["wrong"]] == [
        ("missed", "out-of-stock ketchup-bottle"),
        ("extra", "slot-changed B1 unknown"),
        ("extra", "camera-fault moved"),
        ("twice", "slot-changed A8 empty"),
    ]
    assert figures["camera_alarms_wrong"] == 1
    assert (figures["precision"]["share"], figures["recall"]["share"]) == (0.25, 0.5)
    assert [(late["event"], late["delay_s"]) for late in figures["delay_s"]["late"]] == [
        ("slot-changed A8 empty", 4.5)
    ]
    assert figures["by_kind"]["camera-fault"] == {"due": 0, "missed": 0, "extra": 1}
    assert around(STORY, "A8", 23.5) == [
        "hidden 18.2 to 20",
        "A8 taken 20",
        "bumped 21",
        "hidden 22 to 23.5",
        "hidden 30 to 31",
    ]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_no_other_run_is_mixed_with_it(
    tmp_path: Path, bundle_folder: Path
) -> None:
    result, out = tmp_path / "result.json", tmp_path / "out"
    options = ("--minutes", 1, "--fps", 2, "--jobs", 1)
    script("right.py", bundle_folder, out, "--seeds", 1, *options)
    before = (out / "0.json").stat()
    done = script("right.py", bundle_folder, out, "--seeds", 2, *options, "--result", result)
    assert (out / "0.json").stat().st_mtime_ns == before.st_mtime_ns
    figures = json.loads(result.read_text())["figures"]
    assert json.loads(done.stdout) == figures
    assert figures["expected"] >= 10
    assert (figures["seeds"], figures["frames"], figures["camera_alarms_wrong"]) == (2, 240, 0)
    assert figures["precision"]["share"] >= 0.9
    with pytest.raises(DataError, match="Expected"):
        right.watch_all(Job(bundle_folder, 2, 2.0, 3.0), [0], out, 1)


def tape(*rows: tuple[str, float], changes: list[tuple[float, str]]) -> Tape:
    """Return a tape of one slot: what the model says in each half second and how sure it is of it."""
    labels = ["tea", "empty", "unknown"]
    chances = np.full((len(rows), 1, 3), np.nan, np.float32)
    for number, (label, chance) in enumerate(rows):
        if label != "hand":
            chances[number, 0] = (1 - chance, 1 - chance, 0.5)
            chances[number, 0, labels.index(label)] = chance
    told = {
        "start": {"A1": "tea"},
        "changes": [{"at": at, "slot": "A1", "label": label} for at, label in changes],
    }
    return Tape(np.arange(len(rows)) / 2, chances, labels, ["A1"], told)


def test_both_rules_decide_and_are_judged() -> None:
    calm = [("tea", 0.99)] * 8
    shopper = tape(*calm, *[("hand", 0)] * 3, *[("empty", 0.99)] * 10, changes=[(5.0, "empty")])
    assert list(Hold(3.0).facts(shopper)) == [(3.0, "A1", "tea"), (8.5, "A1", "empty")]
    assert list(Ratio(9.0, 3.0).facts(shopper)) == [(0.5, "A1", "tea"), (6.5, "A1", "empty")]
    assert decision.figures([shopper], Hold(3.0)) == {
        "setting": {"confirm_s": 3.0},
        "false": 0,
        "false_per_slot_hour": 0.0,
        "missed_share": 0.0,
        "median_s": 3.5,
        "p95_s": 3.5,
    }
    # A hand that rests looks like something else for two seconds.
    resting = tape(*calm, *[("empty", 0.97)] * 4, *calm, changes=[])
    assert list(Hold(3.0).facts(resting)) == [(3.0, "A1", "tea")]
    assert [label for _, _, label in Ratio(9.0, 3.0).facts(resting)] == ["tea", "empty", "tea"]
    assert decision.figures([shopper, resting], Ratio(9.0, 3.0))["false"] == 1
    assert decision.figures([shopper], Hold(6.0))["missed_share"] == 1.0
