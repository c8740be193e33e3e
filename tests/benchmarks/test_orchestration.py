"""The scripts that lead the real command line, on little photos with little training."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import grocerystore
from edge_agent.contracts import dataset, run
from edge_agent.contracts.errors import UsageError

ROOT = Path(__file__).parents[2]
QUICK = ("--image-px", "32", "--epochs", "2", "--batch-size", "8", "--averaging", "0")
LOOSE = "--max-drop 100 --max-recall-drop 100 --min-agreement 0 --max-calibration-rise 100"


def script(
    name: str, *arguments: object, code: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def shade(rng: np.random.Generator, label: int) -> np.ndarray:
    return rng.integers(160 * label, 160 * label + 90, (40, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def grocery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GroceryStore layout with a dark and a bright class: 30 photos each in train, 6 in val."""
    folder = tmp_path_factory.mktemp("grocery")
    rng = np.random.default_rng(1)
    for part, count in (("train", 30), ("val", 6)):
        lines = []
        for label, name in enumerate(("Plum", "Pear")):
            (folder / part / name).mkdir(parents=True)
            for number in range(1, count + 1):
                file = f"{part}/{name}/{name}_{number:03}.png"
                cv2.imwrite(str(folder / file), shade(rng, label))
                lines.append(f"{file}, {label}, 0\n")
        (folder / f"{part}.txt").write_text("".join(lines))
    (folder / "classes.csv").write_text(
        "Class Name,Class ID,Coarse,Coarse ID\nPlum,0,Fruit,0\nPear,1,Fruit,0\n"
    )
    return folder


def test_photos_of_one_light_are_one_visit() -> None:
    rng = np.random.default_rng(3)
    lights = rng.permutation(np.repeat([20, 120, 220], 8))
    images = np.stack(
        [rng.integers(light - 20, light + 20, (16, 16, 3)).astype(np.uint8) for light in lights]
    )
    labels = np.array([0] * 23 + [1])
    visits = grocerystore.visits_of(images, labels, 8)
    pairs = set(zip(visits[:23], lights[:23].tolist(), strict=True))
    assert len(pairs) == len(set(visits[:23])) == 3
    # The only photo of another class is a visit of its own.
    assert visits[23] not in visits[:23]


@pytest.mark.slow
def test_cross_validation_keeps_visits_together_and_is_not_done_twice(grocery: Path, tmp_path: Path) -> None:
    out, result = tmp_path / "cv", tmp_path / "cv.json"
    words = ("cv", grocery, out, "--folds", 3, "--fold", 1, "--result", result, "--", *QUICK)
    done = script("grocerystore.py", *words)
    figures = json.loads(done.stdout)
    assert "$ shelfkit train" in done.stderr
    assert [score["fold"] for score in figures["runs"]] == [1]
    assert figures["mean"] == run.read(out / "fold-3-1").info.metrics["holdout_accuracy"]
    assert figures["spread"] is None
    parts: dict[str, set[str | None]] = {}
    found = dataset.read(out / "photos-3-1")
    assert len(found.photos) == 60
    assert found.coarse == ("Fruit", "Fruit")
    for photo in found.photos:
        parts.setdefault(photo.group, set()).add(photo.part)
    # Photos of one visit are all tested on, or all trained on.
    assert len(parts) == 8
    assert set(map(str, parts.values())) == {"{'test'}", "{'train'}"}
    again = script("grocerystore.py", *words)
    assert again.stdout == done.stdout
    assert "$ shelfkit" not in again.stderr
    assert json.loads(result.read_text())["figures"] == figures
    other = script("grocerystore.py", *words, "--flip", code=UsageError.exit_code)
    assert "made by" in other.stderr


def test_a_fold_that_is_not_there_is_refused(grocery: Path, tmp_path: Path) -> None:
    words = ("cv", grocery, tmp_path / "cv", "--folds", 3, "--fold", 3)
    assert "Expected: --fold below 3" in script("grocerystore.py", *words, code=2).stderr


@pytest.mark.slow
def test_a_command_that_fails_ends_the_script_with_its_exit_code(grocery: Path, tmp_path: Path) -> None:
    words = ("cv", grocery, tmp_path / "cv", "--fold", 0, "--", "--epochs", 0)
    assert "Expected: --epochs" in script("grocerystore.py", *words, code=UsageError.exit_code).stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_final_run_has_teachers_and_meets_the_validation_list(grocery: Path, tmp_path: Path) -> None:
    out, result = tmp_path / "final", tmp_path / "final.json"
    words = ("final", grocery, out, "--teacher-seed", 1, "--teacher-seed", 2, "--result", result)
    done = script("grocerystore.py", *words, "--convert-options", LOOSE, "--", *QUICK)
    figures = json.loads(done.stdout)
    student = run.read(out / "student").info
    assert student.config["teachers"] == [str(out / "teacher-1"), str(out / "teacher-2")]
    assert [run.read(out / f"teacher-{seed}").info.seed for seed in (1, 2)] == [1, 2]
    assert len(student.split["holdout"]) == figures["float"]["n"] == figures["int8"]["n"] == 12
    low, high = figures["int8"]["accuracy_95"]
    assert low <= figures["int8"]["accuracy"] <= high
    assert figures["int8"]["int8_bytes"] == (out / "bundle" / "model.tflite").stat().st_size
    assert json.loads(result.read_text())["figures"] == figures


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_both_networks_on_cifar_stand_in_one_result(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    train, test = (np.arange(count, dtype=np.int64) % 2 for count in (60, 12))
    x_train, x_test = (np.stack([shade(rng, int(n))[:32, :32] for n in labels]) for labels in (train, test))
    data = tmp_path / "cifar.npz"
    np.savez(data, x_train=x_train, y_train=train, x_test=x_test, y_test=test)
    out, result = tmp_path / "runs", tmp_path / "cifar10.json"
    common = (data, out, "--convert-options", LOOSE, "--result", result)
    script("cifar10.py", "article", *common, "--epochs", 2)
    script("cifar10.py", "best", *common, "--", "--preset", "shelf-32", "--epochs", 2, "--batch-size", 8)
    figures = json.loads(result.read_text())["figures"]
    assert set(figures) == {"best", "article", "published"}
    for name in ("best", "article"):
        assert figures[name]["int8"]["n"] == 12
        assert figures[name]["int8"]["int8_bytes"] > 0
        assert figures[name]["bundle_sha256"]
    assert run.read(out / "article").info.config["optimizer"] == "adam"
    assert run.read(out / "best").info.config["preset"] == "shelf-32"
    assert "article" in figures["published"]
