"""Files that the runtime itself dies on: an error of the child, and this process lives."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from convert import bench, flatbuffer, trial
from edge_agent.contracts import bundle
from edge_agent.contracts.errors import BundleError
from tests.conftest import Kit

CIFAR = Path(__file__).parents[2] / "benchmarks" / "models" / "cifar10"
Forge = Callable[[Any], None]


def rebuilt(content: bytes, change: Forge) -> bytes:
    """A model whose tables something has changed: a whole file, as far as its structure goes."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def far_zero_point(model: Any) -> None:  # noqa: ANN401 - the schema has no types
    """Make the table that the runtime builds of 256 values be written far away."""
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization.zeroPoint = np.array([11337728])


def negative_scale(model: Any) -> None:  # noqa: ANN401 - the schema has no types
    """Make the first addition compute with a factor that the runtime aborts on."""
    graph = model.subgraphs[0]
    added = next(
        operator
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.ADD
    )
    graph.tensors[added.inputs[1]].quantization.scale = np.array([-3892.5], np.float32)


def as_it_was(_model: Any) -> None:  # noqa: ANN401 - the schema has no types
    pass


FORGERIES = [far_zero_point, negative_scale]


@pytest.fixture(scope="module")
def whole() -> bytes:
    return (CIFAR / bundle.MODEL).read_bytes()


def forged_bundle(folder: Path, content: bytes) -> Path:
    """A bundle whose hashes say that nobody has changed it."""
    shutil.copytree(CIFAR, folder)
    (folder / bundle.MODEL).write_bytes(content)
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    manifest["files"][bundle.MODEL] = entry
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_a_model_that_runs(whole: bytes) -> None:
    trial.require_run(whole, "model.tflite")
    trial.require_run(rebuilt(whole, as_it_was), "model.tflite")


@pytest.mark.parametrize("forge", FORGERIES)
def test_the_child_dies_alone(
    whole: bytes, forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = rebuilt(whole, forge)
    flatbuffer.read(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"forged\.tflite.*the runtime itself died on this file \(SIG"):
        trial.require_run(content, "forged.tflite")
    assert list(tmp_path.iterdir()) == [], "no memory dump"


def test_what_the_runtime_says_of_a_file_is_told(whole: bytes) -> None:
    with pytest.raises(BundleError, match=r"Expected: a TFLite model\. Received: ") as caught:
        trial.require_run(whole[:1000], "cut.tflite")
    assert caught.value.hint


def test_what_never_ends_is_ended(whole: bytes) -> None:
    with pytest.raises(BundleError, match=r"an answer of slow\.tflite within 0\.01 s"):
        trial.require_run(whole, "slow.tflite", limit_s=0.01)


def test_a_child_that_leaves_without_a_word_is_no_success() -> None:
    assert trial._said(b"") == trial._said(b"INFO: ready\n") == trial._said(b"[]\n")
    assert "ended the process" in trial._said(b"")
    assert trial._said(b'INFO: ready\n{"said": ""}\n') == ""
    assert trial.ending(-signal.SIGSEGV, "INFO: ready") == "SIGSEGV"
    assert trial.ending(-60, "") == "signal 60"
    assert trial.ending(1, "Traceback\nMemoryError: no room.\n") == "MemoryError: no room"
    assert trial.ending(3, "") == "exit code 3"


def test_modules_in_the_current_folder_stay_out(whole: bytes, tmp_path: Path) -> None:
    """Who looks at a stranger's files may well stand among them."""
    (tmp_path / "json.py").write_text("raise SystemExit('taken')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('taken')")
    (tmp_path / "model.tflite").write_bytes(whole)
    script = (
        "import pathlib; from convert import trial; "
        "trial.require_run(pathlib.Path('model.tflite').read_bytes(), 'model.tflite')"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_child_needs_nothing_heavy() -> None:
    script = "import sys, convert.trial; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"tensorflow", "keras", "tf_keras", "typer", "rich", "scipy"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("forge", FORGERIES)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["import", "{model}", "--labels", "{labels}", "--out", "{made}", "--pixels", "0..1"], 6),
        (["verify", "{folder}"], 6),
        (["evaluate", "{folder}", "{photos}"], 6),
        (["inspect", "{folder}"], 0),
        (["inspect", "{model}"], 0),
    ],
    ids=["import", "verify", "evaluate", "inspect a bundle", "inspect a file"],
)
def test_no_command_dies_of_a_forged_file(
    whole: bytes, tmp_path: Path, kit: Kit, forge: Forge, arguments: list[str], code: int
) -> None:
    names = {"folder": "bundle", "model": "model.tflite", "labels": "labels.txt", "photos": "photos.npz"}
    places = {key: tmp_path / name for key, name in names.items()} | {"made": tmp_path / "made"}
    content = rebuilt(whole, forge)
    forged_bundle(places["folder"], content)
    places["model"].write_bytes(content)
    places["labels"].write_text("".join(f"class {letter}\n" for letter in "abcdefghij"))
    photo, label = np.zeros((1, 32, 32, 3), np.uint8), np.array([9])
    np.savez(places["photos"], x_train=photo, y_train=label, x_test=photo, y_test=label)
    done = kit("convert", *(item.format(**places) for item in arguments), code=code)
    assert ("the runtime itself died" in done.stderr) == bool(code)
    assert not places["made"].exists()


def test_bench_names_what_the_runtime_died_of(whole: bytes, tmp_path: Path) -> None:
    folder = forged_bundle(tmp_path / "bundle", rebuilt(whole, negative_scale))
    options: dict[str, Any] = {
        "pythons": [],
        "threads": [1],
        "seconds": 0.1,
        "progress": lambda items, _total: items,
    }
    with pytest.raises(BundleError, match=r"the bundle model.*the runtime itself died \(SIG"):
        bench.bench(folder, float_model=None, **options)
    with pytest.raises(BundleError, match=r"the float model.*the runtime itself died on this file"):
        bench.bench(CIFAR, float_model=rebuilt(whole, negative_scale), **options)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_ends_the_child_too(tmp_path: Path) -> None:
    """A trial that hangs: both processes of the group are interrupted, as a terminal does it."""
    script = (
        "import sys; from convert import trial; from edge_agent.contracts.command import run_command; "
        "sys.exit(run_command(lambda: trial.require_run(b'x' * 10, 'x')))"
    )
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    fake.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.executable = {str(fake)!r}; {script}"],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
