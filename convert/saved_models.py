"""SavedModel folders of others as float networks: a graph of TensorFlow's operations, and no Python code."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from convert import checks
from convert.pixels import Pixels
from convert.quantize import quietly, saved_model_converter
from convert.source import Network
from edge_agent.contracts.errors import DataError


def network(path: Path, pixels: Pixels, classes: int) -> Network:
    """Load a SavedModel.

    Raises:
        DataError: It cannot be loaded, or is no classifier of RGB pictures of one size.
    """
    try:
        with quietly():
            module = tf.saved_model.load(str(path))
            reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
            weights = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception as exc:  # noqa: BLE001 - whatever its parts raise
        checks.refuse(path, exc)
    checks.require_numbers((name.partition("/.ATTRIBUTES")[0], weight) for name, weight in weights.items())
    name, signature = _signature(module, path)
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise DataError(
            f"Expected: a model with one input and one output in {path}. "
            f"Received: {len(inputs)} and {len(outputs)}, by the signature {name!r}.",
            hint=checks.PARTS,
        )
    ((key, entrance),), ((result, exit_),) = inputs.items(), outputs.items()
    for tensor in (entrance, exit_):
        if tensor.shape.rank is None:
            raise DataError(f"Expected: tensors of a known rank in {path}. Received: any.", hint=checks.FIXED)
    height, width = checks.require_picture(tuple(entrance.shape.as_list()), str(path))
    shape = tuple(exit_.shape.as_list())
    # An export may forget how many come out; then they are counted below.
    if shape[-1] is not None:
        checks.require_classes(shape, classes)
    checks.require_float(entrance.dtype.name, path)
    return Network(
        height=height,
        width=width,
        pixel_scale=pixels.scale,
        pixel_offset=pixels.offset,
        predict=checks.flat(
            lambda batch: signature(**{key: tf.constant(batch)})[result],
            classes,
            one_by_one=entrance.shape[0] == 1,
        ),
        converter=lambda: saved_model_converter(path, name),
        # The signature's variables live as long as its module.
        keras=None,
    )


def _signature(module: Any, path: Path) -> tuple[str, Any]:  # noqa: ANN401 - TensorFlow has no types
    found = dict(module.signatures)
    names = ["serving_default"] if "serving_default" in found else sorted(found)
    if len(names) != 1:
        raise DataError(
            f"Expected: a signature `serving_default` in {path}. Received: {', '.join(names) or 'none'}.",
            hint="export it with `model.export(FOLDER)`, or tf.saved_model.save(..., signatures=...)",
        )
    function = found[names[0]]
    # The module owns the variables; without it they are gone when the function is first called.
    function.shelfkit_module = module
    return names[0], function
