"""A real training run, and what cannot be trained."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edge_agent.contracts import run
from tests.conftest import Kit
from tests.train.starts import start
from train.config import PRESETS


def test_a_run_is_whole_and_its_parts_are_disjoint(run_folder: Path) -> None:
    found = run.read(run_folder)
    calibration, holdout = found.calibration(), found.holdout()
    parts = {name: set(ids) for name, ids in found.info.split.items()}
    assert set(parts) == {"train", "validation", "holdout", "calibration"}
    assert not parts["holdout"] & (parts["train"] | parts["validation"])
    assert not parts["train"] & parts["validation"]
    assert set(calibration.ids) == parts["calibration"] <= parts["train"]
    assert set(holdout.ids) == parts["holdout"]
    assert holdout.images.shape[1:] == (64, 64, 3)
    assert found.info.packages["keras"]
    assert found.info.config["image_px"] == 64


def test_it_has_learned_what_the_photos_show(run_folder: Path) -> None:
    metrics = run.read(run_folder).info.metrics
    low, high = metrics["holdout_accuracy_95"]
    assert low <= metrics["holdout_accuracy"] <= high
    assert metrics["holdout_accuracy"] > 0.9


def test_the_report_stands_on_its_own(run_folder: Path) -> None:
    page = (run_folder / run.REPORT).read_text()
    assert "milk-carton" in page
    assert "http://" not in page
    assert "https://" not in page


def test_nothing_else_is_left(run_folder: Path) -> None:
    names = {run.INFO, run.MODEL, run.CALIBRATION, run.HOLDOUT, run.REPORT}
    assert {path.name for path in run_folder.iterdir()} == names
    assert [path for path in run_folder.parent.iterdir() if path.name.startswith(".tmp")] == []


_SMALL = ("--preset", "article-cifar", "--image-px", 32, "--batch-size", 8, "--epochs", 1, "--json")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of noise: quickly read, and nothing to learn."""
    folder = tmp_path_factory.mktemp("few")
    rng = np.random.default_rng(1)
    for label in ("empty", "tea"):
        (folder / label).mkdir()
        for number in range(12):
            noise = rng.integers(0, 256, (40, 40, 3), np.uint8)
            cv2.imwrite(str(folder / label / f"{number}.png"), noise)
    (folder / "tea" / "broken.jpg").write_bytes(b"\xff\xd8 cut")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_converts(few: Path, tmp_path: Path, kit: Kit, preset: str) -> None:
    options = ("--preset", preset, "--image-px", 64, "--epochs", 2, "--mixup", 0.2, "--flip", "--json")
    done = kit("train", few, "--out", tmp_path / "run", *options)
    assert json.loads(done.stdout)["rejected"] == 1
    assert "broken.jpg" in done.stderr
    loose = ("--max-drop", 100, "--max-recall-drop", 100, "--min-agreement", 0, "--max-calibration-rise", 100)
    kit("convert", "--int8", tmp_path / "run", "--out", tmp_path / "bundle", *loose)
    kit("convert", "verify", tmp_path / "bundle")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_split_and_config(few: Path, tmp_path: Path, kit: Kit) -> None:
    for name in ("a", "b"):
        kit("train", few, "--out", tmp_path / name, "--image-px", 32, "--epochs", 1, "--name", "x")
    one, other = (run.read(tmp_path / name).info for name in ("a", "b"))
    assert one.split == other.split
    assert one.config == other.config
    assert one.dataset_sha256 == other.dataset_sha256


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--learning-rate", 0], 2, "--learning-rate from 1e-06 to 10"),
        (["--dropout", 1], 2, "--dropout from 0 to 0.9"),
        (["--l1", -0.1], 2, "--l1 from 0 to 1"),
        (["--averaging", 1], 2, "--averaging from 0"),
        (["--batch-size", 0], 2, "--batch-size from 1"),
        (["--optimizer", "lion"], 2, "--optimizer as one of adamw, adam, sgd. Received: 'lion'"),
        (["--loss", "hinge"], 2, "--loss as one of cross-entropy, mean-squared-error"),
        (["--precision", "int8"], 2, "--precision as one of float32"),
        (["--backend", "torch"], 2, "--backend as one of tensorflow, jax"),
        (["--weights", "mine"], 2, "--weights as one of none, imagenet"),
        (["--weights", "imagenet"], 2, "a backbone of keras.applications for --weights"),
        (["--distribute", "all"], 2, "--distribute as one of none, devices, workers"),
        (["--distribute", "workers"], 2, "Expected: TF_CONFIG"),
        (["--preset", "MobileNetV3Smal"], 2, "did you mean MobileNetV3Small"),
        (["--preset", "VGG16", "--image-px", 40, "--weights", "none", "--patience", 0], 2, "patience"),
        (["--teacher", "nowhere"], 4, "a run directory"),
    ],
)
def test_options_that_cannot_be(
    few: Path, tmp_path: Path, options: list[object], code: int, said: str
) -> None:
    refused = start(tmp_path, few, "--out", "new", *_SMALL, *options)
    assert refused.wait() == code, refused.errors
    assert said in refused.errors.replace("\n", " ")
    assert "Traceback" not in refused.errors
    assert not (tmp_path / "new").exists()


