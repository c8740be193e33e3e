"""Photos for foreign models: who calibrates, who judges."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from convert import foreign_data
from edge_agent.contracts import dataset, photos
from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.photos import Photo

CLASSES = [LabelEntry(label="milk"), LabelEntry(label="tea")]


def unseen(items: Iterable[Photo], _total: int) -> Iterable[Photo]:
    return items


def written(folder: Path, rows: list[dict[str, object]], shots: int) -> Path:
    """Photos of noise, one for each row of `index.csv`: so many different ones, and then again."""
    folder.mkdir()
    for number in range(len(rows)):
        noise = np.random.default_rng(number % shots).integers(0, 256, (40, 40, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
    dataset.write_index(folder, ({"path": f"{number}.png"} | row for number, row in enumerate(rows)))
    return folder


def sides(place: Path) -> tuple[set[str], set[str]]:
    found = foreign_data.read(place, CLASSES, 40, 40, seed=7, progress=unseen)
    assert found.rejected == []
    return set(found.calibration.ids), set(found.holdout.ids)


def test_photos_of_one_group_stay_on_one_side(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"label": label, "group": f"{label}-{number % 4}"}
        for label in ("milk", "tea")
        for number in range(24)
    ]
    place = written(tmp_path / "photos", rows, 48)
    pictures, _ = photos.decode(dataset.read(place), 40, 40, unseen)
    both = sides(place)
    assert len(both[0]) + len(both[1]) == 48
    where: dict[str | None, set[bool]] = {}
    for key, photo in zip(pictures.ids, pictures.photos, strict=True):
        where.setdefault(photo.group, set()).add(key in both[1])
    assert len(where) == 8
    assert all(len(side) == 1 for side in where.values())
    assert set.union(*where.values()) == {False, True}


def test_copies_of_one_photo_stay_on_one_side(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"label": "milk"} for _ in range(30)]
    calibration, holdout = sides(written(tmp_path / "photos", rows, 10))
    assert not calibration & holdout
    assert len(calibration | holdout) == 10
    assert calibration
    assert holdout


@pytest.mark.parametrize("held", ["test", "val"])
def test_parts_that_are_named_are_kept(tmp_path: Path, held: str) -> None:
    rows: list[dict[str, object]] = [
        {"label": ("milk", "tea")[number % 2], "split": "train"} for number in range(12)
    ]
    rows += [{"label": ("milk", "tea")[number % 2], "split": held} for number in range(6)]
    calibration, holdout = sides(written(tmp_path / "photos", rows, 18))
    assert (len(calibration), len(holdout)) == (12, 6)
