"""Labels files as they are found in the wild."""

from pathlib import Path

import pytest

from convert import labels
from edge_agent.contracts.errors import DataError


def read(folder: Path, content: str | bytes) -> tuple[list[str], list[str], list[str]]:
    """Labels, names and notes of a file."""
    path = folder / "labels.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    entries, notes = labels.read(path)
    return [entry.label for entry in entries], [entry.name for entry in entries], notes


def test_plain_words_stay_as_they_are(tmp_path: Path) -> None:
    assert read(tmp_path, "milk\nTea_2.5\nkäse\n") == (["milk", "Tea_2.5", "käse"], ["", "", ""], [])


@pytest.mark.parametrize(
    "content",
    ["\ufeffmilk\ntea\n", "milk\r\ntea\r\n", "  milk \t\n tea", "milk\ntea\n\n\n"],
    ids=["byte order mark", "carriage returns", "spaces", "empty lines at the end"],
)
def test_what_editors_leave_behind(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == (["milk", "tea"], ["", ""], [])


def test_texts_become_words_and_stay_names(tmp_path: Path) -> None:
    found, names, notes = read(tmp_path, "Whole Milk, 1 l\ngreat white shark / mako\n緑茶 500ml!\n")
    assert found == ["whole-milk-1-l", "great-white-shark-mako", "緑茶-500ml"]
    assert names == ["Whole Milk, 1 l", "great white shark / mako", "緑茶 500ml!"]
    assert notes == []


def test_the_same_word_twice_is_told_apart_and_told(tmp_path: Path) -> None:
    found, names, notes = read(tmp_path, "crane\ncrane-2\nCrane!\ncrane\n")
    assert found == ["crane", "crane-2", "crane-3", "crane-4"]
    assert names == ["", "", "Crane!", "crane"]
    assert len(notes) == 2
    assert "labels.txt:3: 'Crane!' is 'crane-3'" in notes[0]


@pytest.mark.parametrize(
    "content",
    [
        "0 milk\n1 tea\n2 jam\n",
        "1: milk\n2: tea\n3: jam\n",
        "0,milk\n1,tea\n2,jam\n",
        "2 jam\n0 milk\n1 tea\n",
    ],
    ids=["from 0", "from 1", "commas", "out of order"],
)
def test_numbers_in_front_are_left_out(tmp_path: Path, content: str) -> None:
    found, _, notes = read(tmp_path, content)
    assert found == ["milk", "tea", "jam"]
    assert notes == ["labels.txt: the numbers in front of the labels are left out"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("7 up\n100 juice\n", ["7-up", "100-juice"]),
        ("0 milk\n0 tea\n", ["0-milk", "0-tea"]),
        ("0 milk\n2 tea\n", ["0-milk", "2-tea"]),
        ("0 milk\ntea\n", ["0-milk", "tea"]),
        ("0\n1\n2\n", ["0", "1", "2"]),
    ],
    ids=["names with numbers", "the same number", "a gap", "only some", "numbers alone"],
)
def test_numbers_that_do_not_count_the_lines_stay(tmp_path: Path, content: str, expected: list[str]) -> None:
    found, _, notes = read(tmp_path, content)
    assert (found, notes) == (expected, [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "2 to 100000 labels .*Received: 0"),
        ("milk\n", "Received: 1"),
        ("milk\n\ntea\n", "none in line 2"),
        ("\nmilk\ntea\n", "none in line 1"),
        ("milk\n...\n", r"line 2\. Received: '\.\.\.'"),
        (b"milk\n\xff\xfe\n", "UTF-8 text"),
        ("milk\ntea\n".encode("utf-16"), "UTF-8 text"),
        ("m\n" * 100_001, "Received: 100001"),
    ],
    ids=["empty", "one", "gap", "gap in front", "no letters", "bytes", "UTF-16", "too many"],
)
def test_what_gives_no_labels(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, content)
    assert caught.value.hint


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for place in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="Expected: a labels file at"):
            labels.read(place)


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    with path.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(DataError, match="up to 16777216 bytes"):
        labels.read(path)


def test_a_long_text_becomes_a_label_that_a_bundle_takes(tmp_path: Path) -> None:
    found, names, _ = read(tmp_path, f"{'long ' * 60}\n{'x' * 500}\n")
    assert all(0 < len(label) <= 100 for label in found)
    assert names[1] == "x" * 500


def test_imagenets_own_list(public_data: Path) -> None:
    entries, notes = labels.read(public_data / "coral_test_data" / "imagenet_labels.txt")
    found = [entry.label for entry in entries]
    assert len(found) == len(set(found)) == 1001
    assert found[0] == "background"
    assert notes
