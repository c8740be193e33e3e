"""The second quantizer: LiteRT's own, to which quantization inside TensorFlow's converter is moving.

It takes a float TFLite file and gives int8 in and out: a raw pixel less 128 is the tensor's value.
"""

from contextlib import redirect_stderr
from io import StringIO

import numpy as np
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.utils import tfl_interpreter_utils as interpreters
from numpy.typing import NDArray

from convert import quantize
from convert.calibration import with_extremes
from convert.source import Network
from edge_agent.contracts.errors import GateError


def int8(network: Network, images: NDArray[np.uint8]) -> bytes:
    """Quantize after training with LiteRT's quantizer, its static recipe of int8 weights and activations.

    Args:
        network: Float, pixels in [0, 1].
        images: The calibration set: uint8, (n, height, width, 3), RGB.

    Returns:
        A `.tflite` file, int8 in and out.

    Raises:
        GateError: It cannot quantize an operation.
    """
    plain = quantize.float_form(network, "float32")
    try:
        with quantize.quietly(), redirect_stderr(StringIO()):
            return _quantized(plain, network, images)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as exc:
        raise GateError(
            f"Expected: operations that LiteRT's quantizer has in int8. Received: {str(exc)[:200]}.",
            hint="convert with --quantizer tensorflow",
        ) from exc


def _quantized(plain: bytes, network: Network, images: NDArray[np.uint8]) -> bytes:
    with quantize.quietly():
        interpreter = interpreters.create_tfl_interpreter(plain)
    (signature,) = interpreter.get_signature_list()
    (name,) = interpreter.get_signature_list()[signature]["inputs"]
    (tensor,) = interpreters.get_input_tensor_names(plain, signature)

    # A list: it is gone through twice.
    fed = [{name: network.inputs(image[None])} for image in with_extremes(images)]
    tool = quantizer.Quantizer(plain, recipe.static_wi8_ai8())
    ranges = tool.calibrate({signature: fed}, num_threads=1)
    # It smooths ranges from picture to picture, and would scale every pixel by what photos mostly span.
    low, high = network.inputs(np.array([0, 255], np.uint8))
    ranges[tensor] = {
        "min": np.full_like(ranges[tensor]["min"], low),
        "max": np.full_like(ranges[tensor]["max"], high),
    }
    return bytes(tool.quantize(ranges).quantized_model)
