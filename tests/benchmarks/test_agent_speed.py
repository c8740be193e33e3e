"""What the agent's speed is measured with: that it measures what it says, never how long it took."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import agent_others, agent_speed
from benchmarks.agent_rig import NEVER_FRESH, Lookalike, Scene, Watch
from edge_agent import slots
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle
from tests.benchmarks.test_measuring import ROOT, script

KIT = bundle.read(ROOT / "benchmarks" / "models" / "grocerystore")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene.rendered(7, tmp_path_factory.mktemp("scene"))


@pytest.mark.slow
def test_the_script_runs_and_tells_everything(tmp_path: Path) -> None:
    options = ("--rounds", 1, "--slots", 2, "--most", 10, "--until", 16, "--note", "a test")
    bundle_folder = ROOT / "benchmarks" / "models" / "grocerystore"
    result = tmp_path / "result.json"
    done = script("agent_speed.py", "--bundle", bundle_folder, *options, "--result", result)
    figures = json.loads(done.stdout)
    assert json.loads(result.read_text())["figures"] == figures
    assert figures["every_slot"]["upright"]["asked_a_frame"] == 2
    assert figures["every_slot"]["quads"]["ms"].keys() == {"bare", "agent"}
    assert figures["static"]["script"]["same_events"]
    assert set(figures["static"]["script"]["missed"].values()) == {0}
    assert 0 < figures["static"]["asked_a_frame"] < 0.2
    assert figures["slots"].keys() == {"1", "10", "every_line", "gated_line"}
    measured, missing = figures["others"]["ms"].keys(), figures["others"]["not_measured"].keys()
    assert {"tutorial, OpenCV", "ONNX Runtime", "OpenCV DNN", "MediaPipe Tasks"} <= measured | missing


def test_slots_of_every_number_lie_in_the_frame_apart(scene: Scene) -> None:
    for count in (1, 10, 24, 100, 400):
        quads = slots.corners(scene.shelf(count, ["a", "b"]))
        assert len(quads) == count
        assert quads.min() >= 0
        assert (quads.reshape(-1, 2).max(axis=0) <= (1920, 1080)).all()
        picture = np.zeros((1080, 1920), np.uint8)
        for (left, top), _, (right, bottom), _ in quads.astype(int):
            picture[top:bottom, left:right] += 1
        assert picture.max() == 1
    sizes = slots.corners(scene.shelf(24, ["a"]))
    assert (sizes[:, 2] - sizes[:, 0] == (150, 230)).all()


def test_every_slot_means_every_slot_and_the_gate_asks_about_none(scene: Scene) -> None:
    shelf = scene.shelf(6, ["milk-carton", "tea-box"])
    model = Lookalike(count=1)
    every = Watch(shelf, scene.reference, model, refresh_s=NEVER_FRESH)
    gated = Watch(shelf, scene.reference, model, refresh_s=60)
    for frame in scene.frames[:12]:
        every.see(frame)
        gated.see(frame)
    assert every.model.asked == 11 * 6
    # Until an answer has held for 1.2 s at 2 frames/s: four pictures.
    assert gated.model.asked == 4 * 6


def test_the_alternatives_that_can_be_measured_answer_as_the_model_does(scene: Scene) -> None:
    model = Classifier(KIT)
    shelf = scene.shelf(4, model.labels)
    crops = slots.crops(scene.frames[0], slots.corners(shelf), np.eye(3), model.height, model.width)
    expected = model.scores(crops).argmax(axis=1)
    assert agent_others.bare(KIT.model, crops)(scene.frames[0]) is None
    ways, missing = agent_others.ready(KIT.model, None, shelf)
    assert missing["ONNX Runtime"]
    for way in ways.values():
        # They resize in another way, so that a doubtful crop may get another answer.
        assert (np.array(way(scene.frames[0])) == expected).mean() >= 0.5


def test_a_line_is_told_from_a_curve() -> None:
    assert agent_speed._line([1, 10, 100], [3.0, 12.0, 102.0]) == pytest.approx(
        {"base_ms": 2.0, "slot_ms": 1.0, "beside": 0.0}
    )
    assert agent_speed._line([1, 10, 100], [1.0, 100.0, 10_000.0])["beside"] > 0.5
