"""Models that nobody here trained, to bundles, as a user brings them."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import cifar10_sheets
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle
from tests.conftest import Kit

CIFAR = "".join(f"{number}\n" for number in range(10))
MAKE = """
import sys
import keras
import numpy as np
import tf_keras

# A classifier that needs no training: the brightest channel decides.
def built(k, last, size=(32, 32, 3)):
    value = inputs = k.Input(size)
    value = k.layers.Conv2D(3, 3, padding="same", name="conv", use_bias=False)(value)
    value = k.layers.GlobalAveragePooling2D()(value)
    outputs = k.layers.Dense(3, activation=last, name="scores")(value)
    model = k.Model(inputs, outputs)
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[1, 1] = np.eye(3)
    model.get_layer("conv").set_weights([kernel])
    model.get_layer("scores").set_weights([12 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32)])
    return model

folder = sys.argv[1]
built(keras, None).save(folder + "/three.keras")
built(tf_keras, "softmax").save(folder + "/two.h5")
built(keras, "softmax").export(folder + "/saved", verbose=0)
built(keras, None, (None, None, 3)).save(folder + "/anysize.keras")
built(keras, None).save_weights(folder + "/only.weights.h5")
spoiled = built(keras, None)
spoiled.get_layer("scores").set_weights([np.full((3, 3), np.nan, np.float32), np.zeros(3, np.float32)])
spoiled.save(folder + "/nan.keras")
code = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten(),
                         keras.layers.Dense(3)])
code.save(folder + "/code.keras")
two = keras.Input((32, 32, 3), name="one"), keras.Input((32, 32, 3), name="other")
flat = keras.layers.Flatten()(keras.layers.Add()(list(two)))
keras.Model(two, keras.layers.Dense(3)(flat)).save(folder + "/pair.keras")

def small(k, size, between):
    inputs = k.Input(size)
    outputs = k.layers.Dense(3)(k.layers.GlobalAveragePooling2D()(between(inputs)))
    return k.Model(inputs, outputs)

class Doubled(tf_keras.layers.Layer):
    def call(self, value):
        return 2 * value

class Tripled(keras.layers.Layer):
    def call(self, value):
        return 3 * value

small(tf_keras, (32, 32, 3), Doubled()).save(folder + "/own2.h5")
small(keras, (32, 32, 3), Tripled()).save(folder + "/own3.keras")
small(keras, (32, 32, 1), lambda value: value).save(folder + "/grey.keras")
small(keras, (1025, 32, 3), lambda value: value).save(folder + "/large.keras")
small(keras, (32, 32, 3), keras.ops.sin).save(folder + "/sine.keras")
"""
BACKBONES = """
import sys
import keras
import tf_keras

