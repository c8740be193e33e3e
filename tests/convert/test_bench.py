"""Measuring for real: other processes, other interpreters, and ratios of what ran by turns."""

import json
import shutil
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import bench, bench_child
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle
from edge_agent.contracts.errors import BundleError
from tests.conftest import Kit

HERE = bench.Interpreter("python", "ai-edge-litert", "2.3.0", "3.11.7")
THERE = bench.Interpreter("other", "tflite-runtime", "2.14.0", "3.11.7")


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second interpreter: it finds the packages of this one, and says so when it is asked for its path."""
    place = tmp_path_factory.mktemp("other") / "python"
    place.write_text(f'#!/bin/sh\necho "$PYTHONPATH" > "$0.path"\nexec {sys.executable} "$@"\n')
    place.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def figures(bundle_folder: Path, run_folder: Path, other_python: Path, kit: Kit) -> dict[str, Any]:
    options = ("--float", run_folder, "--python", other_python, "--threads", "1", "--seconds", 1, "--json")
    found: dict[str, Any] = json.loads(kit("convert", "bench", bundle_folder, *options).stdout)
    return found


@pytest.mark.slow
def test_everything_is_measured_everywhere(figures: dict[str, Any], other_python: Path) -> None:
    rows = figures["measured"]
    assert [row["model"] for row in rows] == ["bundle", "bundle", "float", "float"]
    assert [row["interpreter"] for row in rows] == [sys.executable, str(other_python)] * 2
    for row in rows:
        assert row["runtime"] == "ai-edge-litert"
        assert row["n"] >= bench.TURNS * 8
        assert 0 < row["median_ms"] <= row["p95_ms"]
        assert row["load_ms"] > 0 < row["first_ms"]
        assert row["over_bare"]["low"] <= row["over_bare"]["median"] <= row["over_bare"]["high"]
        # What the kit adds to a picture is microseconds; the rest is what a busy machine does to a ratio.
        assert 0.5 < row["over_bare"]["median"] < 2


@pytest.mark.slow
def test_a_float_model_takes_more_memory(figures: dict[str, Any], bundle_folder: Path) -> None:
    size = (bundle_folder / bundle.MODEL).stat().st_size
    memory = {row["model"]: row["memory_bytes"] for row in figures["measured"]}
    assert memory["float"] > memory["bundle"] > size


@pytest.mark.slow
def test_comparisons_differ_in_one_thing(figures: dict[str, Any]) -> None:
    for pair in figures["comparisons"]:
        slow, quick = pair["slow"], pair["quick"]
        assert [name for name in slow if slow[name] != quick[name]] in (["model"], ["interpreter"])
        assert 0.1 < pair["ratio"]["median"] < 20
    assert len(figures["comparisons"]) == 4


@pytest.mark.slow
def test_another_environment_sees_nothing_but_the_kit(figures: dict[str, Any], other_python: Path) -> None:
    assert figures["turns"] == bench.TURNS
    (seen,) = other_python.with_name("python.path").read_text().splitlines()
    assert "shelfkit-bench-" in seen
    assert ":" not in seen


def turn(single: float, block: float = 1.0) -> bench.Turn:
    return bench.Turn(2.0, 1.0, 1000, [single] * 9 + [50.0], [block] * 3, [1.0, 0.8, 1.25])


def test_candidates_take_turns() -> None:
    one, two = bench.Candidate("bundle", HERE, 1), bench.Candidate("float", HERE, 1)
    assert bench.by_turns([one, two], 3) == [one, two, one, two, one, two]


def test_a_ratio_is_taken_turn_by_turn() -> None:
    """The machine slows down eightfold; who is twice as quick as the other stays so."""
    quick = bench.Measured(bench.Candidate("bundle", HERE, 1), [turn(pace) for pace in (1, 2, 4, 8)])
    slow = bench.Measured(bench.Candidate("float", HERE, 1), [turn(2.1 * pace) for pace in (1, 2, 4, 8)])
    ratio = slow.over(quick)
    assert [ratio.low, ratio.median, ratio.high] == pytest.approx([2.1] * 3)
    assert quick.latency_ms(50) == pytest.approx(4)
    assert quick.latency_ms(95) == pytest.approx(50)
    assert quick.over_bare().median == pytest.approx(1.0)
    assert quick.median("memory_bytes") == 1000


def test_each_is_compared_with_what_differs_in_one_thing() -> None:
    forms: tuple[bench.Form, ...] = ("bundle", "float")
    found = [
        bench.Measured(bench.Candidate(*one), [turn(1)]) for one in product(forms, (HERE, THERE), (1, 2))
    ]
    told = {
        ((pair.slow.form, pair.slow.interpreter), (pair.quick.form, pair.quick.interpreter))
        for pair in bench.comparisons(found)
    }
    assert told == {
        (("bundle", THERE), ("bundle", HERE)),
        (("float", THERE), ("float", HERE)),
        (("float", HERE), ("bundle", HERE)),
        (("float", THERE), ("bundle", THERE)),
    }


@pytest.mark.slow
def test_the_float_twin_answers_as_the_bundle_does(
    bundle_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    original = bundle.read(bundle_folder)
    twin = bench.float_twin(original, bench.float_model(run_folder), tmp_path / "float")
    images, scores = original.golden()
    classifier = Classifier(bundle.read(twin))
    assert (classifier.scores(images).argmax(axis=1) == scores.argmax(axis=1)).all()


def test_a_measurement_leaves_the_classifier_as_it_was(bundle_folder: Path) -> None:
    """The bare loop uses the classifier's own interpreter: it must be fed the very same values."""
    classifier = Classifier(bundle.read(bundle_folder))
    images, scores = bundle.read(bundle_folder).golden()
    bare = bench_child._Bare(classifier, images)
    assert all(np.array_equal(fed[0], image) for fed, image in zip(bare._fed, images, strict=True))
    bare.run()
    assert np.array_equal(classifier.scores(images), scores)


