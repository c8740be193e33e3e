"""Keras files of others, `.keras` and `.h5` of Keras 2 and 3, as float networks.

Loading one may run Python code that it brings: a Lambda layer is refused before a loader sees it, because
loaders of `.h5` run it whatever they are told.
"""

import json
import zipfile
from pathlib import Path
from typing import Any, Literal

from convert import checks
from convert.pixels import Pixels
from convert.source import Network
from edge_agent.contracts.errors import DataError

Kind = Literal["keras", "h5"]


def network(path: Path, kind: Kind, pixels: Pixels, classes: int) -> Network:
    """Load a Keras file.

    Raises:
        DataError: It cannot be loaded, or is no classifier of RGB pictures of one size.
    """
    _no_code(_configuration(path, kind), path)
    model = _loaded(path, keras_2=_version(path, kind) < 3)  # noqa: PLR2004 - the first of the new Keras
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        raise DataError(
            f"Expected: a model with one input and one output, their shapes known, in {path}. "
            f"Received: {len(inputs)} and {len(outputs)}.",
            hint=checks.FIXED if not inputs else checks.PARTS,
        )
    height, width = checks.require_picture(tuple(inputs[0].shape), str(path))
    checks.require_classes(tuple(outputs[0].shape), classes)
    checks.require_float(inputs[0].dtype, path)
    checks.require_numbers((getattr(weight, "path", weight.name), weight) for weight in model.weights)
    from convert.quantize import keras_converter  # noqa: PLC0415 - seconds, and only where it is needed

    return Network(
        height=height,
        width=width,
        pixel_scale=pixels.scale,
        pixel_offset=pixels.offset,
        predict=checks.flat(model.predict_on_batch, classes, one_by_one=inputs[0].shape[0] == 1),
        converter=lambda: keras_converter(model),
        keras=model,
    )


def _loaded(path: Path, *, keras_2: bool) -> Any:  # noqa: ANN401 - Keras has no types
    if keras_2:
        import tf_keras as keras  # noqa: PLC0415 - seconds, and only for these files
    else:
        import keras  # noqa: PLC0415 - the same
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    # What loaders raise of a damaged or foreign file is whatever its parts raise.
    except Exception as exc:  # noqa: BLE001
        checks.refuse(path, exc)


def _configuration(path: Path, kind: Kind) -> Any:  # noqa: ANN401 - JSON
    """Return what a Keras file says its layers are."""
    import h5py  # noqa: PLC0415 - comes with Keras

    try:
        if kind == "keras":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        with h5py.File(path) as file:
            found = file.attrs.get("model_config")
            if found is None:
                raise DataError(
                    f"Expected: a whole model in {path}. Received: an HDF5 file without one: weights only?",
                    hint="save the model itself: `model.save(FILE)`",
                )
            return json.loads(found)
    except (OSError, KeyError, ValueError, RuntimeError, RecursionError, zipfile.BadZipFile) as exc:
        checks.refuse(path, exc)


def _version(path: Path, kind: Kind) -> int:
    """Return the major version of the Keras that wrote a file that `_configuration` has read."""
    import h5py  # noqa: PLC0415 - comes with Keras

    try:
        if kind == "keras":
            with zipfile.ZipFile(path) as archive:
                text = json.loads(archive.read("metadata.json"))["keras_version"]
        else:
            with h5py.File(path) as file:
                text = file.attrs.get("keras_version", "2")
        return int(str(text).split(".", maxsplit=1)[0])
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as exc:
        checks.refuse(path, exc)


def _no_code(value: Any, path: Path) -> None:  # noqa: ANN401 - JSON
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if item.get("class_name") in {"Lambda", "__lambda__"}:
                config = item.get("config")
                name = config.get("name", "") if isinstance(config, dict) else ""
                raise DataError(
                    f"Expected: layers without Python code in {path}. Received: a Lambda layer {name!r}.",
                    hint=f"a file with code in it can do anything to this machine; {checks.EXPORT}",
                )
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
