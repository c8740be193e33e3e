"""Backbones of `keras.applications`, with or without what they learned on ImageNet."""

import difflib
import inspect
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.errors import DataError, UsageError
from train.config import Weights

Floats = NDArray[np.float32]
_PROBES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)


def names(keras: ModuleType) -> list[str]:
    """Return what `keras.applications` has."""
    return sorted(name for name, made in vars(keras.applications).items() if inspect.isfunction(made))


def backbone(
    keras: ModuleType,
    inputs: Any,  # noqa: ANN401 - Keras has no types
    name: str,
    *,
    weights: Weights,
    presets: Sequence[str],
) -> Any:  # noqa: ANN401 - Keras has no types
    """Return the mean features of a backbone.

    Args:
        keras: Keras 3 or `tf_keras`.
        inputs: Pixels in [0, 1].
        name: As `keras.applications` has it.
        weights: From chance or from ImageNet; the latter are downloaded once by Keras.
        presets: What else the name could have meant.

    Raises:
        UsageError: No such backbone, or one that cannot take pictures of this size.
        DataError: The weights cannot be had.
    """
    known = names(keras)
    if name not in known:
        close = difflib.get_close_matches(name, [*presets, *known], n=3, cutoff=0.4)
        raise UsageError(
            f"Expected: --preset as one of {', '.join(presets)}, or a backbone of keras.applications. "
            f"Received: {name!r}.",
            hint=f"did you mean {', '.join(close)}?" if close else f"backbones: {', '.join(known)}",
        )
    make = getattr(keras.applications, name)
    try:
        network = make(
            include_top=False,
            weights=None if weights == "none" else weights,
            input_shape=tuple(inputs.shape[1:]),
            pooling="avg",
        )
    except ValueError as exc:
        raise UsageError(
            f"Expected: an --image-px that {name} can take. Received: {inputs.shape[1]}: {exc}."
        ) from exc
    except Exception as exc:
        # Keras wraps whatever the network threw into a bare Exception.
        if weights == "none":
            raise
        raise DataError(
            f"Expected: ImageNet weights of {name}. Received: {str(exc)[:200]}.",
            hint="they are downloaded once, which needs a network; --weights none trains from scratch",
        ) from exc
    return network(as_learned(keras, inputs, make))


def as_learned(keras: ModuleType, inputs: Any, make: Any) -> Any:  # noqa: ANN401 - Keras has no types
    """Put pixels on the scale that a backbone was trained on.

    Each family has its own `preprocess_input`; all are affine. Four colours tell its matrix, which one
    fixed 1x1 convolution then computes.

    Args:
        keras: Keras 3 or `tf_keras`.
        inputs: Pixels in [0, 1], (n, height, width, 3).
        make: What makes the network, of `keras.applications`.

    Returns:
        The same pixels on its scale.
    """
    answers = np.asarray(preprocessing(make)(255 * _PROBES[:, None, None, :].copy()))[:, 0, 0, :]
    kernel = (answers[1:] - answers[0])[None, None]
    layer = keras.layers.Conv2D(3, 1, name="as_learned", trainable=False)
    value = layer(inputs)
    layer.set_weights([kernel, answers[0]])
    return value


def preprocessing(make: Any) -> Any:  # noqa: ANN401 - Keras has no types
    """Return the `preprocess_input` of the family that makes a network; takes pixels from 0 to 255."""
    return sys.modules[make.__module__].preprocess_input