def test_logs_for_tensorboard(few: Path, tmp_path: Path) -> None:
    start(tmp_path, few, "--out", "run", *_SMALL, "--epochs", 3, "--tensorboard", "logs").told()
    for part in ("train", "validation"):
        logs = EventAccumulator(str(tmp_path / "logs" / part)).Reload()
        assert len(logs.Tensors("epoch_loss")) == len(logs.Tensors("epoch_accuracy")) == 3


@pytest.mark.slow
def test_teachers_of_whom_one_is_of_another_kind(few: Path, tmp_path: Path) -> None:
    for name, more in (("one", ()), ("two", ("--seed", 8))):
        start(tmp_path, few, "--out", name, *_SMALL, *more).told()
    taught = ("--teacher", "one", "--teacher", "two", "--teacher-share", 1)
    start(tmp_path, few, "--out", "pupil", *_SMALL, *taught).told()
    found = run.read(tmp_path / "pupil").info
    assert found.config["teachers"] == ["one", "two"]
    assert found.weights_sha256 != run.read(tmp_path / "one").info.weights_sha256
    other = start(tmp_path, few, "--out", "other", *_SMALL, "--image-px", 48, "--teacher", "one")
    assert other.wait() == 2
    assert "teachers from (48, 48, 3) to 2 classes. Received: one from (32, 32, 3)" in other.errors


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{few}", "--out", "{few}"], 2, "exists"),
        (["{few}", "--out", "new", "--preset", "resnet"], 2, "shelf-s"),
        (["{few}", "--out", "new", "--image-px", "5000"], 2, "--image-px from 32 to 512"),
        (["{few}", "--out", "new", "--zoom", "1"], 2, "--zoom from 0 to 0.8"),
        (["{few}", "--out", "new", "--levels", "all"], 2, "fine, coarse"),
        (["{few}", "--out", "new", "--epochs", "many"], 2, "--epochs"),
        (["nowhere", "--out", "new"], 4, "folder of photos"),
        (["{few}/tea", "--out", "new"], 4, "labelled photos"),
        (["{one}", "--out", "new"], 4, "at least 5"),
        (["{hollow}", "--out", "new"], 4, "none in"),
    ],
)
def test_what_cannot_be_trained(
    few: Path, tmp_path: Path, kit: Kit, arguments: list[str], code: int, said: str
) -> None:
    for name in ("one/tea", "one/empty", "hollow/tea", "hollow/empty"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("one/tea", "one/empty", "hollow/tea"):
        cv2.imwrite(str(tmp_path / name / "1.png"), np.zeros((20, 20, 3), np.uint8))
    places = {"few": few, "one": tmp_path / "one", "hollow": tmp_path / "hollow"}
    done = kit("train", *(item.format(**places) for item in arguments), code=code, cwd=tmp_path)
    assert said in done.stderr.replace("\n", " ")
    assert not (tmp_path / "new").exists()
