"""Models that nobody here trained, to bundles, as a user brings them."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

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
