"""A `.tflite` that is ready: into a bundle as it is, with what the device must know to feed it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert import checks, flatbuffer, package, pixels
from convert.bundling import Device
from convert.checks import Output
from convert.pixels import Pixels
from edge_agent.classifier import TfliteModel
from edge_agent.contracts import bundle
from edge_agent.contracts.bundle import LabelEntry, hash_file
from edge_agent.contracts.errors import BundleError, DataError, UsageError

_NOTHING = "0" * 64
_CANDIDATES = 64
_LAST = {"DEQUANTIZE", "QUANTIZE", "RESHAPE", "CAST"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A TFLite model of somebody else.

    Attributes:
        path: Of the file.
        classes: In the order of its outputs.
        pixels: What it expects; None: what its integer input says of itself.
        output: What comes out; None: what its last operator says.
    """

    path: Path
    classes: list[LabelEntry]
    pixels: Pixels | None = None
    output: Output | None = None


def make(
    ready: Ready, out: Path, *, name: str, bundle_version: str, shown: NDArray[np.uint8] | None
) -> bundle.Bundle:
    """Make a bundle of it.

    Args:
        ready: The model.
        out: New.
        name: Of the model.
        bundle_version: Of the bundle.
        shown: Pictures for the golden vectors, uint8 (n, height, width, 3) RGB; None: shades and noise.

    Raises:
        DataError: It is no classifier of one RGB picture into these classes.
        UsageError: It does not say what a pixel is.
        GateError: It says the same of every picture.
        BundleError: It cannot be read, or the bundle cannot be written.
    """
    content, model = opened(ready.path, len(ready.classes))
    height, width = model.input.shape[1:3]
    device = Device(content, pixels_of(ready, model))
    candidates = checks.noise(height, width, _CANDIDATES) if shown is None else shown
    scores = device.scores(candidates)
    if not np.isfinite(scores).all():
        raise DataError(f"Expected: finite scores of {ready.path}. Received: NaN or infinity.")
    # A float output has no steps; a hundredth of what it spans is far above any rounding.
    step = model.output.scale or float(np.ptp(scores)) / 6400
    golden = package.goldens(candidates, scores, step)
    described = bundle.Manifest(
        name=name,
        version=bundle_version,
        files={},
        labels=ready.classes,
        input=bundle.InputSpec(height=height, width=width, pixels=device.pixels),
        output=bundle.OutputSpec(kind=ready.output or output_of(content)),
        golden=bundle.GoldenSpec(tolerance=golden.tolerance),
        provenance=bundle.Provenance(
            run_sha256=hash_file(ready.path),
            dataset_sha256=_NOTHING,
            packages=package.packages(),
            quantization="foreign" if model.input.scale else "none",
        ),
    )
    return package.write(out, content, described, golden)


def opened(path: Path, classes: int) -> tuple[bytes, TfliteModel]:
    """Read a model of unknown origin: first its structure, then with the runtime, which is native code.

    Raises:
        BundleError: It is no TFLite model, a damaged one, or no picture classifier.
        DataError: Its shapes are not fixed, or it gives another number of scores.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise BundleError(f"Expected: a TFLite model at {path}. Received: {exc.strerror}.") from exc
    graph = flatbuffer.read(content)
    for index in graph.inputs:
        checks.require_picture(graph.tensors[index].shape, str(path))
    model = TfliteModel(content)
    checks.require_classes(model.output.shape, classes)
    return content, model


def pixels_of(ready: Ready, model: TfliteModel) -> Pixels:
    """Return what the model expects of a pixel.

    Raises:
        UsageError: Nobody says.
    """
    if ready.pixels is not None:
        return ready.pixels
    if model.input.dtype.kind == "f":
        raise UsageError(
            "Expected: --pixels for a float input. Received: none.",
            hint=f"what was it trained with? one of {', '.join(pixels.RANGES)}, or SCALE,OFFSET",
        )
    return pixels.derived(model.input)


def output_of(content: bytes) -> Output:
    """Say what comes out: probabilities where the last operator that computes is a softmax."""
    names = [operator.name for operator in flatbuffer.read(content).operators if operator.name not in _LAST]
    return "probabilities" if names and names[-1] == "SOFTMAX" else "logits"
