"""From a place on disk to what a training run starts from."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.contracts import dataset
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import NO_CLASS
from tests.train.test_duplicates import brighter, pixels, still_shelf
from train.config import TrainConfig
from train.downloads import without_twins
from train.prepare import Prepared, prepare

ROOT = Path(__file__).parents[2]
CONFIG = TrainConfig(image_px=32)


def write(folder: Path, images: np.ndarray, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=first):
        cv2.imwrite(str(folder / f"{number:03d}.png"), image)


def prepared(data: Path, **more: object) -> Prepared:
    return prepare(data, CONFIG, levels="fine", progress=lambda items, _total: items, **more)  # type: ignore[arg-type]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """Three classes of forty photos, no two of them alike."""
    folder = tmp_path / "photos"
    for number, name in enumerate(["empty", "milk", "tea"]):
        write(folder / name, pixels(40, seed=number))
    return folder


def test_good_photos_leave_nothing_to_say(catalogue: Path) -> None:
    found = prepared(catalogue)
    assert (found.notes, found.near, found.rejected, found.outside) == ([], [], [], None)
    assert len(found.pictures) == 120


def few(folder: Path) -> None:
    for file in sorted((folder / "tea").iterdir())[12:]:
        file.unlink()


def unequal(folder: Path) -> None:
    write(folder / "milk", pixels(400, seed=9), first=100)
    few(folder)


def copies(folder: Path) -> None:
    for number in range(30):
        (folder / "tea" / f"copy{number}.png").write_bytes((folder / "tea" / "000.png").read_bytes())


def unjudged(folder: Path) -> None:
    """The data set's own test part lacks a class."""
    for name, part in (("empty", "test"), ("milk", "test")):
        (folder / part).mkdir(exist_ok=True)
        (folder / name).rename(folder / part / name)
    for number, name in enumerate(["empty", "milk"]):
        write(folder / "train" / name, pixels(40, seed=20 + number))
    (folder / "tea").rename(folder / "train" / "tea")


def torn(folder: Path) -> None:
    """A still shelf, too many frames to stand on one side."""
    write(folder / "tea", still_shelf(60), first=100)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (few, ["1 of 3 classes have fewer than 20 training photos: tea ("]),
        (unequal, ["fewer than 20", "Classes are unequal: ", "of milk"]),
        (copies, ["30 photos are exact copies of another one in the same part"]),
        (unjudged, ["1 of 3 classes have no photo in the holdout", "tea"]),
        (torn, ["photos have a near copy in another part, e.g. tea/"]),
    ],
)
def test_what_a_person_should_know_is_noted(
    catalogue: Path, change: Callable[[Path], None], said: list[str]
) -> None:
    change(catalogue)
    notes = " ".join(prepared(catalogue).notes)
    for words in said:
        assert words in notes


def test_near_copies_stay_on_one_side(catalogue: Path) -> None:
    write(catalogue / "tea", np.stack([brighter(image) for image in pixels(40, seed=2)]), first=100)
    found = prepared(catalogue)
    assert found.near == []
    side = {
        found.pictures.photos[row].name: part
        for part in ("train", "validation", "holdout")
        for row in getattr(found.parts, part)
    }
    assert [side[f"tea/{row:03d}.png"] for row in range(40)] == [
        side[f"tea/{row + 100}.png"] for row in range(40)
    ]
    assert len({side[f"tea/{row:03d}.png"] for row in range(40)}) == 3


def test_near_copies_across_the_data_sets_own_parts_are_told(tmp_path: Path) -> None:
    for number, name in enumerate(["milk", "tea"]):
        images = pixels(30, seed=number)
        write(tmp_path / "train" / name, images)
        write(tmp_path / "test" / name, np.stack([brighter(image) for image in images[:4]]))
    found = prepared(tmp_path)
    assert len(found.near) == 8
    rows = [
        (found.pictures.photos[pair.first].name, found.pictures.photos[pair.second].name)
        for pair in found.near
    ]
    assert ("train/tea/000.png", "test/tea/000.png") in rows
    assert any("16 photos have a near copy" in note for note in found.notes)


def test_copies_across_the_data_sets_own_parts_are_all_named(tmp_path: Path) -> None:
    for number, name in enumerate(["milk", "tea"]):
        images = pixels(30, seed=number)
        write(tmp_path / "train" / name, images)
        write(tmp_path / "test" / name, images[:4])
    with pytest.raises(DataError, match=r"test/milk/000.png and train/milk/000.png; .*; and 3 more") as told:
        prepared(tmp_path)
    assert "remove one" in told.value.hint


