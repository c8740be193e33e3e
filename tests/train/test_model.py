"""The networks, under both Keras, and backbones that others trained."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tf_keras

from edge_agent.contracts import run
from edge_agent.contracts.errors import UsageError
from tests.train.starts import shelf_photos, start
from train import objective
from train.backbone import as_learned, names, preprocessing
from train.config import PRESETS, TrainConfig
from train.model import build_model

# One pixel size that each preset can take, and one that it is meant for.
_SIZES = [(preset, px) for preset in PRESETS for px in (32, 64)]


@pytest.mark.parametrize(("preset", "px"), _SIZES)
def test_both_keras_make_the_same_network(preset: str, px: int) -> None:
    config = TrainConfig(preset=preset, image_px=px, l2=1e-4)
    ours, theirs = build_model(keras, config, 5), build_model(tf_keras, config, 5)
    weights = ours.get_weights()
    rng = np.random.default_rng(1)
    # Not as they begin: a norm that does nothing would hide a wrong order.
    weights = [rng.uniform(0.05, 0.2, value.shape).astype(np.float32) for value in weights]
    assert [value.shape for value in theirs.get_weights()] == [value.shape for value in weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    pixels = rng.random((4, px, px, 3), np.float32)
    one, other = np.asarray(ours(pixels)), np.asarray(theirs(pixels))
    assert one.shape == (4, 5)
    assert np.ptp(one) > 0
    assert other == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("shelf", "did you mean shelf-"),
        ("MobileNetV3Smal", "did you mean MobileNetV3Small"),
        ("mobilenetv2", "did you mean MobileNetV2"),
        ("zzz", "backbones: "),
    ],
)
def test_a_name_that_nothing_has(preset: str, said: str) -> None:
    with pytest.raises(UsageError, match="or a backbone of") as caught:
        build_model(keras, TrainConfig(preset=preset), 3)
    assert said in caught.value.hint


def test_weights_of_others_are_for_backbones() -> None:
    with pytest.raises(UsageError, match="Received: shelf-s"):
        build_model(keras, TrainConfig(preset="shelf-s", weights="imagenet"), 3)


def test_a_backbone_that_cannot_take_so_small_a_picture() -> None:
    with pytest.raises(UsageError, match=r"--image-px that InceptionV3 can take. Received: 32"):
        build_model(keras, TrainConfig(preset="InceptionV3", image_px=32), 3)


@pytest.mark.parametrize("name", names(keras))
def test_pixels_come_as_each_family_learned_them(name: str) -> None:
    """Against the family's own function, on noise."""
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, as_learned(keras, inputs, getattr(keras.applications, name)))
    picture = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    expected = preprocessing(getattr(keras.applications, name))(255 * picture)
    assert np.asarray(model(picture)) == pytest.approx(np.asarray(expected), abs=2e-4)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("preset", ["MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0"])
@pytest.mark.parametrize("px", [32, 96])
def test_a_backbone_trains_and_is_kept(preset: str, px: int, tmp_path: Path) -> None:
    config = TrainConfig(preset=preset, image_px=px)
    model = build_model(keras, config, 3)
    model.compile(objective.optimizer(config, 2), objective.loss(config), jit_compile=False)
    fixed = model.get_layer("as_learned").get_weights()
    rng = np.random.default_rng(0)
    pixels, truth = rng.random((4, px, px, 3), np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    before = model.get_weights()
    for _ in range(2):
        assert np.isfinite(float(model.train_on_batch(pixels, truth)))
    after = model.get_weights()
    changed = [not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    for one, other in zip(model.get_layer("as_learned").get_weights(), fixed, strict=True):
        assert np.array_equal(one, other)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert np.asarray(again(pixels)) == pytest.approx(np.asarray(model(pixels)), abs=1e-5)


@pytest.mark.slow
def test_without_a_network_there_are_no_weights_of_others(tmp_path: Path) -> None:
    photos = shelf_photos(tmp_path / "photos", 6)
    # Nothing listens on port 9: as quick as a machine without a network.
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9") | {"no_proxy": ""}
    refused = start(
        tmp_path / "offline",
        *(photos, "--out", "run", "--preset", "MobileNetV3Small", "--weights", "imagenet"),
        *("--image-px", 32, "--epochs", 1),
        environment=offline | {"KERAS_HOME": str(tmp_path / "nothing")},
        fresh=True,
    )
    assert refused.wait() == 4
    assert "Expected: ImageNet weights of MobileNetV3Small" in refused.errors
    assert "--weights none" in refused.errors
    assert not (tmp_path / "offline" / "run").exists()


@pytest.mark.slow
def test_weights_of_others_are_where_training_begins(tmp_path: Path) -> None:
    """Weights in Keras' cache under the name that it downloads them by: this family's have no checksum."""
    cache = tmp_path / "keras" / "models"
    cache.mkdir(parents=True)
    theirs = tf_keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    rng = np.random.default_rng(0)
    theirs.set_weights([value + rng.uniform(0, 0.01, value.shape) for value in theirs.get_weights()])
    theirs.save_weights(cache / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5")
    started = start(
        tmp_path / "work",
        *(shelf_photos(tmp_path / "photos", 8), "--out", "run", "--preset", "MobileNetV2", "--json"),
        *("--weights", "imagenet", "--image-px", 96, "--epochs", 1, "--learning-rate", 1e-6),
        environment={"KERAS_HOME": str(tmp_path / "keras")},
        fresh=True,
    )
    started.told()
    model = keras.saving.load_model(run.read(tmp_path / "work" / "run").model, compile=False)
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    for found, expected in zip(network.trainable_variables, theirs.trainable_variables, strict=True):
        assert np.asarray(found) == pytest.approx(np.asarray(expected), abs=1e-4)
