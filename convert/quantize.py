"""Float Keras model to full-int8 TFLite: the only module that knows the converter.

Raw uint8 pixels go in with scale 1/255 and zero point 0, int8 logits come out. Calibration always
includes a black and a white picture: without them the input's range, and with it every pixel, is
scaled by whatever the photos happen to span.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_agent.classifier import TfliteModel
from edge_agent.contracts.errors import GateError

Pixels = NDArray[np.float32]
_INPUT_SCALE_TOLERANCE = 1e-6


def quantize(model: Any, images: NDArray[np.uint8]) -> bytes:  # noqa: ANN401 - Keras has no types
    """Quantize after training, with full-integer calibration (Jacob et al. 2018).

    Args:
        model: Keras 3, pixels in [0, 1] to logits.
        images: The calibration set: uint8, (n, height, width, 3), RGB.

    Returns:
        A `.tflite` file.
    """

    def representative() -> Iterator[list[Pixels]]:
        extremes = np.stack([np.zeros_like(images[0]), np.full_like(images[0], 255)])
        for image in [*images, *extremes]:
            yield [image[None].astype(np.float32) / np.float32(255)]

    return convert(model, representative)


def convert(model: Any, representative: Callable[[], Iterator[list[Pixels]]] | None = None) -> bytes:  # noqa: ANN401 - Keras has no types
    """Convert a model of either Keras: uint8 in, int8 out.

    Args:
        model: With calibration pictures, or trained for int8.
        representative: Gives the calibration pictures; None: the model brings its own ranges.
    """
    with quietly():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if representative is not None:
        converter.representative_dataset = representative
        # Refuse any operation without an int8 form.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    with quietly():
        return bytes(converter.convert())


def require_int8(content: bytes) -> None:
    """Look into the file: no float tensor anywhere, and pixels mean what they say.

    Raises:
        GateError: A tensor is not an integer, or the input is not uint8 with scale 1/255 and zero point 0.
    """
    model = TfliteModel(content)
    floats = [name for name, dtype in model.tensors() if dtype.kind == "f"]
    if floats:
        raise GateError(
            f"Expected: integer tensors only. Received: {len(floats)} of float, the first {floats[0]!r}.",
            hint="a layer of this network has no int8 form; use one of the kit's presets",
        )
    entrance = model.input
    if (
        entrance.dtype != np.uint8
        or abs(entrance.scale - 1 / 255) > _INPUT_SCALE_TOLERANCE
        or entrance.zero_point != 0
    ):
        raise GateError(
            "Expected: a uint8 input with scale 1/255 and zero point 0. "
            f"Received: {entrance.dtype} with {entrance.scale:.9f} and {entrance.zero_point}.",
            hint="the model must take pixels in [0, 1]",
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what the converter says off standard output, which may be somebody's JSON."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        # It says that integer inputs have no statistics and goes on; they come from the calibration set.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        # The exporter keeps variables of the model in ways that NumPy is about to rename.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
