"""Real bundles: int8 throughout, proven, and refused when anything about them is not as it was."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from convert.quantize import require_int8, require_pixels
from edge_agent.classifier import Classifier, TfliteModel
from edge_agent.contracts import bundle, run
from edge_agent.contracts.errors import BundleError, GateError
from tests.conftest import Kit


def test_every_tensor_is_an_integer_and_a_pixel_is_a_pixel(bundle_folder: Path) -> None:
    model = TfliteModel(bundle_folder / bundle.MODEL)
    assert {dtype.kind for _, dtype in model.tensors()} <= {"i", "u"}
    assert model.input.dtype == np.uint8
    assert model.input.zero_point == 0
    assert model.input.scale == pytest.approx(1 / 255, abs=1e-6)
    assert model.output.dtype == np.int8


def test_the_manifest_says_what_the_run_was(bundle_folder: Path, run_folder: Path) -> None:
    manifest, info = bundle.read(bundle_folder).manifest, run.read(run_folder).info
    assert manifest.label_names == [entry.label for entry in info.classes]
    assert manifest.provenance.run_sha256 == run.read(run_folder).sha256
    assert manifest.provenance.quantization == "ptq"
    # Refitted to the int8 logits, which are nearly the float ones.
    assert manifest.calibration.temperature == pytest.approx(info.temperature, rel=0.2)
    assert manifest.scorecard is not None
    assert manifest.scorecard.n == len(run.read(run_folder).holdout().ids)
    assert manifest.scorecard.float32.accuracy == pytest.approx(info.metrics["holdout_accuracy"], abs=0.02)


def test_goldens_have_a_clear_margin_and_hold(bundle_folder: Path) -> None:
    read = bundle.read(bundle_folder)
    classifier = Classifier(read)
    classifier.check_golden()
    _, scores = read.golden()
    ranked = np.sort(scores, axis=1)
    assert (ranked[:, -1] - ranked[:, -2]).min() > read.manifest.golden.tolerance > 0
    assert len(set(scores.argmax(axis=1).tolist())) > len(classifier.labels) / 2


def test_the_float_models_of_others_are_no_int8(public_data: Path) -> None:
    models = sorted((public_data / "mlperf_tiny").rglob("*.tflite"))
    said = []
    for path in models:
        try:
            require_int8(path.read_bytes())
            require_pixels(path.read_bytes())
        except GateError as exc:
            said.append(str(exc))
    assert len(models) >= 3
    assert any("of float" in text for text in said)
    assert any("int8 with" in text for text in said)


def test_evaluate_is_the_devices_own_judgement(bundle_folder: Path, photos: Path, kit: Kit) -> None:
    figures = json.loads(kit("convert", "evaluate", bundle_folder, photos, "--json").stdout)
    assert figures["n"] == 9 * 40
    assert figures["accuracy"] > 0.9
    assert figures["accuracy_95"][0] <= figures["accuracy"] <= figures["accuracy_95"][1]
    assert set(figures["recall"]) == {path.name for path in photos.iterdir()}


def changed(folder: Path, to: Path, **fields: object) -> Path:
    shutil.copytree(folder, to)
    manifest = json.loads((to / bundle.MANIFEST).read_text())
    (to / bundle.MANIFEST).write_text(json.dumps(manifest | fields))
    return to


def test_a_bundle_that_computes_something_else_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_folder, tmp_path / "b")
    with np.load(tmp_path / "b" / bundle.GOLDEN) as golden:
        images, scores = golden["images"], golden["scores"]
    np.savez(tmp_path / "b" / bundle.GOLDEN, images=images, scores=scores[:, ::-1])
    manifest = json.loads((tmp_path / "b" / bundle.MANIFEST).read_text())
    path = tmp_path / "b" / bundle.GOLDEN
    manifest["files"][bundle.GOLDEN] = {"sha256": bundle.hash_file(path), "size": path.stat().st_size}
    (tmp_path / "b" / bundle.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="another top-1"):
        Classifier(bundle.read(tmp_path / "b")).check_golden()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"labels": [{"label": "a"}, {"label": "b"}]}, "2 scores"),
        ({"input": {"height": 32, "width": 32}}, "32x32|golden images"),
    ],
)
def test_a_manifest_that_does_not_fit_its_model(
    bundle_folder: Path, tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(BundleError, match=said):
        Classifier(bundle.read(changed(bundle_folder, tmp_path / "b", **fields)))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"no model at all" * 50])
def test_what_is_no_model(content: bytes) -> None:
    with pytest.raises(BundleError, match="TFLite model"):
        TfliteModel(content)


@pytest.mark.slow
def test_golden_vectors_may_come_from_pictures_that_anyone_may_see(
    run_folder: Path, tmp_path: Path, kit: Kit
) -> None:
    rng = np.random.default_rng(1)
    noise = {number: rng.integers(0, 256, (64, 64, 3), np.uint8) for number in range(12)}
    for number, picture in noise.items():
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    out = tmp_path / "bundle"
    kit("convert", "--int8", run_folder, "--out", out, "--golden", tmp_path)
    with np.load(out / bundle.GOLDEN) as golden:
        shown = {picture[..., ::-1].tobytes() for picture in golden["images"]}
    assert shown <= {picture.tobytes() for picture in noise.values()}
    kit("convert", "verify", out)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{run}", "--out", "new"], 2, "--int8"),
        (["--int8", "{run}", "--out", "{run}"], 2, "exists"),
        (["--int8", "{run}", "--out", "new", "--qat", "perhaps"], 2, "unexpected extra argument"),
        (["--int8", "nowhere", "--out", "new"], 4, "run directory"),
        (["--int8", "{run}", "--out", "new", "--qat=perhaps"], 2, "auto, always, never"),
        (["--int8", "{run}", "--out", "new", "--quantizer", "mine"], 2, "tensorflow, litert"),
        (["--int8", "{run}", "--out", "new", "--quantizer", "litert", "--qat"], 2, "with --qat always"),
        (["--int8", "{run}", "--out", "new", "--prune", "1"], 2, "below 1"),
        (["--int8", "{run}", "--out", "new", "--cluster", "1"], 2, "from 2 to 256"),
        (["--int8", "{run}", "--out", "new", "--prune", "0.5", "--cluster", "8"], 2, "both"),
        (["--int8", "{run}", "--out", "new", "--max-drop", "nan"], 2, "max_drop_points"),
        (["--int8", "{run}", "--out", "new", "--version", "1" * 99], 2, "--version"),
        (["--int8", "{leaky}", "--out", "new"], 4, "disjoint"),
        (["--int8", "{run}", "--out", "new", "--golden", "nowhere"], 4, "folder of photos"),
        (["evaluate", "nowhere", "{photos}"], 6, "bundle"),
        (["evaluate", "{tampered}", "{photos}"], 6, "sha256"),
        (["evaluate", "{bundle}", "nowhere"], 4, "folder of photos"),
        (["evaluate", "{bundle}", "{photos}", "--split", "test"], 4, "part 'test'"),
        (["evaluate", "{bundle}", "{photos}", "--split", "most"], 2, "train, val, test"),
        (["verify", "{tampered}"], 6, "sha256"),
    ],
)
def test_what_cannot_be_converted(
    run_folder: Path,
    bundle_folder: Path,
    photos: Path,
    tmp_path: Path,
    kit: Kit,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    tampered, leaky = tmp_path / "tampered", tmp_path / "leaky"
    shutil.copytree(bundle_folder, tampered)
    model = bytearray((tampered / bundle.MODEL).read_bytes())
    model[len(model) // 2] ^= 1
    (tampered / bundle.MODEL).write_bytes(model)
    shutil.copytree(run_folder, leaky)
    shutil.copy(leaky / run.HOLDOUT, leaky / run.CALIBRATION)
    places = {
        "run": run_folder,
        "bundle": bundle_folder,
        "photos": photos,
        "tampered": tampered,
        "leaky": leaky,
    }
    done = kit("convert", *(item.format(**places) for item in arguments), code=code, cwd=tmp_path)
    assert said in done.stderr.replace("\n", " ")
    assert not (tmp_path / "new").exists()
