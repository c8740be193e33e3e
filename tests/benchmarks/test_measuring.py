"""The scripts that take times: that they measure what they say, never how long it took."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import throughput
from edge_agent.contracts.errors import DataError, UsageError

ROOT = Path(__file__).parents[2]


def script(name: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, arguments)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twenty JPEG photos."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(1)
    for label in ("plum", "pear"):
        (folder / label).mkdir()
        for number in range(20):
            cv2.imwrite(str(folder / label / f"{number}.jpg"), rng.integers(0, 256, (60, 50, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright pictures of 32 px as .npz: learned at once."""
    rng = np.random.default_rng(2)
    labels = {"train": np.arange(60) % 2, "test": np.arange(12) % 2}
    parts: dict[str, np.ndarray] = {}
    for part, numbers in labels.items():
        noise = rng.integers(0, 90, (len(numbers), 32, 32, 3), np.uint8)
        parts[f"x_{part}"] = noise + (160 * numbers).astype(np.uint8)[:, None, None, None]
        parts[f"y_{part}"] = numbers
    path = tmp_path_factory.mktemp("npz") / "cifar.npz"
    np.savez(path, **parts)  # type: ignore[arg-type]
    return path


def test_both_ways_get_the_same_photos(files: Path, tmp_path: Path) -> None:
    assert throughput.laid_out(files, tmp_path) == {"class-00000": 20, "class-00001": 20}
    linked = {path.resolve() for path in tmp_path.rglob("*.jpg")}
    assert linked == {path.resolve() for path in files.rglob("*.jpg")}


def test_photos_that_only_one_way_could_read_are_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Expected: photos in JPEG, PNG or BMP files"):
        throughput.laid_out(pictures, tmp_path)


def test_what_waits_for_its_batches_is_seen_to_wait() -> None:
    class Model:
        def train_on_batch(self, batch: int) -> None:
            trained.append(batch)

    trained: list[int] = []
    waited, all_s = throughput._waited(Model(), iter([(1,), (2,), (3,)]))
    assert trained == [1, 2, 3]
    assert 0 <= waited <= all_s


def test_one_turn_of_a_way_that_is_none_is_refused(files: Path) -> None:
    assert "kit-free" in script("throughput.py", "turn", "other", files, code=UsageError.exit_code).stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kit", "keras-changed"])
def test_a_turn_measures_fit_data_step_and_waiting(files: Path, way: str) -> None:
    done = script("throughput.py", "turn", way, files, "--image-px", 32, "--batch-size", 8, "--epochs", 1)
    found = json.loads(done.stdout)
    assert set(found) == {"fit", "data", "step", "waiting"}
    assert min(found["fit"], found["data"], found["step"]) > 0
    assert 0 <= found["waiting"] <= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_ways_are_measured_in_turns(files: Path, tmp_path: Path) -> None:
    result = tmp_path / "throughput.json"
    small = ("--image-px", 32, "--batch-size", 8, "--epochs", 1, "--rounds", 1, "--result", result)
    figures = json.loads(script("throughput.py", files, *small).stdout)
    assert set(figures["images_per_s"]) == set(throughput.WAYS)
    rates = figures["images_per_s"]
    expected = rates["kit"]["fit"] / rates["keras"]["fit"]
    assert figures["ratios"]["kit/keras"] == pytest.approx(expected)
    assert (figures["photos"], figures["classes"]) == (40, 2)
    assert json.loads(result.read_text())["figures"] == figures


SMALL = ("--batch-size", "20", "--width", "0.1")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_time_to_a_target_that_can_be_reached(pictures: Path, tmp_path: Path, backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax", reason="JAX comes with an extra of its own")
    result = tmp_path / "time.json"
    options = ("--data", pictures, "--backend", backend, "--epochs", 8, "--result", result, *SMALL)
    figures = json.loads(script("time_to_accuracy.py", *options).stdout)
    assert figures["backend"] == backend
    assert figures["device"]
    assert figures["photos"] == {"train": 60, "held_out": 12}
    assert figures["best_accuracy"] == max(figures["accuracies"]) >= 0.94
    assert figures["accuracies"][-1] >= 0.94
    assert 0 < figures["seconds_to_target"] == figures["seconds"]
    assert figures["images_per_s"] > 0
    assert figures["record"]["seconds"] == 2.59
    assert json.loads(result.read_text())["figures"] == figures


@pytest.mark.slow
def test_it_ends_at_the_limit_and_says_that_the_target_was_not_reached(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "noise.npz"
    x_train, x_test = (rng.integers(0, 256, (count, 32, 32, 3), np.uint8) for count in (60, 100))
    y_train, y_test = (rng.integers(0, 2, count) for count in (60, 100))
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    options = ("--data", path, "--epochs", 1000, "--limit-s", 0.1, "--target", 1, *SMALL)
    figures = json.loads(script("time_to_accuracy.py", *options).stdout)
    assert figures["seconds_to_target"] is None
    assert figures["seconds"] >= 0.1
    assert len(figures["accuracies"]) == figures["epochs"] < 1000


@pytest.mark.slow
def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    images, labels = np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.int64)
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    done = script("time_to_accuracy.py", "--data", path, code=DataError.exit_code)
    assert "Expected: uint8 pictures of 32x32 px" in done.stderr
