"""`index.csv` that people, spreadsheets and bad luck have written; thousands of classes."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.contracts import dataset
from edge_agent.contracts.errors import DataError
from tests.contracts.test_dataset import picture, save


def index(folder: Path, text: str) -> Path:
    (folder / "index.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("levels", "labels", "coarse"),
    [
        ("fine", ["ayran", "gouda", "kefir"], ("drinks", "gouda", "drinks")),
        ("coarse", ["drinks", "gouda"], ()),
    ],
)
def test_a_column_may_name_the_coarse_class(
    tmp_path: Path, levels: str, labels: list[str], coarse: tuple[str, ...]
) -> None:
    folder = index(tmp_path, "path,label,coarse\n1,kefir,drinks\n2,kefir,\n3,ayran,drinks\n4,gouda,\n")
    found = dataset.read(folder, levels=levels)  # type: ignore[arg-type]
    assert found.labels == labels
    assert found.coarse == coarse
    above = [found.labels[photo.label] for photo in found.photos]
    assert above == (
        ["kefir", "kefir", "ayran", "gouda"] if levels == "fine" else ["drinks", "drinks", "drinks", "gouda"]
    )


def test_coarse_classes_follow_their_classes(tmp_path: Path) -> None:
    found = dataset.read(
        index(tmp_path, "path,label,coarse\n1,kefir,drinks\n2,ayran,drinks\n3,gouda,cheese\n")
    )
    left, others = found.without(["ayran"])
    assert (left.labels, left.coarse) == (["gouda", "kefir"], ("cheese", "drinks"))
    assert [left.labels[photo.label] for photo in left.photos] == ["kefir", "gouda"]
    assert [photo.name for photo in others] == ["2"]
    known = left.relabelled(["empty", "kefir", "gouda"])
    assert known.coarse == ("empty", "drinks", "cheese")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("1,tea,09506000134352,\n2,tea,09506000134369,\n", "gtin of 'tea'.*09506000134352.*line 3"),
        ("1,tea,,Mint\n2,tea,,Green\n", "name of 'tea'"),
        ("1,tea,123,\n", "class 'tea'.*GTIN"),
        ("1,a/b,,\n2,ok,,\n3,c/d,,\n", "'a/b'.*'c/d'"),
    ],
)
def test_a_class_that_is_described_in_two_ways_or_badly_is_an_error(
    tmp_path: Path, rows: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        dataset.read(index(tmp_path, "path,label,gtin,name\n" + rows))


def test_a_rejected_row_is_named_by_its_line_in_the_file(tmp_path: Path) -> None:
    found = dataset.read(index(tmp_path, 'path,label,name\na,tea,"two\nlines"\n\n,tea,\n'))
    assert [item.name for item in found.rejected] == ["index.csv:5"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300) | st.binary(max_size=300))
def test_any_file_is_a_data_set_or_a_data_error(tmp_path: Path, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    (tmp_path / "index.csv").write_bytes(b"path,label,split,x0,y0,x1,y1,gtin\n" + data)
    try:
        found = dataset.read(tmp_path)
    except DataError:
        return
    assert found.photos


Cell = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["a.png", "/etc/passwd", "../x", "nan", "-inf", "1e999", "0x10", "", "train", "TEST", "=1+1", "\x00"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(Cell, min_size=1, max_size=14), min_size=1, max_size=12))
def test_every_row_becomes_a_photo_or_is_listed(tmp_path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([dataset.COLUMNS, *rows])
    (tmp_path / "index.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    try:
        found = dataset.read(tmp_path)
    except DataError:
        return
    assert len(found.photos) + len(found.rejected) == len(rows)
    for photo in found.photos:
        assert 0 <= photo.label < len(found.labels)
        with pytest.raises(DataError):
            photo.decode()


@pytest.mark.parametrize("layout", ["folders", "index", "lists"])
def test_three_thousand_classes(tmp_path: Path, layout: str) -> None:
    names = [f"p{number:04d}" for number in range(3000)]
    if layout == "folders":
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "1.jpg").touch()
    elif layout == "index":
        rows = (f"{name}/{number}.jpg,{name}\n" for name in names for number in range(5))
        index(tmp_path, "path,label\n" + "".join(rows))
    else:
        (tmp_path / "classes.csv").write_text(
            "".join(f"{name},{row},all,0\n" for row, name in enumerate(names))
        )
        (tmp_path / "train.txt").write_text(
            "".join(f"{name}.jpg, {row}, 0\n" for row, name in enumerate(names))
        )
    found = dataset.read(tmp_path)
    assert found.labels == names
    assert set(found.counts().values()) == {5 if layout == "index" else 1}


def test_two_ids_of_one_name_are_one_class(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("Tea,0,Hot,0\nTea,1,Hot,0\nMilk,2,Cold,1\n")
    (tmp_path / "train.txt").write_text("a.jpg, 0, 0\nb.jpg, 1, 0\nc.jpg, 2, 1\n")
    found = dataset.read(tmp_path)
    assert [found.labels[photo.label] for photo in found.photos] == ["Tea", "Tea", "Milk"]
    assert found.coarse == ("Hot", "Cold")


def test_what_stands_in_no_class_or_is_no_photo_type_is_listed(tmp_path: Path) -> None:
    for name in ["tea/1.png", "stray.jpg", "tea/.hidden/2.png", "tea/._1.png", ".DS_Store.png"]:
        save(tmp_path / name)
    for name in ["tea/phone.HEIC", "tea/clip.mp4", "tea/notes.txt"]:
        (tmp_path / name).write_bytes(b"x")
    found = dataset.read(tmp_path)
    assert [photo.name for photo in found.photos] == ["tea/1.png"]
    reasons = {item.name: item.reason for item in found.rejected}
    assert set(reasons) == {"stray.jpg", "tea/phone.HEIC", "tea/clip.mp4"}
    assert "received .heic" in reasons["tea/phone.HEIC"]


@pytest.mark.parametrize("layout", ["flat", "folders", "index", "npz"])
def test_labels_may_not_matter(tmp_path: Path, layout: str) -> None:
    place = tmp_path
    if layout == "flat":
        save(tmp_path / "1.png")
        save(tmp_path / "2.jpg")
        (tmp_path / "a.gif").write_bytes(b"GIF89a")
    elif layout == "folders":
        save(tmp_path / "x" / "1.png")
        save(tmp_path / "y" / "z" / "2.png")
    elif layout == "index":
        index(tmp_path, "path,label,x0,y0,x1,y1\n1.png,a,0,0,9,9\n2.png,b,,,,\n")
    else:
        import numpy as np  # noqa: PLC0415

        place = tmp_path / "d.npz"
        one = picture(0)[None]
        np.savez(place, x_train=one, y_train=[3], x_test=one, y_test=[0])
    found = dataset.unlabelled(place)
    assert [photo.label for photo in found.photos] == [-1, -1]
    assert (found.photos[0].box is not None) == (layout == "index")
    assert len(found.rejected) == (layout == "flat")


def test_a_folder_without_a_picture_has_nothing_to_offer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labelled photos"):
        dataset.unlabelled(tmp_path)
    with pytest.raises(DataError, match="Expected: a folder"):
        dataset.unlabelled(tmp_path / "nowhere")
