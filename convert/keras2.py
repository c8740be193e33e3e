"""A Keras 3 network rebuilt under Keras 2 (`tf_keras`), on which alone `tensorflow-model-optimization` works.

Built again from its own configuration, its weights copied, and both shown to give equal outputs. A
layer that this module does not know is a clear error, never a guess.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import tf_keras
from numpy.typing import NDArray

from convert.quantize import keras_converter
from convert.source import Network
from edge_agent.contracts.errors import GateError

_EQUAL = 1e-4
_HINT = "this architecture can be quantized after training only: --qat never, and no --prune or --cluster"
# Operations written without a layer around them, as Keras 2 names them; the library fails on them.
_BARE = {"TFOpLambda", "SlicingOpLambda"}
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


def twin_of(network: Network, images: NDArray[np.uint8]) -> Any:  # noqa: ANN401 - Keras has no types
    """Return a copy of a network under `tf_keras` that may be trained.

    Args:
        network: Its `keras` is a model of either Keras.
        images: Some pictures to show by that both give the same: uint8, (n, height, width, 3), RGB.

    Raises:
        GateError: It cannot be had there.
    """
    model = network.keras
    if model is None:
        raise GateError(
            "Expected: a Keras model to train further. Received: a network without its layers.", hint=_HINT
        )
    if isinstance(model, tf_keras.Model):
        _refuse_unknown(layer for layer in model.layers if type(layer).__name__ in _BARE)
        twin = tf_keras.models.clone_model(model)
        twin.set_weights(model.get_weights())
    else:
        twin = rebuild(model)
    _require_equal(model, twin, network.inputs(images[:8]))
    return twin


def network_of(model: Any, like: Network) -> Network:  # noqa: ANN401 - Keras has no types
    """Return a `tf_keras` model as a network that takes and gives what another does."""
    return replace(
        like,
        predict=lambda pixels: np.asarray(model.predict_on_batch(pixels), np.float32),
        converter=lambda: keras_converter(model),
        keras=model,
    )


def rebuild(model: Any) -> Any:  # noqa: ANN401 - Keras has no types
    """Return the same network under `tf_keras`, weights included.

    Raises:
        GateError: It has a layer that is not known here.
    """
    _refuse_unknown(layer for layer in model.layers if type(layer).__name__ not in {"InputLayer", *_SETTINGS})
    made: dict[str, Any] = {}
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "InputLayer":
            made[layer.name] = tf_keras.Input(layer.batch_shape[1:], name=layer.name)
            continue
        twin = _twin(layer, kind)
        inputs = [made[tensor._keras_history.operation.name] for tensor in _inputs(layer)]  # noqa: SLF001 - the only way to walk a graph
        made[layer.name] = twin(inputs[0] if len(inputs) == 1 else inputs)
    (entrance,) = (layer.name for layer in model.layers if type(layer).__name__ == "InputLayer")
    twin_model = tf_keras.Model(made[entrance], made[model.layers[-1].name])
    for layer in model.layers:
        if layer.weights:
            twin_model.get_layer(layer.name).set_weights(_weights(layer))
    return twin_model


def _refuse_unknown(layers: Iterable[Any]) -> None:
    """Refuse layers of an architecture that cannot be trained with quantization, pruning or clustering."""
    found: dict[str, str] = {}
    for layer in layers:
        found.setdefault(type(layer).__name__, layer.name)
    if not found:
        return
    (kind, name), *others = found.items()
    more = f", and others: {', '.join(other for other, _ in others)}" if others else ""
    raise GateError(
        "Expected: an architecture that quantization-aware training, pruning and clustering can take, of "
        f"{', '.join(_SETTINGS)}. Received: a layer {kind} ({name}){more}.",
        hint=_HINT,
    )


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


def _require_equal(model: Any, twin: Any, pixels: NDArray[np.float32]) -> None:  # noqa: ANN401 - Keras has no types
    before, after = np.asarray(model.predict_on_batch(pixels)), np.asarray(twin.predict_on_batch(pixels))
    if (apart := float(np.abs(before - after).max())) > _EQUAL:
        raise GateError(
            f"Expected: equal outputs under both Kerases. Received: {apart:g} apart.",
            hint=_HINT,
        )
