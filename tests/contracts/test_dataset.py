"""Photos in every layout; what cannot be used is listed and left out, never fatal."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.contracts import dataset, photos
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import read_picture


def picture(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(seed))
    return path


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for number, name in enumerate(["tea/1.png", "tea/deeper/2.png", "empty/3.JPG", ".trash/4.png"]):
        save(tmp_path / name, number)
    (tmp_path / "tea" / "notes.txt").write_text("no photo")
    found = dataset.read(tmp_path)
    assert found.labels == ["empty", "tea"]
    assert found.counts() == {"empty": 1, "tea": 2}
    assert {photo.part for photo in found.photos} == {None}


def test_split_folders_may_lack_a_class_in_one_part(tmp_path: Path) -> None:
    for name in ["Train/tea/1.png", "Train/empty/2.png", "validation/tea/3.png", "test/empty/4.png"]:
        save(tmp_path / name)
    found = dataset.read(tmp_path)
    assert {(found.labels[photo.label], photo.part) for photo in found.photos} == {
        ("empty", "train"),
        ("tea", "train"),
        ("tea", "val"),
        ("empty", "test"),
    }


def test_a_folder_with_a_test_part_alone(tmp_path: Path) -> None:
    save(tmp_path / "test" / "tea" / "1.png")
    assert dataset.read(tmp_path).photos[0].part == "test"


def test_an_index_says_everything_itself(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "index.csv").write_text(
        "path,label,split,group,x0,y0,x1,y1,gtin,name\n"
        "a.png,tea,val,monday,2,3,22,18,9506000134352,Mint tea\n"
        "a.png,empty,,,,,,,,\n"
        "a.png,tea,,,9,3,2,18,,\n"
        ",tea,,,,,,,,\n"
        "a.png,tea,testing,,,,,,,\n"
        "a.png,tea,,,0,0,inf,9,,\n"
        "a.png,tea,,,-50,-50,-10,-10,,\n"
    )
    found = dataset.read(tmp_path)
    tea = found.photos[0]
    assert (found.classes[tea.label].gtin, found.classes[tea.label].name) == ("09506000134352", "Mint tea")
    assert (tea.part, tea.group, tea.box) == ("val", "monday", (2, 3, 22, 18))
    assert (tea.decode() == picture(0)[3:18, 2:22]).all()
    assert [item.name for item in found.rejected] == [f"index.csv:{line}" for line in (4, 5, 6, 7)]
    assert "testing" in found.rejected[2].reason
    with pytest.raises(DataError, match="0x0"):
        found.photos[-1].decode()
    assert "x0 < x1" in found.rejected[0].reason


def test_the_index_that_is_written_is_read(tmp_path: Path) -> None:
    save(tmp_path / "A1" / "000.png")
    dataset.write_index(tmp_path, [{"path": "A1/000.png", "label": "tea, mint", "group": "clip/A1/0"}])
    found = dataset.read(tmp_path)
    assert found.labels == ["tea, mint"]
    assert found.photos[0].group == "clip/A1/0"


@pytest.mark.parametrize(("levels", "labels"), [("fine", ["Gala", "Lime"]), ("coarse", ["Apple", "Citrus"])])
def test_grocerystore_lists(tmp_path: Path, levels: str, labels: list[str]) -> None:
    save(tmp_path / "val" / "x.png")
    (tmp_path / "classes.csv").write_text("name,id,coarse,id\nGala,0,Apple,0\nLime,1,Citrus,1\n")
    (tmp_path / "val.txt").write_text("val/x.png, 1, 1\nbroken line\nval/x.png, 9, 9\n")
    found = dataset.read(tmp_path, levels=levels)  # type: ignore[arg-type]
    assert found.labels == labels
    assert found.coarse == (("Apple", "Citrus") if levels == "fine" else ())
    assert [(photo.label, photo.part) for photo in found.photos] == [(1, "val")]
    assert [item.name for item in found.rejected] == ["val.txt:2", "val.txt:3"]


@pytest.mark.parametrize("grey", [False, True])
def test_keras_arrays(tmp_path: Path, grey: bool) -> None:
    images = picture(0, 12, 12 * 4).reshape(4, 12, 12, 3)
    images = images[..., 0] if grey else images
    np.savez(tmp_path / "d.npz", x_train=images[:3], y_train=[[0], [1], [2]], x_test=images[3:], y_test=[1])
    found = dataset.read(tmp_path / "d.npz")
    assert found.labels == ["0", "1", "2"]
    assert [photo.part for photo in found.photos] == ["train"] * 3 + ["test"]
    shown = found.photos[0].decode()
    assert (shown[..., 0] == images[0]).all() if grey else (shown[..., ::-1] == images[0]).all()


def mixed_folders(folder: Path) -> Path:
    save(folder / "train" / "tea" / "1.png")
    save(folder / "milk" / "2.png")
    return folder


def words_for_numbers(path: Path) -> Path:
    images = np.zeros((1, 8, 8, 3), np.uint8)
    np.savez(path, x_train=images, y_train=["tea"], x_test=images, y_test=["tea"])
    return path


def half_an_archive(path: Path) -> Path:
    np.savez(path, x_train=np.zeros((1, 8, 8, 3), np.uint8))
    return path


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda folder: folder / "nowhere", "Expected: a folder of photos"),
        (lambda folder: folder, "labelled photos"),
        (lambda folder: (folder / "empty").mkdir() or folder, "none in .*empty"),
        (
            lambda folder: (folder / "index.csv").write_text("file,class\n") and folder,
            "columns path and label",
        ),
        (lambda folder: (folder / "index.csv").write_bytes(b"path,label\n\xff\xfe,x\n") and folder, "UTF-8"),
        (lambda folder: (folder / "train.txt").write_text("a,0,0\n") and folder, "classes.csv"),
        (lambda folder: half_an_archive(folder / "d.npz"), "y_train"),
        (lambda folder: words_for_numbers(folder / "d.npz"), "numbers in y_train"),
        (mixed_folders, "'train' and 'milk'"),
        (lambda folder: (folder / "d.npz").write_bytes(b"PK") and folder / "d.npz", "x_train"),
    ],
)
def test_what_is_no_data_set(tmp_path: Path, prepare: Callable[[Path], Path], said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset.read(prepare(tmp_path))


def test_photos_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    good = save(tmp_path / "tea" / "good.jpg")
    whole = good.read_bytes()
    (tmp_path / "tea" / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tea" / "text.png").write_text("no picture")
    (tmp_path / "tea" / "nothing.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "tea" / "tiny.png"), picture(0, 4, 40))
    # Whoever named a PNG .jpg may have named anything.
    (tmp_path / "tea" / "liar.jpg").write_bytes(cv2.imencode(".png", picture(1))[1].tobytes())
    pictures, rejected = photos.decode(dataset.read(tmp_path), 8, 8)
    assert [Path(photo.name).name for photo in pictures.photos] == ["good.jpg"]
    reasons = {Path(item.name).name: item.reason for item in rejected}
    assert set(reasons) == {"short.jpg", "text.png", "nothing.png", "tiny.png", "liar.jpg"}
    assert reasons["liar.jpg"].startswith("Expected: JPEG, as .jpg says. Received: PNG")
    assert "cut short" in reasons["short.jpg"]
    assert "40x4" in reasons["tiny.png"]


def test_equal_photos_have_equal_ids_whatever_their_file(tmp_path: Path) -> None:
    for name in ["a/1.png", "b/2.bmp", "b/3.png"]:
        save(tmp_path / name, seed=int(name == "b/3.png"))
    pictures, _ = photos.decode(dataset.read(tmp_path), 8, 8)
    assert pictures.ids[0] == pictures.ids[1] != pictures.ids[2]


@pytest.mark.parametrize(
    "made",
    [
        np.full((20, 30), 128, np.uint8),
        np.full((20, 30), 128 * 257, np.uint16),
        np.full((20, 30, 3), 128 * 257, np.uint16),
        np.dstack([np.full((20, 30, 3), 128, np.uint8), np.full((20, 30), 255, np.uint8)]),
    ],
    ids=["grey", "grey 16 bit", "colour 16 bit", "alpha"],
)
def test_every_kind_of_pixel_becomes_bgr(tmp_path: Path, made: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), made)
    read = read_picture(tmp_path / "x.png")
    assert read.dtype == np.uint8
    assert read.shape == (20, 30, 3)
    assert abs(int(read.mean()) - 128) <= 1


def test_a_photo_stands_upright_as_its_exif_says(tmp_path: Path) -> None:
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:, :15] = 255
    data = cv2.imencode(".jpg", upright)[1].tobytes()
    # Orientation 6: turn a quarter clockwise. One tag in one directory, big endian.
    tag = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    exif = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01" + tag + b"\x00\x00\x00\x00"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "x.jpg").write_bytes(data[:2] + segment + data[2:])
    read = read_picture(tmp_path / "x.jpg")
    assert read.shape[:2] == (30, 20)
    assert read[:10].mean() > 200
    assert read[20:].mean() < 50


def test_classes_must_be_those_of_the_model(tmp_path: Path) -> None:
    save(tmp_path / "tea" / "1.png")
    found = dataset.read(tmp_path)
    assert found.relabelled(["empty", "tea"]).photos[0].label == 1
    with pytest.raises(DataError, match="Received: tea"):
        found.relabelled(["empty", "milk"])


def test_grocerystore_itself(public_data: Path) -> None:
    found = dataset.read(public_data / "grocerystore")
    parts = [photo.part for photo in found.photos]
    assert (len(found.labels), parts.count("train"), parts.count("val")) == (81, 2640, 296)
    assert (len(found.coarse), len(set(found.coarse))) == (81, 43)
    assert dict(zip(found.labels, found.coarse, strict=True))["Royal-Gala"] == "Apple"
    assert len(dataset.read(public_data / "grocerystore", levels="coarse").labels) == 43
