"""From a run directory to a bundle: load, quantize, gate, package."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from convert import package
from convert.parity import Budget, compare, judge
from convert.quantize import quantize, require_int8
from edge_agent.classifier import TfliteModel
from edge_agent.contracts.bundle import Bundle
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.run import Run, Samples
from edge_agent.contracts.scoring import Floats


def make(
    run: Run,
    out: Path,
    *,
    quantization: Literal["ptq", "qat"],
    budget: Budget,
    name: str,
    bundle_version: str,
    shown: NDArray[np.uint8] | None,
    told: Callable[[str], None],
) -> Bundle:
    """Make a bundle.

    Args:
        run: Read, and therefore checked.
        out: New.
        quantization: After training, or aware of it.
        budget: What the gate allows.
        name: Of the model; empty: the run's.
        bundle_version: Of the bundle.
        shown: Pictures to choose the golden vectors from, uint8 (n, height, width, 3) RGB: a bundle
            carries some; None: the calibration set.
        told: Takes a line for each step.

    Raises:
        DataError: The run cannot be used.
        GateError: The int8 model is not as good as the float one; nothing was written.
        BundleError: It cannot be written.
    """
    calibration, holdout = run.calibration(), run.holdout()
    model = _load(run)
    labels = [entry.label for entry in run.info.classes]
    told(f"quantizing ({quantization}) with {len(calibration.ids)} training photos")
    content = _quantized(model, run, calibration, quantization)
    require_int8(content)
    told(f"comparing with the float model on {len(holdout.ids)} photos that neither has seen")
    device = TfliteModel(content)
    int8 = _device_scores(device, holdout.images)
    card = compare(holdout, _float_scores(model, holdout), int8, labels)
    judge(card, holdout, labels, budget)
    candidates = calibration.images if shown is None else shown
    golden = package.goldens(candidates, _device_scores(device, candidates), device.output.scale)
    described = package.manifest(
        run,
        golden.tolerance,
        card,
        name=name or run.info.name,
        bundle_version=bundle_version,
        quantization=quantization,
    )
    return package.write(out, content, described, golden)


def _quantized(
    model: Any,  # noqa: ANN401 - Keras has no types
    run: Run,
    calibration: Samples,
    quantization: Literal["ptq", "qat"],
) -> bytes:
    if quantization == "ptq":
        return quantize(model, calibration.images)
    # Brings a second Keras along, which takes seconds to import.
    from convert import qat  # noqa: PLC0415

    return qat.fine_tune(model, calibration, seed=run.info.seed)


def _load(run: Run) -> Any:  # noqa: ANN401 - Keras has no types
    try:
        return keras.saving.load_model(run.model, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as exc:
        raise DataError(
            f"Expected: a Keras 3 model in {run.model}. Received: {str(exc).splitlines()[0]:.200}.",
            hint="train again with `shelfkit train DATA --out RUN`",
        ) from exc


def _device_scores(model: TfliteModel, images: NDArray[np.uint8]) -> Floats:
    return np.stack([model.scores(image) for image in images])


def _float_scores(model: Any, samples: Samples) -> Floats:  # noqa: ANN401 - Keras has no types
    steps = range(0, len(samples.images), 64)
    return np.concatenate(
        [
            np.asarray(model.predict_on_batch(samples.images[at : at + 64].astype(np.float32) / 255))
            for at in steps
        ]
    )
