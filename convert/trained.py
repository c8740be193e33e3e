"""A run directory of `shelfkit train` as the beginning of a conversion."""

from typing import Any

import keras
import numpy as np

from convert.quantize import keras_converter
from convert.source import Network, Source
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.run import Run


def source_of(run: Run, name: str = "") -> Source:
    """Return what a run holds.

    Args:
        run: Read, and therefore checked.
        name: Of the model; empty: the run's.

    Raises:
        DataError: The run cannot be used.
    """
    # Both are checked before a network is loaded, which takes seconds.
    calibration, holdout = run.calibration(), run.holdout()
    return Source(
        network=network_of(run),
        name=name or run.info.name,
        classes=run.info.classes,
        temperature=run.info.temperature,
        unknown_below=run.info.unknown_below,
        calibration=calibration,
        holdout=holdout,
        seed=run.info.seed,
        run_sha256=run.sha256,
        dataset_sha256=run.info.dataset_sha256,
    )


def network_of(run: Run) -> Network:
    """Return the float network of a run.

    Raises:
        DataError: It cannot be loaded, or does not fit what the run says of it.
    """
    model = _load(run)
    info = run.info
    wanted = (info.height, info.width, 3), (len(info.classes),)
    if (received := (tuple(model.input_shape[1:]), tuple(model.output_shape[1:]))) != wanted:
        raise DataError(
            f"Expected: a network from {wanted[0]} to {wanted[1]}, as run.json says. "
            f"Received: one from {received[0]} to {received[1]}.",
            hint="the folder holds files of two runs; train again",
        )
    return Network(
        height=info.height,
        width=info.width,
        predict=lambda pixels: np.asarray(model.predict_on_batch(pixels), np.float32),
        converter=lambda: keras_converter(model),
        keras=model,
    )


def _load(run: Run) -> Any:  # noqa: ANN401 - Keras has no types
    try:
        return keras.saving.load_model(run.model, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as exc:
        raise DataError(
            f"Expected: a Keras 3 model in {run.model}. Received: {str(exc).splitlines()[0]:.200}.",
            hint="train again with `shelfkit train DATA --out RUN`",
        ) from exc
