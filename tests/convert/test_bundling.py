"""From a run to a bundle by each way there is, as a user goes them; and what the gate says on the way."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convert.flatbuffer import read
from edge_agent.classifier import Classifier, TfliteModel
from edge_agent.contracts import bundle, run
from tests.conftest import Kit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UNBALANCE = """
import sys
import keras

# One channel many times as strong, and taken back behind it: the same function in float, but all
# other channels fall below one step of the int8 tensor between.
model, factor = keras.saving.load_model(sys.argv[1]), float(sys.argv[2])
norm = model.get_layer("stem_norm")
gamma, beta, mean, variance = norm.get_weights()
gamma[0], beta[0] = factor * max(abs(gamma[0]), 0.5), factor * max(abs(beta[0]), 0.5)
norm.set_weights([gamma, beta, mean, variance])
for name in ("stage1_a_conv", "stage1_short_conv"):
    (kernel,) = model.get_layer(name).get_weights()
    kernel[:, :, 0] /= factor
    model.get_layer(name).set_weights([kernel])
model.save(sys.argv[1])
"""
STRANGE = """
import sys
import keras

# Ends in a layer that quantization-aware training does not know.
model = keras.saving.load_model(sys.argv[1])
strange = keras.layers.PReLU(alpha_initializer=keras.initializers.Constant(0.9))
keras.Model(model.inputs, strange(model.outputs[0])).save(sys.argv[1])
"""
SPOIL = """
import sys
import keras

model = keras.saving.load_model(sys.argv[1])
(kernel, bias) = model.get_layer("logits").get_weights()
kernel[3, 1] = float("nan")
model.get_layer("logits").set_weights([kernel, bias])
model.save(sys.argv[1])
"""


def changed(run_folder: Path, to: Path, script: str, *arguments: object) -> Path:
    """A copy of a run whose network a script has changed."""
    shutil.copytree(run_folder, to)
    words = [sys.executable, "-c", script, str(to / run.MODEL), *map(str, arguments)]
    subprocess.run(words, check=True, capture_output=True)
    return to


def weights(folder: Path) -> list[np.ndarray]:
    """The kernels of a bundle's model, int8."""
    model = TfliteModel(folder / bundle.MODEL)
    graph = read((folder / bundle.MODEL).read_bytes())
    kernels = [op.inputs[1] for op in graph.operators if op.name in {"CONV_2D", "FULLY_CONNECTED"}]
    return [model._interpreter.get_tensor(index) for index in kernels]


def agreement(folder: Path) -> float:
    """How often a bundle answers as its float model does."""
    card = bundle.read(folder).manifest.scorecard
    assert card is not None
    return card.agreement


def test_the_same_run_gives_the_same_bytes(
    run_folder: Path, bundle_folder: Path, tmp_path: Path, kit: Kit
) -> None:
    kit("convert", "--int8", run_folder, "--out", tmp_path / "again")
    for file in sorted(bundle_folder.iterdir()):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_what_int8_cannot_carry_is_refused_and_explained(run_folder: Path, tmp_path: Path, kit: Kit) -> None:
    """A network that in float is nearly as good as before, and in int8 no good."""
    broken = changed(run_folder, tmp_path / "run", UNBALANCE, 3000)
    done = kit("convert", "--int8", broken, "--out", tmp_path / "bundle", "--qat", "never", "--json", code=5)
    assert "accuracy fell by" in done.stderr
    assert "Try --qat auto" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"run", "bundle.layers.svg"}
    told = json.loads(done.stdout)
    assert told["bundle"] is None
    assert any("accuracy fell" in text for text in told["lost"])
    # The layers behind the channel that was made strong get the blame, in the table, as JSON, in the picture.
    worst = [layer["layer"] for layer in told["layers"][:4]]
    assert any(name.startswith(("stage1", "stem")) for name in worst)
    assert told["layers"] == sorted(told["layers"], key=lambda layer: -layer["share"])
    picture = (tmp_path / "bundle.layers.svg").read_text()
    assert all(name in done.stderr and name in picture for name in worst)


def test_qat_is_tried_where_calibration_is_not_enough(run_folder: Path, tmp_path: Path, kit: Kit) -> None:
    broken = changed(run_folder, tmp_path / "run", UNBALANCE, 3000)
    done = kit("convert", "--int8", broken, "--out", tmp_path / "bundle", code=5)
    assert "refused after ptq" in done.stderr
    assert "refused after qat" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_qat_carries_what_calibration_alone_does_not(run_folder: Path, tmp_path: Path, kit: Kit) -> None:
    """The same weak spot made worse step by step, until calibration loses a fifth of the answers."""
    loose = ("--max-drop", 100, "--max-recall-drop", 100, "--min-agreement", 0, "--max-calibration-rise", 100)
    for factor in (200, 230, 260, 300, 350, 400):
        place = tmp_path / str(factor)
        weak = changed(run_folder, place / "run", UNBALANCE, factor)
        kit("convert", "--int8", weak, "--out", place / "ptq", *loose, "--qat", "never")
        if (calibrated := agreement(place / "ptq")) < 0.8:
            break
    kit("convert", "--int8", weak, "--out", place / "qat", *loose, "--qat", "always")
    assert calibrated < 0.8
    assert agreement(place / "qat") > calibrated + 0.15


