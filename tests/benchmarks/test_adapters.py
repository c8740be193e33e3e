"""The adapter of CIFAR-10's sheets, and the file that a measured figure ends in."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import cifar10_sheets, measured
from edge_agent.contracts import dataset
from edge_agent.contracts.errors import DataError, UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sheets of 4 x 5 tiles: the red of tile n is n, its green the row in it, its label n modulo 4."""
    folder = tmp_path_factory.mktemp("sheets")
    tiles = np.zeros((40, 32, 32, 3), np.uint8)
    tiles[..., 0] = np.arange(40)[:, None, None]
    tiles[..., 1] = np.arange(32)[:, None]
    tiles[..., 2] = 200
    for number, part in enumerate(np.split(tiles, 2)):
        rows = [np.concatenate(list(row), axis=1) for row in part.reshape(4, 5, 32, 32, 3)]
        sheet = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
        lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
        assert cv2.imwrite(str(folder / f"train_{number:02}.webp"), sheet, lossless)
    np.save(folder / "y_train.npy", (np.arange(40) % 4).astype(np.uint8))
    return folder


def adapt(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "benchmarks" / "cifar10_sheets.py"), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_sheets_become_pictures_in_their_order_with_every_pixel(sheets: Path) -> None:
    images, labels = cifar10_sheets.read_sheets(sheets)
    assert images.shape == (40, 32, 32, 3)
    assert images[:, 5, 5, 0].tolist() == list(range(40))
    assert (images[:, :, 3, 1] == np.arange(32)).all()
    assert (images[..., 2] == 200).all()
    assert labels.tolist() == [number % 4 for number in range(40)]


def test_the_file_is_one_that_the_kit_reads_and_nothing_stands_on_both_sides(
    sheets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "cifar.npz"
    done = adapt(sheets, out, "--held-out", 12, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"out": str(out), "train": 28, "held_out": 12, "seed": 3}
    with np.load(out) as parts:
        train, test = (parts[name][:, 0, 0, 0].tolist() for name in ("x_train", "x_test"))
        assert np.bincount(parts["y_test"]).tolist() == [3, 3, 3, 3]
        assert [int(label) for label in parts["y_test"]] == [number % 4 for number in test]
    assert sorted(train + test) == list(range(40))
    found = dataset.read(out)
    assert found.labels == ["0", "1", "2", "3"]
    assert [photo.part for photo in found.photos].count("test") == 12


def test_the_draw_is_the_seeds(sheets: Path) -> None:
    _, labels = cifar10_sheets.read_sheets(sheets)
    one, same, other = (cifar10_sheets.draw(labels, 12, seed).tolist() for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize("count", [10, 40, 44])
def test_a_draw_that_is_not_even_or_takes_all_is_refused(sheets: Path, count: int) -> None:
    _, labels = cifar10_sheets.read_sheets(sheets)
    with pytest.raises(UsageError, match=f"Received: {count}"):
        cifar10_sheets.draw(labels, count, 1)


def test_what_is_wrong_with_sheets_is_told(sheets: Path, tmp_path: Path) -> None:
    done = adapt(tmp_path, tmp_path / "x.npz")
    assert done.returncode == DataError.exit_code
    assert "Expected: sheets train_*.webp" in done.stderr
    (tmp_path / "train_00.webp").write_bytes((sheets / "train_00.webp").read_bytes())
    with pytest.raises(DataError, match=r"Expected: labels in .*y_train\.npy"):
        cifar10_sheets.read_sheets(tmp_path)
    np.save(tmp_path / "y_train.npy", np.zeros(7, np.int64))
    with pytest.raises(DataError, match=r"Expected: 20 labels.*Received: 7"):
        cifar10_sheets.read_sheets(tmp_path)
    cv2.imwrite(str(tmp_path / "train_00.webp"), np.zeros((40, 64, 3), np.uint8))
    with pytest.raises(DataError, match="Received: 64x40 px"):
        cifar10_sheets.read_sheets(tmp_path)
    assert adapt(sheets, tmp_path / "x.txt").returncode == UsageError.exit_code


def test_a_result_says_what_was_run_and_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "results" / "x.json"
    told = measured.write(
        path,
        script="x.py",
        command=measured.command("x.py", [str(tmp_path / "data.npz"), "--px", "96", "--more", "a b"]),
        at=datetime(2026, 11, 24, 23, 0, tzinfo=UTC),
        figures={"accuracy": 0.5},
    )
    assert json.loads(path.read_text()) == told
    assert told["command"] == "python benchmarks/x.py data.npz --px 96 --more 'a b'"
    assert told["date"] == "2026-11-24"
    assert set(told) == {"script", "command", "machine", "date", "versions", "figures"}
    assert set(told["machine"]) == {"cpu", "cores", "memory_gib"}
    assert told["machine"]["cores"] >= 1
    assert {"python", "keras", "numpy", "shelfkit"} <= set(told["versions"])
    assert str(tmp_path) not in path.read_text()


def test_a_result_that_is_no_number_or_has_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    at = datetime(2026, 11, 24, tzinfo=UTC)
    path.write_text("before")
    with pytest.raises(ValueError, match="JSON compliant"):
        measured.write(path, script="x.py", command=[], at=at, figures={"loss": float("nan")})
    assert path.read_text() == "before"
    with pytest.raises(DataError, match="Expected: a result that can be written"):
        measured.write(path / "below.json", script="x.py", command=[], at=at, figures={})


def test_the_real_sheets_are_all_there(public_data: Path) -> None:
    images, labels = cifar10_sheets.read_sheets(public_data / "cifar10")
    assert images.shape == (50_000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [5000] * 10
    rows = cifar10_sheets.draw(labels, 5000, 7)
    assert np.bincount(labels[rows]).tolist() == [500] * 10
    assert len(set(rows.tolist())) == 5000
