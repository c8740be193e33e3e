"""device.yaml and planogram.yaml: every problem at once, with its line and what to do."""

import json
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edge_agent.contracts import config, planogram, yamlfile
from edge_agent.contracts.yamlfile import ProblemsError

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"

DEVICE = """\
device: cam-12-01
store: "0417"
state_dir: state
bundle: bundles/current
camera: {source: "file:clip.mp4", fps: 2}
planogram: planogram.yaml
broker: {host: 127.0.0.1, port: 1883}
"""
SHELF = """\
shelf: "12"
reference: reference.png
products:
  - {label: milk-1l, name: Milk 1 l, gtin: "09506000134352", low_at: 1}
slots:
  - {id: A3, quad: [[10, 10], [60, 10], [60, 90], [10, 90]], product: milk-1l}
"""


def device(folder: Path, text: str = DEVICE) -> Path:
    path = folder / "device.yaml"
    path.write_text(text)
    return path


def shelf(folder: Path, text: str = SHELF) -> Path:
    cv2.imwrite(str(folder / "reference.png"), np.zeros((100, 200, 3), np.uint8))
    path = folder / "planogram.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    read = config.read(device(tmp_path)).require()
    assert read.planogram == tmp_path / "planogram.yaml"
    assert read.camera.source == f"file:{tmp_path / 'clip.mp4'}"


def test_the_example_matches_the_published_schema() -> None:
    schema = json.loads((SCHEMAS / "device.yaml.schema.json").read_text())
    jsonschema.validate(YAML(typ="safe").load(DEVICE), schema)


def test_five_mistakes_are_five_lines(tmp_path: Path) -> None:
    text = (
        DEVICE.replace("cam-12-01", "cam 12")
        .replace("fps: 2", "fps: 99, widht: 3")
        .replace("file:", "clip:")
        .replace("port: 1883", "prot: 1883")
    )
    with pytest.raises(ProblemsError) as caught:
        config.read(device(tmp_path, text)).require()
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 5
    assert "device.yaml:1  device" in lines[1]
    assert "did you mean `width`?" in str(caught.value)
    assert "device.yaml:7  broker.prot  unknown key; did you mean `port`?" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("300]]", "", ""),
        ("id: A3", "id: A/3", "should match pattern"),
        ("[60, 90], [10, 90]", "[10, 90], [60, 90]", "clockwise"),
        ("[60, 90], [10, 90]", "[60, 900], [10, 900]", "inside the 200x100 reference picture"),
        ("product: milk-1l", "product: milk", "expected one of milk-1l; received 'milk'"),
        ("09506000134352", "09506000134353", "check digit 2"),
        ("label: milk-1l", "label: empty", "reserved label"),
        ("reference.png", "nowhere.png", "cannot be read"),
        ('shelf: "12"', "shelf: 12", "string"),
        ("slots:", "slots: []\nx:", "unknown key"),
    ],
)
def test_a_bad_planogram_says_where_and_why(tmp_path: Path, old: str, new: str, said: str) -> None:
    document = planogram.read(shelf(tmp_path, SHELF.replace(old, new)))
    if not said:
        assert not document.problems
        return
    assert any(said in str(problem) for problem in document.problems)
    assert all(problem.line for problem in document.problems)


def test_two_slots_of_one_name_and_an_unknown_label(tmp_path: Path) -> None:
    text = SHELF + SHELF.splitlines()[-1] + "\n"
    problems = planogram.read(shelf(tmp_path, text), known_labels=["empty", "tea"]).problems
    assert [problem.key for problem in problems] == ["slots[1].id", "products[0].label"]


def test_a_written_planogram_reads_back(tmp_path: Path) -> None:
    first = planogram.read(shelf(tmp_path)).require()
    planogram.write(first, tmp_path / "again.yaml")
    assert planogram.read(tmp_path / "again.yaml").require() == first


@pytest.mark.parametrize("text", ["", "- a", "a: [", "a: b: c", "\t", "&a [*a]", "? [a]\n: b", "a: 1\na: 2"])
def test_what_is_no_mapping_is_one_clear_problem(tmp_path: Path, text: str) -> None:
    document = config.read(device(tmp_path, text))
    assert document.value is None
    assert document.problems


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert yamlfile.parse(text, Path("device.yaml"), config.DeviceConfig).value is None


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a" * 5_000_000])
def test_a_file_that_is_no_yaml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "device.yaml"
    path.write_bytes(content)
    assert len(config.read(path).problems) == 1
    assert len(config.read(tmp_path / "absent.yaml").problems) == 1


def test_a_few_lines_do_not_fill_a_memory(tmp_path: Path) -> None:
    """Aliases of aliases: each line stands for nine of the one before."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    document = yamlfile.parse("\n".join(lines), tmp_path / "planogram.yaml", planogram.Planogram)
    assert [str(problem).split("planogram.yaml")[1] for problem in document.problems] == [
        ":2  not valid YAML: an alias (*); write the values themselves"
    ]
