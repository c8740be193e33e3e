"""MLPerf Tiny's networks side by side: what is drawn, what is told, and what is not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cifar10_sheets, mlperf_tiny
from edge_agent.contracts import dataset
from edge_agent.contracts.errors import DataError, UsageError

ROOT = Path(__file__).parents[2]
CIFAR = ROOT / "benchmarks" / "models" / "cifar10"


def script(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "benchmarks" / "mlperf_tiny.py"), *map(str, arguments)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def written(path: Path, train: int, test: int) -> Path:
    """Pictures whose red is their number, its last digit their label; those to test on begin at 128."""
    numbers = {"train": np.arange(train, dtype=np.uint8), "test": np.arange(128, 128 + test, dtype=np.uint8)}
    arrays: dict[str, np.ndarray] = {}
    for part, shades in numbers.items():
        images = np.zeros((len(shades), 32, 32, 3), np.uint8)
        images[..., 0] = shades[:, None, None]
        arrays |= {f"x_{part}": images, f"y_{part}": (shades % 10)[:, None]}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_what_judges_and_what_calibrates_stay_apart_and_keep_their_labels(tmp_path: Path) -> None:
    source = written(tmp_path / "all.npz", 100, 60)
    images, truth = mlperf_tiny._drawn(source, tmp_path / "drawn.npz", 20, 7)
    shades = images[:, 0, 0, 0]
    assert len(set(shades.tolist())) == 20
    assert shades.min() >= 128
    assert truth.tolist() == (shades % 10).tolist()
    found = dataset.read(tmp_path / "drawn.npz")
    assert [photo.part for photo in found.photos] == ["train"] * 100 + ["test"] * 20
    again, _ = mlperf_tiny._drawn(source, tmp_path / "again.npz", 20, 7)
    other, _ = mlperf_tiny._drawn(source, tmp_path / "other.npz", 20, 8)
    assert np.array_equal(images, again)
    assert not np.array_equal(images, other)


def test_where_there_are_fewer_pictures_all_of_them_judge(tmp_path: Path) -> None:
    source = written(tmp_path / "all.npz", 10, 12)
    images, truth = mlperf_tiny._drawn(source, tmp_path / "drawn.npz", 100, 7)
    assert len(images) == len(truth) == 12


def test_a_bundle_answers_through_the_devices_classifier(tmp_path: Path) -> None:
    images, _ = mlperf_tiny._drawn(written(tmp_path / "all.npz", 10, 12), tmp_path / "drawn.npz", 3, 7)
    assert mlperf_tiny._answers(CIFAR, images).shape == (3, 10)
    size = {"bytes": (CIFAR / "model.tflite").stat().st_size, "multiply_adds": 86_411_136}
    assert mlperf_tiny._size(CIFAR) == size


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{empty}", "{pictures}"], DataError.exit_code, "pretrainedResnet.tflite"),
        (["{empty}", "{empty}/none.npz"], DataError.exit_code, "x_train, y_train, x_test, y_test"),
        (["{empty}", "{pictures}", "--count", "50"], UsageError.exit_code, "--count"),
    ],
    ids=["no models", "no pictures", "too few to tell anything"],
)
def test_what_is_not_there_is_told(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "pictures": written(tmp_path / "all.npz", 10, 12)}
    assert said in script(*(item.format(**places) for item in arguments), code=code).stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_them_answer_the_same_pictures(public_data: Path, tmp_path: Path) -> None:
    """The pictures are some that they were trained on, so accuracies are high; agreement is what it is."""
    images, labels = cifar10_sheets.read_sheets(public_data / "cifar10")
    data, result = tmp_path / "cifar.npz", tmp_path / "mlperf_tiny.json"
    train, test = slice(0, 300), slice(300, 450)
    np.savez(data, x_train=images[train], y_train=labels[train], x_test=images[test], y_test=labels[test])
    words = (public_data / "mlperf_tiny", data, "--count", 150, "--result", result)
    figures = json.loads(script(*words).stdout)
    assert json.loads(result.read_text())["figures"] == figures
    assert figures["n"] == 150
    models = figures["models"]
    foreign = {"float", "int8 of its makers", "large int8 of its makers", "ours"}
    assert set(models) == {*foreign, "kit, cifar10", "kit, grocerystore"}
    assert min(models[name]["accuracy"] for name in (*foreign, "kit, cifar10")) > 0.8
    assert models["kit, cifar10"]["bytes"] == (CIFAR / "model.tflite").stat().st_size
    assert min(found["ms"] for found in models.values()) > 0
    for name in ("int8 of its makers", "ours"):
        assert models[name]["agreement_with_float"] > 0.9
        expected = 100 * (models["float"]["accuracy"] - models[name]["accuracy"])
        assert models[name]["drop_points"] == pytest.approx(expected)
    assert models["ours"]["multiply_adds"] == models["float"]["multiply_adds"]
    assert models["ours"]["bytes"] < models["float"]["bytes"] / 2
