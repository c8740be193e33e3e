"""A float network to TFLite: the only module that knows TensorFlow's converter.

int8: raw uint8 pixels go in with scale 1/255 and zero point 0, int8 scores come out. Calibration
always includes a black and a white picture.
"""

import csv
import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from convert import flatbuffer
from convert.calibration import with_extremes
from convert.recipe import FloatForm
from convert.source import Network
from edge_agent.classifier import TfliteModel
from edge_agent.contracts.errors import GateError

_SCALE_TOLERANCE = 1e-6
_NO_INT8 = "this quantizer leaves a layer of the network in float; try the other one (--quantizer)"


def keras_converter(model: Any) -> Any:  # noqa: ANN401 - Keras has no types
    """Return a converter of a model of either Keras."""
    with quietly(), _undisturbed():
        return tf.lite.TFLiteConverter.from_keras_model(model)


def saved_model_converter(folder: Path, signature: str) -> Any:  # noqa: ANN401 - TensorFlow has no types
    """Return a converter of one signature of a SavedModel."""
    with quietly(), _undisturbed():
        return tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[signature])


def float_form(network: Network, form: FloatForm) -> bytes:
    """Convert without int8 throughout: for comparison.

    Args:
        network: Float.
        form: float32 as it is; float16: its weights; dynamic: int8 weights, activations float between
            operators.

    Returns:
        A `.tflite` file, float32 in and out.

    Raises:
        GateError: An operation has no TFLite form.
    """
    converter = network.converter()
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return _converted(converter)


def int8(network: Network, images: NDArray[np.uint8]) -> bytes:
    """Quantize after training, with full-integer calibration (Jacob et al. 2018).

    Args:
        network: Float.
        images: The calibration set: uint8, (n, height, width, 3), RGB.

    Returns:
        A `.tflite` file, uint8 in and int8 out.

    Raises:
        GateError: An operation has no int8 form.
    """
    converter = _calibrated(network, images)
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    return _converted(converter)


def int8_of_aware(model: Any) -> bytes:  # noqa: ANN401 - Keras has no types
    """Convert a model that was trained with quantization and brings its own ranges; see `int8`."""
    converter = keras_converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    return _converted(converter)


def layer_statistics(network: Network, images: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return how far each int8 operator is from its float twin, both fed with the same int8 values.

    Args:
        network: Float.
        images: The calibration set: uint8, (n, height, width, 3), RGB; the first 64 are looked at.

    Returns:
        A row for each operator, in order, as TensorFlow's quantization debugger writes it: `op_name`,
        `tensor_name`, `mean_squared_error`, `signal` (the mean square of the float values), `scale`.
    """
    signal = {"signal": lambda exact, _rounded, _scale, _zero: float(np.mean(np.square(exact)))}
    with quietly(), _undisturbed():
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=_calibrated(network, images),
            debug_dataset=lambda: _fed(network, images[:64]),
            debug_options=tf.lite.experimental.QuantizationDebugOptions(layer_direct_compare_metrics=signal),
        )
        debugger.run()
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    return list(csv.DictReader(io.StringIO(table.getvalue())))


def require_int8(content: bytes) -> None:
    """Look into the file: no operator touches a float tensor.

    Raises:
        GateError: One does; it is named.
    """
    found = flatbuffer.floats(flatbuffer.read(content))
    if found:
        raise GateError(
            f"Expected: integer tensors only. Received: {len(found)} of float, the first in {found[0]}.",
            hint=_NO_INT8,
        )


def require_pixels(content: bytes) -> None:
    """Look into the file: pixels mean what they say.

    Raises:
        GateError: The input is neither uint8 with scale 1/255 and zero point 0, nor int8 with 1/255 and -128.
    """
    entrance = TfliteModel(content).input
    zero_point = {np.dtype(np.uint8): 0, np.dtype(np.int8): -128}.get(entrance.dtype)
    if abs(entrance.scale - 1 / 255) > _SCALE_TOLERANCE or entrance.zero_point != zero_point:
        raise GateError(
            "Expected: a uint8 input with scale 1/255 and zero point 0. "
            f"Received: {entrance.dtype} with {entrance.scale:.9f} and {entrance.zero_point}.",
            hint="the model must take pixels in [0, 1]",
        )


def _calibrated(network: Network, images: NDArray[np.uint8]) -> Any:  # noqa: ANN401 - TensorFlow has no types
    converter = network.converter()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _fed(network, with_extremes(images))
    # Refuse any operation without an int8 form.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter


def _fed(network: Network, images: NDArray[np.uint8]) -> Iterator[list[NDArray[np.float32]]]:
    for image in images:
        yield [network.inputs(image[None])]


def _converted(converter: Any) -> bytes:  # noqa: ANN401 - TensorFlow has no types
    try:
        with quietly(), _undisturbed():
            return bytes(converter.convert())
    except Exception as exc:
        # The converter raises whatever its parts raise; the first line that names an operation is the cause.
        raise GateError(
            f"Expected: operations that TFLite has in this form. Received: {_cause(exc)}.", hint=_NO_INT8
        ) from exc


def _cause(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "op" in line.lower()]
    return f"{[*telling, *lines, type(exc).__name__][0]:.200}"


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what the converter says off standard output, which may be somebody's JSON."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        # It says that integer inputs have no statistics and goes on; they come from the calibration set.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        # The debugger runs in TensorFlow's own interpreter, which is about to move.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
        # Tensors are kept for calibration on purpose.
        warnings.filterwarnings("ignore", "Warning: Enabling `experimental_preserve", UserWarning)
        # The exporter keeps variables of the model in ways that NumPy is about to rename.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep an interrupt until the converter is done: what it calls back may raise nothing, or it is lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
