"""The bench: figures that fit each other, from the agent's own code."""

import json
import shutil
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent import setup
from edge_agent.bench import measured
from edge_agent.camera.shelf.files import write_scene
from edge_agent.camera.shelf.film import Film
from edge_agent.contracts.errors import DeviceError
from tests.conftest import Kit, write_device

STAGES = {"look", "align", "gate", "crop", "classify"}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Path:
    """A device.yaml with a rendered scene."""
    folder = tmp_path_factory.mktemp("shelf")
    write_scene(folder, seed=7)
    return write_device(folder, bundle_folder, rules="{confirm_s: 0.6}")


def test_figures_of_the_reference_picture(shelf: Path, kit: Kit) -> None:
    figures = json.loads(kit("agent", "bench", "--config", shelf, "--frames", 20, "--json").stdout)
    assert (figures["frames"], figures["slots"]) == (20, 16)
    assert figures["frame"] == {"width": 1280, "height": 720}
    assert set(figures["stages"]) == STAGES
    # Without the gate's say every slot is classified, and behind it hardly one of a shelf that stands still.
    assert figures["every_slot"]["classified_a_frame"] == 16
    assert figures["with_gate"]["classified_a_frame"] < 4
    for way in ("every_slot", "with_gate", "bare_interpreter"):
        row = figures[way]
        assert 0 < row["median_ms"] <= row["p95_ms"]
        assert row["slots_per_s"] > 0
    assert figures["every_slot"]["slots_per_s"] < figures["bare_interpreter"]["slots_per_s"]
    assert figures["memory_mb"] > 20


def test_the_same_in_words(shelf: Path, kit: Kit) -> None:
    done = kit("agent", "bench", "--config", shelf, "--frames", 10, "--source", "shelf:seed=7")
    for word in ("every slot", "with gate", "bare interpreter", "classify", "10 frames of 1280x720", "MB"):
        assert word in done.stdout


def test_the_cameras_frames_and_their_end(shelf: Path, tmp_path: Path, kit: Kit) -> None:
    film = Film(7)
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), film.frame(-3 + number / 5))
    config = shelf.with_name("folder.yaml")
    config.write_text(shelf.read_text().replace("shelf:seed=7", f"folder:{tmp_path}"))
    done = kit("agent", "bench", "--config", config, "--source", "camera", "--json")
    # All twelve are there; the first of them are needed until the shelf is settled.
    assert 0 < json.loads(done.stdout)["frames"] <= 12


def test_what_does_not_show_the_shelf_is_no_figure(shelf: Path, kit: Kit) -> None:
    made = setup.read(shelf)
    with pytest.raises(DeviceError, match="the shelf"):
        measured(made, repeat(np.zeros((720, 1280, 3), np.uint8)), 10)
    with pytest.raises(DeviceError, match="0 others"):
        measured(made, iter(()), 10)
    assert "starts with" in kit("agent", "bench", "--config", shelf, "--source", "x", code=2).stderr
    broken = shutil.copy(shelf, shelf.with_name("broken.yaml"))
    Path(broken).write_text(shelf.read_text().replace("bundle:", "bundle: nowhere #"))
    assert "Expected" in kit("agent", "bench", "--config", broken, code=6).stderr