def test_one_picture_under_two_labels_is_left_out_twice(catalogue: Path) -> None:
    (catalogue / "tea" / "000.png").write_bytes((catalogue / "milk" / "007.png").read_bytes())
    found = prepared(catalogue)
    assert [item.name for item in found.rejected] == ["milk/007.png", "tea/000.png"]
    assert len(found.pictures) == 118


def test_too_few_photos_are_an_error_that_names_all(catalogue: Path) -> None:
    for name in ("tea", "milk"):
        for file in sorted((catalogue / name).iterdir())[4:]:
            file.unlink()
    with pytest.raises(DataError, match=r"milk \(4\), tea \(4\)"):
        prepared(catalogue)


def test_left_out_classes_are_outside(catalogue: Path, tmp_path: Path) -> None:
    strangers = tmp_path / "strangers"
    write(strangers, pixels(9, seed=50))
    write(strangers / "deeper", pixels(3, seed=0))  # three photos of `empty`
    found = prepared(catalogue, leave_out=["tea"], outside=strangers)
    assert found.dataset.labels == ["empty", "milk"]
    assert found.outside is not None
    assert len(found.outside) == 49
    assert set(found.outside.labels.tolist()) == {NO_CLASS}
    assert not set(found.outside.ids) & set(found.pictures.ids)
    assert sorted(found.pictures.labels.tolist()) == [0] * 40 + [1] * 40
    assert sum("catalogue" in item.reason for item in found.rejected) == 3
    assert len(found.notes) == 1
    assert found.notes[0].startswith("49 photos of products outside the catalogue")
    assert "3 more are left out" in found.notes[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"leave_out": ["tee"]}, "'tee' .did you mean 'tea'."),
        ({"leave_out": ["tea", "bread"]}, "Received: 'bread'"),
        ({"leave_out": ["tea", "milk"]}, "at least 2 classes"),
        ({"outside": Path("nowhere")}, "Expected: a folder of photos"),
    ],
)
def test_what_cannot_be_left_out(catalogue: Path, more: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        prepared(catalogue, **more)


def test_photos_on_disk_are_the_same_photos(catalogue: Path, tmp_path: Path) -> None:
    held = prepared(catalogue, leave_out=["tea"])
    spilled = prepared(catalogue, leave_out=["tea"], memory_mb=0, spill=tmp_path / "spill")
    assert np.array_equal(held.pictures.images, spilled.pictures.images)
    assert spilled.pictures.on_disk
    assert np.array_equal(held.parts.holdout, spilled.parts.holdout)
    assert held.outside is not None
    assert spilled.outside is not None
    assert np.array_equal(held.outside.images, spilled.outside.images)
    assert any("read from disk" in note for note in spilled.notes)
    assert list((tmp_path / "spill").iterdir()) == []


OFFLINE = """
from pathlib import Path
from edge_agent.contracts.errors import DataError
from train.config import TrainConfig
from train.prepare import prepare

try:
    prepare(Path("cifar10"), TrainConfig(), levels="fine", progress=lambda items, _total: items)
except DataError as exc:
    print(exc, exc.hint, sep="\\n")
"""


def test_cifar10_without_a_network_says_what_to_do(tmp_path: Path) -> None:
    """Keras really tries: the only way out is a proxy where nobody listens."""
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1")
    environment = os.environ | nobody | {"no_proxy": "", "NO_PROXY": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment | {"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.startswith("Expected: CIFAR-10 from keras.datasets. Received: URL fetch failure"), (
        done.stdout
    )
    assert ".npz" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_folder_named_cifar10_is_a_folder(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue.rename(catalogue.parent / "cifar10")
    monkeypatch.chdir(catalogue.parent)
    assert prepared(Path("cifar10")).dataset.labels == ["empty", "milk", "tea"]


def test_training_pictures_that_are_tested_are_left_out() -> None:
    train, test = pixels(6), pixels(2, seed=1)
    train[4] = test[1]
    numbers = np.zeros(6, np.uint8)
    arrays = {"train": (train, numbers), "test": (test, numbers[:2, None])}
    found = without_twins(dataset.from_arrays(Path("x"), arrays, ["a", "b"]), train, test)  # type: ignore[arg-type]
    assert [photo.name for photo in found.photos] == [
        *(f"train/{row}" for row in (0, 1, 2, 3, 5)),
        "test/0",
        "test/1",
    ]
    assert [item.name for item in found.rejected] == ["train/4"]
    assert found.labels == ["a", "b"]