@pytest.mark.slow
def test_text_for_people(bundle_folder: Path, kit: Kit) -> None:
    done = kit("convert", "bench", bundle_folder, "--threads", "2,1,2", "--seconds", 0.1)
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["bundle"]]
    assert [row[4] for row in rows] == ["1", "2"]
    assert {row[1] for row in rows} == {"ai-edge-litert"}
    assert "times" not in done.stdout, "there is nothing to compare with"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 6, "bundle"),
        (["{bundle}", "--threads", "0"], 2, "--threads"),
        (["{bundle}", "--threads", "1,two"], 2, "--threads"),
        (["{bundle}", "--seconds", "0"], 2, "--seconds"),
        (["{bundle}", "--seconds", "nan"], 2, "--seconds"),
        (["{bundle}", "--python", "no-such-python"], 2, "no-such-python"),
        (["{bundle}", "--python", "{bare_python}"], 2, "TFLite runtime"),
        (["{bundle}", "--float", "nowhere"], 6, "run directory"),
        (["{bundle}", "--float", "{bundle}"], 4, "run.json"),
        (["{bundle}", "--float", "{model}"], 6, "float32 model"),
        (["{bundle}", "--float", "{broken}"], 6, "TFLite model"),
    ],
)
def test_what_cannot_be_measured(
    bundle_folder: Path, tmp_path: Path, kit: Kit, arguments: list[str], code: int, said: str
) -> None:
    bare_python = tmp_path / "bare-python"
    bare_python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare_python.chmod(0o755)
    (tmp_path / "broken.tflite").write_bytes(b"TFL3 but nothing else")
    places = {
        "bundle": bundle_folder,
        "model": bundle_folder / bundle.MODEL,
        "bare_python": bare_python,
        "broken": tmp_path / "broken.tflite",
    }
    done = kit("convert", "bench", *(item.format(**places) for item in arguments), code=code, cwd=tmp_path)
    assert said in done.stderr.replace("\n", " ")


def test_a_float_model_of_another_shape(public_data: Path, bundle_folder: Path, tmp_path: Path) -> None:
    content = bench.float_model(public_data / "mlperf_tiny" / "pretrainedResnet.tflite")
    with pytest.raises(BundleError, match=r"\(1, 64, 64, 3\).*\(1, 32, 32, 3\)"):
        bench.float_twin(bundle.read(bundle_folder), content, tmp_path / "float")


def test_a_runtime_that_cannot_run_the_model(bundle_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    manifest["labels"] = manifest["labels"][:-1]
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="to run the bundle model"):
        bench.bench(
            folder,
            float_model=None,
            pythons=[],
            threads=[1],
            seconds=0.1,
            progress=lambda items, _total: items,
        )
