"""A ready `.tflite` to a bundle, as a user brings it; what is wrong with one, and what may come between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from convert import checks, flatbuffer, ready
from convert.pixels import RANGES
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle, dataset, photos
from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import BundleError, DataError
from tests.conftest import Kit
from tests.convert.by_hand import brightest

COLOURS = ["red", "green", "blue"]
CLASSES = [LabelEntry(label=label) for label in COLOURS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, its labels, and room for what is made of them."""
    (tmp_path / "model.tflite").write_bytes(brightest())
    (tmp_path / "labels.txt").write_text("\n".join(COLOURS))
    (tmp_path / "made").mkdir()
    return tmp_path


def words(folder: Path, *more: object, model: str = "model.tflite") -> list[str]:
    options = ("--labels", folder / "labels.txt", "--pixels", "0..1", "--out", folder / "made" / "bundle")
    return list(map(str, ("convert", "import", folder / model, *options, *more)))


def painted(channel: int, count: int, seed: int = 0) -> np.ndarray:
    """Noise in which one channel is the brightest: uint8 (count, 32, 32, 3), RGB."""
    painting = np.random.default_rng(seed).integers(0, 100, (count, 32, 32, 3), np.uint8)
    painting[..., channel] += 100
    return painting


def read(content: bytes, folder: Path, classes: list[LabelEntry] = CLASSES) -> ready.Ready:
    (folder / "model.tflite").write_bytes(content)
    return ready.read(folder / "model.tflite", classes, wanted=RANGES["0..1"], output=None)


def test_the_part_that_judges_is_measured_as_evaluate_does(folder: Path, kit: Kit) -> None:
    """All of the training pictures are filed wrongly: they must not count, and no golden is one of them."""
    images = np.concatenate([painted(channel, 80, seed=channel) for channel in range(3)])
    labels = np.repeat(np.arange(3), 80)
    train = 255 - images
    np.savez(folder / "photos.npz", x_train=train, y_train=labels, x_test=images, y_test=labels)
    told = json.loads(kit(*words(folder, "--data", folder / "photos.npz", "--json")).stdout)
    assert (told["part"], told["n"], told["accuracy"]) == ("test", 240, 1.0)
    made = folder / "made" / "bundle"
    options = ("--split", "test", "--json")
    same = json.loads(kit("convert", "evaluate", made, folder / "photos.npz", *options).stdout)
    assert {key: same[key] for key in ("n", "accuracy", "accuracy_95")} == {
        key: told[key] for key in ("n", "accuracy", "accuracy_95")
    }
    golden, scores = bundle.read(made).golden()
    known = {picture.tobytes() for picture in images}
    assert {picture.tobytes() for picture in golden} <= known
    # Class after class in the file, and every class among the golden vectors.
    assert np.bincount(scores.argmax(axis=1)).tolist() in ([6, 5, 5], [5, 6, 5], [5, 5, 6])


def test_photos_without_parts_are_all_measured(folder: Path, kit: Kit) -> None:
    for channel, name in enumerate(COLOURS):
        (folder / "photos" / name).mkdir(parents=True)
        for number, photo in enumerate(painted(channel, 4)):
            cv2.imwrite(str(folder / "photos" / name / f"{number}.png"), photo[..., ::-1])
    (folder / "photos" / "red" / "broken.png").write_bytes(b"no picture")
    done = kit(*words(folder, "--data", folder / "photos"))
    assert "100.00 % of 12 photos right" in done.stdout
    assert "left out: red/broken.png" in done.stderr


@pytest.mark.parametrize("count", [2, 4])
def test_numbers_of_other_classes_are_refused(folder: Path, kit: Kit, count: int) -> None:
    images, labels = painted(0, count), np.arange(count)
    np.savez(folder / "photos.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    done = kit(*words(folder, "--data", folder / "photos.npz"), code=4)
    assert f"3 labels. Received: 0 to {count - 1}" in " ".join(done.stderr.split())
    assert list((folder / "made").iterdir()) == []


def test_a_file_with_a_long_name_gives_a_bundle_a_shorter_one(folder: Path, kit: Kit) -> None:
    name = "m" * 200
    (folder / f"{name}.tflite").write_bytes(brightest())
    kit(*words(folder, model=f"{name}.tflite"))
    assert bundle.read(folder / "made" / "bundle").manifest.name == name[:64]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, bad: float) -> None:
    weights = np.eye(3, dtype=np.float32)
    weights[1, 2] = bad
    with pytest.raises(DataError, match=r"weights that are numbers\. Received: 1 of 9 in 'kernel'"):
        read(brightest(weights=weights), tmp_path)


