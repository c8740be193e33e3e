"""The networks: each takes pixels in [0, 1] and ends in logits.

Written against a Keras namespace that is handed in, with layers that fold into plain int8
convolutions and that quantization-aware training knows.
"""

from types import ModuleType
from typing import Any

from train.config import TrainConfig

# Filters of the residual stages; each stage halves the picture.
_SHELF_S = (24, 32, 64, 128)
_SHELF_M = (32, 64, 128, 192, 256)


def build_model(keras: ModuleType, config: TrainConfig, classes: int) -> Any:  # noqa: ANN401 - Keras has no types
    """Return the network of a preset, untrained.

    Args:
        keras: The Keras 3 module.
        config: Names the preset and its input.
        classes: Number of logits.

    Returns:
        A functional model: float32 (n, image_px, image_px, 3) in [0, 1] to logits (n, classes).
    """
    inputs = keras.Input((config.image_px, config.image_px, 3), name="pixels")
    match config.preset:
        case "shelf-s":
            features = _residual(keras, inputs, _SHELF_S)
        case "shelf-m":
            features = _residual(keras, inputs, _SHELF_M)
        case "article-cifar":
            features = _article(keras, inputs, (32, 64, 64), 64)
        case "article-64":
            features = _article(keras, inputs, (32, 64), 128)
    features = keras.layers.Dropout(config.dropout, seed=config.seed, name="dropout")(features)
    outputs = keras.layers.Dense(classes, name="logits")(features)
    return keras.Model(inputs, outputs, name=config.preset.replace("-", "_"))


def _residual(keras: ModuleType, inputs: Any, filters: tuple[int, ...]) -> Any:  # noqa: ANN401 - Keras has no types
    """Plain residual stages (He et al. 2016) of 3x3 convolutions, and the mean over all places."""
    value = _convolution(keras, inputs, filters[0], "stem", stride=2)
    for number, width in enumerate(filters[1:], start=1):
        name = f"stage{number}"
        inner = _convolution(keras, value, width, f"{name}_a", stride=2)
        inner = _convolution(keras, inner, width, f"{name}_b", active=False)
        short = _convolution(keras, value, width, f"{name}_short", stride=2, side=1, active=False)
        value = keras.layers.Add(name=f"{name}_add")([inner, short])
        value = keras.layers.ReLU(name=f"{name}_relu")(value)
    return keras.layers.GlobalAveragePooling2D(name="mean")(value)


def _convolution(
    keras: ModuleType,
    value: Any,  # noqa: ANN401 - Keras has no types
    filters: int,
    name: str,
    *,
    stride: int = 1,
    side: int = 3,
    active: bool = True,
) -> Any:  # noqa: ANN401 - Keras has no types
    value = keras.layers.Conv2D(
        filters, side, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(value)
    value = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(value)
    return keras.layers.ReLU(name=f"{name}_relu")(value) if active else value


def _article(keras: ModuleType, inputs: Any, filters: tuple[int, ...], dense: int) -> Any:  # noqa: ANN401 - Keras has no types
    """Unpadded convolutions with pooling between them, and a dense layer."""
    value = inputs
    for number, width in enumerate(filters, start=1):
        value = keras.layers.Conv2D(width, 3, activation="relu", name=f"conv{number}")(value)
        if number < len(filters) or len(filters) == 2:  # noqa: PLR2004 - the smaller one pools after both
            value = keras.layers.MaxPooling2D(name=f"pool{number}")(value)
    value = keras.layers.Flatten(name="flat")(value)
    return keras.layers.Dense(dense, activation="relu", name="dense")(value)
