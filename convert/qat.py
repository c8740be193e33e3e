"""Quantization-aware training: fine-tune a network that already computes as int8 will."""

from typing import Any, Literal

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from numpy.typing import NDArray

from convert import fine_tune, keras2
from convert.calibration import with_extremes
from convert.quantize import int8_of_aware, quietly
from convert.source import Network
from edge_agent.contracts.errors import GateError

Kept = Literal["sparsity", "clusters"]
_BATCH = 32


def int8(
    network: Network,
    teacher: Network,
    images: NDArray[np.uint8],
    *,
    seed: int,
    kept: Kept | None = None,
) -> bytes:
    """Fine-tune with quantization in the loop (Jacob et al. 2018), and convert.

    Args:
        network: Where it starts from.
        teacher: Whose answers it learns: the float original.
        images: The calibration set: uint8, (n, height, width, 3), RGB.
        seed: Of shuffling.
        kept: What an earlier compression gave the weights, and training must not take.

    Returns:
        A `.tflite` file, uint8 in and int8 out.

    Raises:
        GateError: The network cannot be trained this way.
    """
    fine_tune.seeded(seed)
    twin = keras2.twin_of(network, images)
    with quietly():
        aware = _aware(twin, kept)
        ranges = _ranges(aware, twin, teacher.inputs(with_extremes(images)))

        def hold(*_: object) -> None:
            for variable, value in ranges:
                variable.assign(value)

        holding = tf_keras.callbacks.LambdaCallback(on_epoch_begin=hold)
        fine_tune.to_answer_as(teacher, aware, images, np.random.default_rng(seed), callbacks=[holding])
        hold()
        return int8_of_aware(aware)


def _aware(twin: Any, kept: Kept | None) -> Any:  # noqa: ANN401 - Keras has no types
    tool = tfmot.quantization.keras
    try:
        if kept is None:
            return tool.quantize_model(twin)
        scheme = {
            "sparsity": tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme,
            "clusters": tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme,
        }[kept]
        return tool.quantize_apply(tool.quantize_annotate_model(twin), scheme())
    except (ValueError, RuntimeError) as exc:
        raise GateError(
            f"Expected: a network that can be trained with quantization. Received: {str(exc)[:200]}.",
            hint="convert it with --qat never",
        ) from exc


def _ranges(aware: Any, twin: Any, pixels: NDArray[np.float32]) -> list[tuple[Any, float]]:  # noqa: ANN401 - Keras has no types
    """Return each range's variables, with the values that calibration finds and training must hold.

    The library begins at -6 to 6 and moves a thousandth of the way to each batch's range: with a few
    hundred steps it never gets there, and the range of a batch is narrower than that of all pictures.
    """
    ends = {layer.layer.name: _range_variables(layer) for layer in aware.layers if hasattr(layer, "layer")}
    ends = {name: variables for name, variables in ends.items() if variables}
    watched = tf_keras.Model(twin.inputs, [twin.get_layer(name).output for name in ends])
    seen = [watched.predict_on_batch(pixels[at : at + _BATCH]) for at in range(0, len(pixels), _BATCH)]
    # Black and white are among the pictures: what they become is the whole range of a pixel.
    found = list(zip(_input_range(aware), (float(pixels.min()), float(pixels.max())), strict=True))
    for (low, high), values in zip(ends.values(), zip(*seen, strict=True), strict=True):
        found.append((low, min(0.0, *(float(value.min()) for value in values))))
        found.append((high, max(0.0, *(float(value.max()) for value in values))))
    return found


def _range_variables(layer: Any) -> list[Any]:  # noqa: ANN401 - Keras has no types
    """Return the variables of the least and the greatest output of a layer, if it has them."""
    ends = ("output_min:0", "output_max:0"), ("post_activation_min:0", "post_activation_max:0")
    for pair in ends:
        found = [v for end in pair for v in layer.weights if v.name.endswith(end)]
        if len(found) == len(pair):
            return found
    return []


def _input_range(aware: Any) -> list[Any]:  # noqa: ANN401 - Keras has no types
    """Return the variables of the input's range, least first: a raw pixel means the same to every bundle."""
    entrance = {v.name.rsplit("_", 1)[-1]: v for v in aware.variables if v.name.startswith("quantize_layer")}
    return [entrance["min:0"], entrance["max:0"]]