def test_the_command_says_so_too(folder: Path, kit: Kit) -> None:
    (folder / "model.tflite").write_bytes(brightest(weights=np.full((3, 3), np.nan, np.float32)))
    assert "9 of 9 in 'kernel'" in kit(*words(folder), code=4).stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (brightest(1025, 32), r"Received: 1025x32 px \(height: .* 1024\)"),
        (brightest(32, 4096), r"Received: 32x4096 px \(width: .* 1024\)"),
        (brightest(channels=1), r"\(1, height, width, 3\).*\(1, 32, 32, 1\)"),
        (brightest(channels=4), r"\(1, height, width, 3\).*\(1, 32, 32, 4\)"),
        (brightest(weights=np.eye(5, 3)), r"each of the 3 labels.*\(1, 5\)"),
        (brightest(weights=np.ones((1, 3))), r"each of the 3 labels.*\(1, 1\)"),
    ],
    ids=["high", "wide", "grey", "four channels", "five scores", "one score"],
)
def test_what_is_no_classifier_of_ours(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read(content, tmp_path)
    assert caught.value.hint


def test_the_largest_input_that_a_bundle_can_have(tmp_path: Path) -> None:
    assert read(brightest(1024, 1024), tmp_path).height == 1024
    assert checks.noise(1024, 1024, 1).shape == (1, 1024, 1024, 3)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_short(tmp_path: Path, share: float) -> None:
    content = brightest()
    with pytest.raises(BundleError, match="Expected: a") as caught:
        read(content[: int(share * len(content))], tmp_path)
    assert caught.value.exit_code == 6


def test_a_large_file_that_was_cut_short(public_data: Path, tmp_path: Path, kit: Kit) -> None:
    content = (public_data / "mlperf_tiny" / "vww_96_int8.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    (tmp_path / "labels.txt").write_text("nobody\nperson\n")
    assert "whole TFLite model" in kit(*words(tmp_path, model="cut.tflite"), code=6).stderr


@pytest.mark.slow
def test_visual_wake_words(public_data: Path, tmp_path: Path, kit: Kit) -> None:
    """Its input is int8 and spans 0 to 1; it sees nobody in a cat or a hot dog, and doubts about a bird."""
    place = public_data / "mlperf_tiny" / "vww_96_int8.tflite"
    (tmp_path / "labels.txt").write_text("nobody\nperson\n")
    options = ("--labels", tmp_path / "labels.txt", "--out", tmp_path / "bundle")
    kit("convert", "import", place, *options)
    classifier = Classifier(bundle.read(tmp_path / "bundle"))
    made = classifier.manifest
    assert made.input.pixels == [float(value) for value in range(-128, 128)]
    assert (made.input.height, made.input.width, made.output.kind) == (96, 96, "probabilities")
    found = dataset.unlabelled(public_data / "coral_test_data")
    shown, _ = photos.decode(found, 96, 96)
    nobody = {
        photo.name: float(score[0])
        for photo, score in zip(shown.photos, classifier.scores(shown.images), strict=True)
    }
    assert nobody["cat.bmp"] > 0.8 < nobody["hot_dog.jpg"]
    assert nobody["bird.bmp"] == pytest.approx(0.5, abs=0.25)
    kit("convert", "verify", tmp_path / "bundle")


def test_constants_of_every_float_type() -> None:
    content = brightest(weights=np.arange(9, dtype=np.float32).reshape(3, 3))
    ((name, values),) = flatbuffer.constants(content, flatbuffer.read(content))
    assert name == "kernel"
    assert values.tolist() == list(range(9))


def test_a_full_disk_leaves_no_half_bundle(folder: Path) -> None:
    """No file may grow beyond half of the model's size, as on a disk with no more room."""
    script = (
        "import resource, sys; from edge_agent.cli import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(brightest()) // 2},) * 2); sys.exit(main())"
    )
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *words(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    assert "Expected: room for a bundle" in done.stderr
    assert list((folder / "made").iterdir()) == []


def stopped(folder: Path, number: signal.Signals) -> int:
    """Import a model of large pictures, and send a signal as soon as the bundle is being written."""
    (folder / "model.tflite").write_bytes(brightest(512, 512))
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.cli", *words(folder)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not any((folder / "made").glob(".tmp-*")):
        time.sleep(0.001)
    process.send_signal(number)
    return process.wait(timeout=120)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_leaves_no_half_bundle(folder: Path) -> None:
    assert stopped(folder, signal.SIGINT) == 130
    assert list((folder / "made").iterdir()) == []


@pytest.mark.slow
def test_a_kill_leaves_no_half_bundle_and_nothing_in_the_way(folder: Path, kit: Kit) -> None:
    assert stopped(folder, signal.SIGKILL) == -signal.SIGKILL
    made = folder / "made" / "bundle"
    assert not made.exists()
    (folder / "model.tflite").write_bytes(brightest())
    kit(*words(folder))
    kit("convert", "verify", made)
