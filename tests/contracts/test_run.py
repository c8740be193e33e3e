"""A run directory: what is read back, and every way in which it can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge_agent.contracts import run
from edge_agent.contracts.errors import DataError

INFO = {
    "name": "dairy",
    "config": {},
    "seed": 7,
    "height": 8,
    "width": 8,
    "dataset_sha256": "ab" * 32,
    "split": {},
    "classes": [{"label": "empty"}, {"label": "milk-1l", "gtin": "09506000134352"}],
}


def samples(*ids: str, **changes: object) -> run.Samples:
    fields = {
        "images": np.zeros((len(ids), 8, 8, 3), np.uint8),
        "labels": np.zeros(len(ids), np.int64),
        "ids": ids,
    }
    return run.Samples(**(fields | changes))  # type: ignore[arg-type]


def write(folder: Path, *, info: object = INFO, calibration: run.Samples | None = None) -> Path:
    (folder / run.INFO).write_text(json.dumps(info))
    (folder / run.MODEL).write_bytes(b"keras")
    (calibration or samples("a", "b")).save(folder / run.CALIBRATION)
    samples("c", "d").save(folder / run.HOLDOUT)
    return folder


def test_what_was_written_is_read(tmp_path: Path) -> None:
    read = run.read(write(tmp_path))
    assert read.info.classes[1].label == "milk-1l"
    assert read.calibration().ids == ("a", "b")
    assert read.holdout().images.shape == (2, 8, 8, 3)


def test_the_identity_changes_with_the_model(tmp_path: Path) -> None:
    before = run.read(write(tmp_path)).sha256
    (tmp_path / run.MODEL).write_bytes(b"other")
    assert run.read(tmp_path).sha256 != before


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (samples("c", "x"), "disjoint"),
        (samples("a", images=np.zeros((1, 9, 8, 3), np.uint8)), r"\(9, 8, 3\)"),
        (samples("a", images=np.zeros((1, 8, 8, 3), np.float32)), "float32"),
        (samples("a", labels=np.array([2])), "labels below 2"),
        (samples("a", labels=np.array([0, 1])), "as many labels"),
    ],
)
def test_bad_samples_are_told(tmp_path: Path, calibration: run.Samples, said: str) -> None:
    with pytest.raises(DataError, match=said):
        run.read(write(tmp_path, calibration=calibration)).calibration()


@pytest.mark.parametrize(
    ("info", "said"),
    [([], "format 1"), (INFO | {"format": 2}, "format"), (INFO | {"classes": [{"label": "a"}]}, "classes")],
)
def test_a_bad_info_is_told(tmp_path: Path, info: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        run.read(write(tmp_path, info=info))


@pytest.mark.parametrize("name", [run.INFO, run.MODEL])
def test_a_missing_file_is_told(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=name):
        run.read(tmp_path)


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / run.HOLDOUT).write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match=run.HOLDOUT):
        run.read(tmp_path).holdout()