size, folder = (32, 32, 3), sys.argv[1]
keras.applications.MobileNetV3Small(size, weights=None, classes=3).save(folder + "/mobilenet.keras")
efficient = keras.applications.EfficientNetV2B0(input_shape=size, weights=None, classes=3)
efficient.save(folder + "/efficient.keras")
tf_keras.applications.MobileNetV3Small(size, weights=None, classes=3).save(folder + "/mobilenet.h5")
"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Little models of others, labels for them, and photos whose brightest channel is their class."""
    folder = tmp_path_factory.mktemp("foreign")
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True, capture_output=True)
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    rng = np.random.default_rng(1)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(24):
            photo = rng.integers(0, 150, (32, 32, 3), np.uint8)
            photo[:, :, channel] = np.minimum(255, photo[:, :, channel].astype(int) + 60 + 2 * number)
            cv2.imwrite(str(folder / "photos" / name / f"{number}.png"), photo[:, :, ::-1])
    content = (folder / "three.keras").read_bytes()
    (folder / "cut.keras").write_bytes(content[: len(content) // 2])
    (folder / "notes.keras").write_text("no model at all")
    (folder / "two.txt").write_text("red\ngreen\n")
    (folder / "gap.txt").write_text("red\n\nblue\n")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("model", "output"), [("three.keras", "logits"), ("two.h5", "probabilities"), ("saved", "probabilities")]
)
def test_float_models_are_quantized_and_judged(
    foreign: Path, tmp_path: Path, kit: Kit, model: str, output: str
) -> None:
    options = ("--labels", foreign / "labels.txt", "--data", foreign / "photos", "--out", tmp_path / "b")
    told = json.loads(kit("convert", "import", foreign / model, *options, "--json").stdout)
    assert told["scorecard"]["n"] == 36
    assert told["scorecard"]["int8"]["accuracy"] >= 0.95
    manifest = bundle.read(tmp_path / "b").manifest
    assert manifest.output.kind == output
    assert manifest.label_names == ["red", "green", "blue"]
    kit("convert", "verify", tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["three.keras"], 2, "--data to quantize"),
        (["three.keras", "--labels", "two.txt", "--data", "photos"], 4, "each of the 2 labels"),
        (["three.keras", "--labels", "gap.txt"], 4, "line 2|empty"),
        (["three.keras", "--labels", "none.txt"], 4, "none.txt"),
        (["three.keras", "--pixels", "0..2", "--data", "photos"], 2, "--pixels"),
        (["three.keras", "--output", "words", "--data", "photos"], 2, "logits, probabilities"),
        (["three.keras", "--output", "probabilities", "--data", "photos"], 2, "found out"),
        (["cut.keras", "--data", "photos"], 4, "whole model"),
        (["notes.keras", "--data", "photos"], 4, "none of them"),
        (["nowhere.keras", "--data", "photos"], 4, "nowhere.keras"),
        (["anysize.keras", "--data", "photos"], 4, "fixed height and width"),
        (["only.weights.h5", "--data", "photos"], 4, "weights only"),
        (["nan.keras", "--data", "photos"], 4, "weights that are numbers"),
        (["code.keras", "--data", "photos"], 4, "Lambda layer"),
        (["pair.keras", "--data", "photos"], 4, "one input"),
        (["own2.h5", "--data", "photos"], 4, "Unknown layer: 'Doubled'"),
        (["own3.keras", "--data", "photos"], 4, "Could not locate class 'Tripled'"),
        (["grey.keras", "--data", "photos"], 4, "(1, height, width, 3) in grey.keras"),
        (["large.keras", "--data", "photos"], 4, "1025x32 px (height: Input should be less than or equal to"),
        (["sine.keras", "--data", "photos", "--qat", "never"], 5, "integer tensors only"),
    ],
)
def test_what_cannot_be_imported(
    foreign: Path, tmp_path: Path, kit: Kit, words: list[str], code: int, said: str
) -> None:
    given = [*words] if "--labels" in words else [*words, "--labels", "labels.txt"]
    done = kit("convert", "import", *given, "--out", tmp_path / "b", code=code, cwd=foreign)
    text = " ".join(done.stderr.split())
    assert any(word in text for word in said.split("|")), text
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def backbones(foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of `keras.applications`, untrained, as both Kerases write them."""
    folder = tmp_path_factory.mktemp("backbones")
    subprocess.run([sys.executable, "-c", BACKBONES, str(folder)], check=True, capture_output=True)
    shutil.copytree(foreign / "photos", folder / "photos")
    shutil.copy(foreign / "labels.txt", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mobilenet.keras", "efficient.keras", "mobilenet.h5"])
def test_training_with_quantization_says_what_architecture_it_cannot_take(
    backbones: Path, tmp_path: Path, kit: Kit, model: str
) -> None:
    words = ("--labels", "labels.txt", "--data", "photos", "--pixels", "0..255", "--out", tmp_path / "b")
    done = kit("convert", "import", model, *words, "--qat", "always", code=5, cwd=backbones)
    said = " ".join(done.stderr.split())
    assert "Expected: an architecture that quantization-aware training" in said
    assert "can be quantized after training only: --qat never" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_network_of_keras_2(public_data: Path, tmp_path: Path, kit: Kit) -> None:
    """MLPerf Tiny's ResNet-8, on pictures that it was trained on: they tell the drop, not how good it is."""
    images, labels = cifar10_sheets.read_sheets(public_data / "cifar10")
    data = tmp_path / "cifar.npz"
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    train, test = slice(0, 400), slice(400, 800)
    np.savez(data, x_train=images[train], y_train=labels[train], x_test=images[test], y_test=labels[test])
    (tmp_path / "labels.txt").write_text("\n".join(names))
    words = ("--labels", tmp_path / "labels.txt", "--data", data, "--out", tmp_path / "b")
    budget = ("--pixels", "0..255", "--qat", "never", "--max-drop", 2, "--min-agreement", 0.95)
    model = public_data / "mlperf_tiny" / "pretrainedResnet.h5"
    told = json.loads(kit("convert", "import", model, *words, *budget, "--json").stdout)
    assert told["scorecard"]["n"] == 400
    assert told["scorecard"]["float32"]["accuracy"] > 0.85
    assert told["scorecard"]["drop_points"] <= 2
    assert bundle.read(tmp_path / "b").manifest.label_names == names
    again = json.loads(kit("convert", "evaluate", tmp_path / "b", data, "--split", "test", "--json").stdout)
    assert again["accuracy"] == pytest.approx(told["scorecard"]["int8"]["accuracy"])


@pytest.mark.slow
@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_while_it_quantizes_leaves_nothing(foreign: Path, tmp_path: Path) -> None:
    words = ("convert", "import", "three.keras", "--labels", "labels.txt", "--data", "photos")
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.cli", *words, "--out", str(tmp_path / "b")],
        cwd=foreign,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "quantizing" in line:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert list(tmp_path.iterdir()) == []


def test_a_ready_model_names_what_it_sees(public_data: Path, tmp_path: Path, kit: Kit) -> None:
    coral = public_data / "coral_test_data"
    model, labels = coral / "mobilenet_v2_1.0_224_quant.tflite", coral / "imagenet_labels.txt"
    kit("convert", "import", model, "--labels", labels, "--out", tmp_path / "b")
    classifier = Classifier(bundle.read(tmp_path / "b"))
    assert classifier.manifest.input.pixels == "raw"
    for file, word in (("cat.bmp", "cat"), ("bird.bmp", "chickadee"), ("hot_dog.jpg", "hotdog")):
        photo = cv2.resize(
            np.asarray(cv2.imread(str(coral / file))), (224, 224), interpolation=cv2.INTER_AREA
        )
        shown = np.asarray(photo[:, :, ::-1], np.uint8)
        entry = classifier.manifest.labels[int(classifier.probabilities(shown[None]).argmax())]
        assert word in f"{entry.label} {entry.name}"


@pytest.mark.parametrize(
    ("model", "options", "dtype"),
    [
        ("pretrainedResnet.tflite", ("--pixels", "0..255"), "float"),
        ("pretrainedResnet_quant.tflite", ("--pixels", "0..255"), "int8"),
        ("pretrainedResnet_large_int8.tflite", ("--pixels", "0..255"), "int8"),
    ],
)
def test_ready_models_of_every_type_go_in_as_they_are(
    public_data: Path, tmp_path: Path, kit: Kit, model: str, options: tuple[str, ...], dtype: str
) -> None:
    (tmp_path / "labels.txt").write_text(CIFAR)
    place = public_data / "mlperf_tiny" / model
    words = ("--labels", tmp_path / "labels.txt", "--out", tmp_path / "b", *options)
    kit("convert", "import", place, *words)
    made = bundle.read(tmp_path / "b")
    assert made.model.read_bytes() == place.read_bytes()
    assert isinstance(made.manifest.input.pixels, list)
    assert made.manifest.output.kind == "probabilities"
    assert made.manifest.provenance.quantization == ("none" if dtype == "float" else "foreign")
    kit("convert", "verify", tmp_path / "b")


def test_a_float_model_must_be_told_what_a_pixel_is(public_data: Path, tmp_path: Path, kit: Kit) -> None:
    (tmp_path / "labels.txt").write_text(CIFAR)
    place = public_data / "mlperf_tiny" / "pretrainedResnet.tflite"
    words = ("--labels", tmp_path / "labels.txt", "--out", tmp_path / "b")
    assert "--pixels for a float input" in kit("convert", "import", place, *words, code=2).stderr