def test_qat_that_cannot_be_says_so(run_folder: Path, tmp_path: Path, kit: Kit) -> None:
    strange = changed(changed(run_folder, tmp_path / "one", UNBALANCE, 3000), tmp_path / "run", STRANGE)
    done = kit("convert", "--int8", strange, "--out", tmp_path / "bundle", code=5)
    assert "accuracy fell by" in done.stderr
    assert "--qat cannot help" in done.stderr
    assert "a layer PReLU" in done.stderr
    done = kit("convert", "--int8", "--qat", strange, "--out", tmp_path / "bundle", code=5)
    assert "a layer PReLU" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_training_with_quantization_gives_a_bundle_and_the_same_again(
    run_folder: Path, tmp_path: Path, kit: Kit
) -> None:
    for name in ("one", "other"):
        done = kit("convert", "--int8", "--qat", run_folder, "--out", tmp_path / name, "--json")
    assert json.loads(done.stdout)["scorecard"]["drop_points"] <= 2
    assert bundle.read(tmp_path / "one").manifest.provenance.quantization == "qat"
    assert (tmp_path / "one" / bundle.MODEL).read_bytes() == (tmp_path / "other" / bundle.MODEL).read_bytes()


def test_the_second_quantizer_gives_a_bundle_too(
    run_folder: Path, bundle_folder: Path, tmp_path: Path, kit: Kit
) -> None:
    out = tmp_path / "bundle"
    kit("convert", "--int8", run_folder, "--out", out, "--quantizer", "litert", "--qat", "never")
    kit("convert", "verify", out)
    mine, first = Classifier(bundle.read(out)), Classifier(bundle.read(bundle_folder))
    assert mine.manifest.provenance.quantizer == "litert"
    assert mine.manifest.input.pixels == [float(value) for value in range(-128, 128)]
    pictures = run.read(run_folder).holdout().images
    same = mine.scores(pictures).argmax(axis=1) == first.scores(pictures).argmax(axis=1)
    assert same.mean() > 0.95
    assert (out / bundle.MODEL).stat().st_size < 1.05 * (bundle_folder / bundle.MODEL).stat().st_size


@pytest.mark.parametrize(("option", "value"), [("--prune", 0.5), ("--cluster", 16)])
def test_compressed_weights_pack_smaller(
    run_folder: Path, tmp_path: Path, kit: Kit, option: str, value: float
) -> None:
    out = tmp_path / "bundle"
    loose = ("--max-drop", 5, "--min-agreement", 0.9, "--qat", "never", "--max-calibration-rise", 20)
    done = kit("convert", "--int8", run_folder, "--out", out, option, value, *loose, "--json")
    (form,) = json.loads(done.stdout)["forms"]
    plain = kit(
        "convert", "--int8", run_folder, "--out", tmp_path / "plain", "--json", "--float16", "--dynamic"
    )
    forms = {each["form"]: each for each in json.loads(plain.stdout)["forms"]}
    assert form["packed"] < 0.8 * forms["int8"]["packed"]
    assert forms["float16"]["size"] > 1.5 * forms["int8"]["size"]
    assert forms["dynamic"]["size"] < 1.2 * forms["int8"]["size"]
    assert forms["float16"]["agreement"] >= 0.98
    provenance = bundle.read(out).manifest.provenance
    if option == "--prune":
        assert provenance.sparsity == value
        for kernel in weights(out):
            assert (kernel == 0).mean() > 0.45
    else:
        assert provenance.clusters == value
        # Scales differ from channel to channel, so the shared values are counted within one.
        assert max(len(np.unique(channel)) for kernel in weights(out) for channel in kernel) <= value


def test_weights_that_are_no_numbers_are_refused(run_folder: Path, tmp_path: Path, kit: Kit) -> None:
    spoiled = changed(run_folder, tmp_path / "run", SPOIL)
    done = kit("convert", "--int8", spoiled, "--out", tmp_path / "bundle", code=4)
    assert "NaN" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_run_of_two_halves_is_refused(run_folder: Path, tmp_path: Path, kit: Kit) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    info = json.loads((tmp_path / "run" / run.INFO).read_text())
    info["classes"].append({"label": "one-more"})
    (tmp_path / "run" / run.INFO).write_text(json.dumps(info))
    done = kit("convert", "--int8", tmp_path / "run", "--out", tmp_path / "bundle", code=4)
    assert "files of two runs" in done.stderr


def test_ctrl_c_leaves_no_half_bundle(run_folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "edge_agent.cli", "convert", "--int8", str(run_folder)]
    process = subprocess.Popen(
        [*words, "--out", str(tmp_path / "bundle")], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "quantizing" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert list(tmp_path.iterdir()) == []


FULL = """
import pathlib
import resource
import signal
import sys

from convert import package
from edge_agent.contracts import bundle
from edge_agent.contracts.command import run_command

made, out = bundle.read(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2])
content, golden = made.model.read_bytes(), package.Goldens(*made.golden(), made.manifest.golden.tolerance)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, len(content) // 2))
sys.exit(run_command(lambda: package.write(out, content, made.manifest, golden)))
"""


def test_a_full_disk_leaves_no_half_bundle(bundle_folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", FULL, str(bundle_folder), str(tmp_path / "bundle")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "Expected: room for a bundle" in done.stderr
    assert list(tmp_path.iterdir()) == []
