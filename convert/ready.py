"""A `.tflite` that is ready: into a bundle as it is, with what the device must know to feed it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert import checks, flatbuffer, package, pixels, trial
from convert.checks import Output
from convert.device import Device
from convert.flatbuffer import Graph
from convert.pixels import Pixels
from edge_agent.classifier import Tensor, TfliteModel
from edge_agent.contracts import bundle
from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import BundleError, DataError, UsageError

_NOTHING = "0" * 64
_CANDIDATES = 64
_LAST = {"DEQUANTIZE", "QUANTIZE", "RESHAPE", "CAST"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A TFLite model of somebody else, shown to be a classifier.

    Attributes:
        path: Of the file.
        content: The file.
        model: Loaded.
        classes: In the order of its outputs.
        pixels: What it takes for a pixel.
        output: What comes out.
    """

    path: Path
    content: bytes
    model: TfliteModel
    classes: list[LabelEntry]
    pixels: Pixels
    output: Output

    @property
    def height(self) -> int:
        """Of its input, px."""
        return self.model.input.shape[1]

    @property
    def width(self) -> int:
        """Of its input, px."""
        return self.model.input.shape[2]


def read(path: Path, classes: list[LabelEntry], *, wanted: Pixels | None, output: Output | None) -> Ready:
    """Read a model of unknown origin: first its structure, then with the runtime, which is native code.

    Args:
        path: Of the file.
        classes: As many as it must give scores for.
        wanted: What it takes for a pixel; None: what its integer input says of itself.
        output: What comes out; None: what its last operator says.

    Raises:
        BundleError: It is no TFLite model, a damaged one, one that the runtime dies on, or no picture
            classifier.
        DataError: Its shapes are not fixed, it gives another number of scores, or weights are no numbers.
        UsageError: It does not say what a pixel is.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise BundleError(f"Expected: a TFLite model at {path}. Received: {exc.strerror}.") from exc
    graph = flatbuffer.read(content)
    for index in graph.inputs:
        checks.require_picture(graph.tensors[index].shape, str(path))
    checks.require_numbers(_weights(content, graph))
    trial.require_run(content, str(path))
    model = TfliteModel(content)
    # Again: a file may describe itself in two ways, and this one counts.
    checks.require_picture(model.input.shape, str(path))
    checks.require_classes(model.output.shape, len(classes))
    return Ready(
        path=path,
        content=content,
        model=model,
        classes=classes,
        pixels=wanted or _pixels(model.input),
        output=output or _output(graph),
    )


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
        DataError: Its input cannot tell pixels apart, or it gives no numbers.
        GateError: It says the same of every picture.
        BundleError: The bundle cannot be written.
    """
    device = Device(ready.model, ready.pixels)
    candidates = checks.noise(ready.height, ready.width, _CANDIDATES) if shown is None else shown
    scores = device.scores(candidates)
    if not np.isfinite(scores).all():
        raise DataError(f"Expected: finite scores of {ready.path}. Received: NaN or infinity.")
    # A float output has no steps; a hundredth of what it spans is far above any rounding.
    step = device.output.scale or float(np.ptp(scores)) / 6400
    golden = package.goldens(candidates, scores, step)
    described = bundle.Manifest(
        name=name,
        version=bundle_version,
        files={},
        labels=ready.classes,
        input=device.spec,
        output=bundle.OutputSpec(kind=ready.output),
        golden=bundle.GoldenSpec(tolerance=golden.tolerance),
        provenance=bundle.Provenance(
            run_sha256=hashlib.sha256(ready.content).hexdigest(),
            dataset_sha256=_NOTHING,
            packages=package.packages(),
            quantization="foreign" if ready.model.input.scale else "none",
        ),
    )
    return package.write(out, ready.content, described, golden)


def _weights(content: bytes, graph: Graph) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, values in flatbuffer.constants(content, graph):
        # A single infinity is no weight: padding before a maximum is done with it.
        if values.size > 1 or np.isnan(values).any():
            yield name, values
    for one in graph.all:
        for tensor in one.tensors:
            yield f"the scales of {tensor.name}", np.array(tensor.scales, np.float32)


def _pixels(entrance: Tensor) -> Pixels:
    if entrance.dtype.kind == "f":
        raise UsageError(
            "Expected: --pixels for a float input. Received: none.",
            hint=f"what was it trained with? one of {', '.join(pixels.RANGES)}, or SCALE,OFFSET",
        )
    return pixels.derived(entrance)


def _output(graph: Graph) -> Output:
    """Say what comes out: probabilities where the last operator that computes is a softmax."""
    names = [operator.name for operator in graph.operators if operator.name not in _LAST]
    return "probabilities" if names and names[-1] == "SOFTMAX" else "logits"
