"""Quantization-aware training: fine-tune a network that already computes as int8 will.

`tensorflow-model-optimization` works on Keras 2 (`tf_keras`) alone, so the network is built again
there from its own configuration, its weights copied, and both shown to give equal outputs. A layer
that this module does not know is a clear error, never a guess.
"""

from typing import Any

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from numpy.typing import NDArray

from convert.quantize import convert, quietly
from edge_agent.contracts.errors import GateError
from edge_agent.contracts.run import Samples

EPOCHS = 4
LEARNING_RATE = 1e-4
BATCH = 32
_EQUAL = 1e-4
# The settings of a layer that both Kerases share; everything else must be at its default.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "use_bias", "activation"),
    "DepthwiseConv2D": ("kernel_size", "strides", "padding", "use_bias", "activation"),
    "BatchNormalization": ("momentum", "epsilon"),
    "ReLU": ("max_value",),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": (),
    "GlobalMaxPooling2D": (),
    "Dense": ("units", "use_bias", "activation"),
    "Dropout": ("rate",),
    "Flatten": (),
    "Add": (),
}


def fine_tune(model: Any, training: Samples, *, seed: int) -> bytes:  # noqa: ANN401 - Keras has no types
    """Fine-tune with quantization in the loop (Jacob et al. 2018), and convert.

    Args:
        model: Keras 3, pixels in [0, 1] to logits.
        training: Training photos with their labels.
        seed: Of shuffling.

    Returns:
        A `.tflite` file.

    Raises:
        GateError: The network has a layer that cannot be trained this way.
    """
    tf_keras.utils.set_random_seed(seed)
    twin = rebuild(model)
    images = _with_extremes(training.images)
    _require_equal(model, twin, images[:8])
    with quietly():
        aware = _aware(twin)
        _pin_input(aware)
        aware.compile(
            tf_keras.optimizers.Adam(LEARNING_RATE),
            tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        aware.fit(
            images.astype(np.float32) / np.float32(255),
            # The black and the white picture only widen ranges: they have a weight of nothing.
            np.concatenate([training.labels, [0, 0]]),
            sample_weight=np.concatenate([np.ones(len(training.labels)), [0.0, 0.0]]),
            batch_size=BATCH,
            epochs=EPOCHS,
            verbose=0,
        )
        _pin_input(aware)
        return convert(aware)


def rebuild(model: Any) -> Any:  # noqa: ANN401 - Keras has no types
    """Return the same network under `tf_keras`, weights included.

    Raises:
        GateError: It has a layer that is not known here.
    """
    made: dict[str, Any] = {}
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "InputLayer":
            made[layer.name] = tf_keras.Input(layer.batch_shape[1:], name=layer.name)
            continue
        if kind not in _SETTINGS:
            raise GateError(
                f"Expected: one of {', '.join(_SETTINGS)}. Received: a layer {kind} ({layer.name}).",
                hint="convert this network with --quantization ptq",
            )
        twin = _twin(layer, kind)
        inputs = [made[tensor._keras_history.operation.name] for tensor in _inputs(layer)]  # noqa: SLF001 - the only way to walk a graph
        made[layer.name] = twin(inputs[0] if len(inputs) == 1 else inputs)
    (entrance,) = (layer.name for layer in model.layers if type(layer).__name__ == "InputLayer")
    twin_model = tf_keras.Model(made[entrance], made[model.layers[-1].name])
    for layer in model.layers:
        if layer.weights:
            twin_model.get_layer(layer.name).set_weights(_weights(layer))
    return twin_model


def _twin(layer: Any, kind: str) -> Any:  # noqa: ANN401 - Keras has no types
    if _stands_alone(layer):
        return tf_keras.layers.DepthwiseConv2D(1, name=layer.name)
    config = layer.get_config()
    settings = {key: config[key] for key in _SETTINGS[kind]}
    return getattr(tf_keras.layers, kind)(**settings, name=layer.name)


def _weights(layer: Any) -> list[NDArray[np.float32]]:  # noqa: ANN401 - Keras has no types
    if not _stands_alone(layer):
        return list(layer.get_weights())
    gamma, beta, mean, variance = layer.get_weights()
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return [scale[None, None, :, None], beta - mean * scale]


def _stands_alone(layer: Any) -> bool:  # noqa: ANN401 - Keras has no types
    """Say whether a norm follows no convolution: the library knows it only where it can be folded into one.

    A trained norm scales and shifts each channel, which a 1x1 depthwise convolution does as well.
    """
    if type(layer).__name__ != "BatchNormalization":
        return False
    before = layer.input._keras_history.operation  # noqa: SLF001 - the only way to walk a graph
    return type(before).__name__ not in {"Conv2D", "DepthwiseConv2D"}


def _inputs(layer: Any) -> list[Any]:  # noqa: ANN401 - Keras has no types
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _require_equal(model: Any, twin: Any, images: NDArray[np.uint8]) -> None:  # noqa: ANN401 - Keras has no types
    pixels = images.astype(np.float32) / np.float32(255)
    before, after = np.asarray(model.predict_on_batch(pixels)), np.asarray(twin.predict_on_batch(pixels))
    if (apart := float(np.abs(before - after).max())) > _EQUAL:
        raise GateError(
            f"Expected: equal outputs under both Kerases. Received: {apart:g} apart.",
            hint="convert this network with --quantization ptq",
        )


def _aware(twin: Any) -> Any:  # noqa: ANN401 - Keras has no types
    try:
        return tfmot.quantization.keras.quantize_model(twin)
    except (ValueError, RuntimeError) as exc:
        raise GateError(
            f"Expected: a network that can be trained with quantization. Received: {str(exc)[:200]}.",
            hint="convert it with --quantization ptq",
        ) from exc


def _pin_input(aware: Any) -> None:  # noqa: ANN401 - Keras has no types
    """Set the input's range to [0, 1]: a raw pixel must mean the same to every bundle."""
    for variable in aware.variables:
        if variable.name.startswith("quantize_layer"):
            if variable.name.endswith("_min:0"):
                variable.assign(0.0)
            elif variable.name.endswith("_max:0"):
                variable.assign(1.0)


def _with_extremes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([images, np.zeros_like(images[:1]), np.full_like(images[:1], 255)])
