"""What is in a bundle, or in a `.tflite` file: described without running it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert import flatbuffer
from convert.flatbuffer import Graph, Tensor
from edge_agent.contracts import bundle
from edge_agent.contracts.bundle import Manifest
from edge_agent.contracts.errors import BundleError

_MAX_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden input, uint8 (height, width, 3) RGB, with its best class."""

    image: NDArray[np.uint8]
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Step:
    """An operator with what it costs and leaves."""

    at: int
    operator: str
    version: int
    multiply_adds: int
    constant_bytes: int
    output: Tensor | None


@dataclass(frozen=True, slots=True)
class Description:
    """Everything that `inspect` shows.

    Attributes:
        name: Of the bundle, or of the file.
        file_bytes: Of the model file.
        graph: Of the model.
        steps: Its operators, in order.
        peak_bytes: Of the activations that must be there at the same time, at the worst step. A runtime's
            arena takes at least that: it adds alignment, gaps and working memory.
        manifest: None for a plain file.
        sha256: Of the bundle; empty for a plain file.
        goldens: Empty for a plain file.
    """

    name: str
    file_bytes: int
    graph: Graph
    steps: list[Step]
    peak_bytes: int
    manifest: Manifest | None
    sha256: str
    goldens: list[Golden]

    def as_json(self) -> dict[str, Any]:
        """Return all of it but the golden pictures."""
        return {
            "name": self.name,
            "sha256": self.sha256 or None,
            "file_bytes": self.file_bytes,
            "constant_bytes": self.graph.constant_bytes,
            "peak_activation_bytes": self.peak_bytes,
            "multiply_adds": self.graph.multiply_adds,
            "float_uses": [str(use) for use in flatbuffer.floats(self.graph)],
            "operators": [
                {
                    "operator": step.operator,
                    "version": step.version,
                    "multiply_adds": step.multiply_adds,
                    "constant_bytes": step.constant_bytes,
                    "inputs": list(operator.inputs),
                    "outputs": list(operator.outputs),
                    "options": operator.options,
                }
                for step, operator in zip(self.steps, self.graph.operators, strict=True)
            ],
            "tensors": [
                {
                    "name": tensor.name,
                    "dtype": tensor.dtype,
                    "shape": list(tensor.shape),
                    # JSON has no NaN, and a forged file may have one.
                    "scales": [scale if np.isfinite(scale) else None for scale in tensor.scales],
                    "zero_points": list(tensor.zero_points),
                    "axis": tensor.axis,
                    "constant_bytes": tensor.constant_bytes,
                }
                for tensor in self.graph.tensors
            ],
            "inputs": list(self.graph.inputs),
            "outputs": list(self.graph.outputs),
            "manifest": self.manifest.model_dump(mode="json") if self.manifest else None,
        }


def describe(path: Path) -> Description:
    """Look into a bundle, or into a `.tflite` file.

    Raises:
        BundleError: It is neither, or damaged.
    """
    found = bundle.read(path) if path.is_dir() else None
    content = _content(found.model if found else path)
    graph = flatbuffer.read(content)
    return Description(
        name=f"{found.manifest.name} {found.manifest.version}" if found else path.name,
        file_bytes=len(content),
        graph=graph,
        steps=_steps(graph),
        peak_bytes=peak_bytes(graph),
        manifest=found.manifest if found else None,
        sha256=found.sha256 if found else "",
        goldens=_goldens(found) if found else [],
    )


def peak_bytes(graph: Graph) -> int:
    """Return the bytes of activations that are needed at the same time, at the worst step.

    An activation lives from the step that makes it to the last one that reads it; the model's inputs from
    the beginning, its outputs to the end.
    """
    end = len(graph.operators)
    born: dict[int, int] = dict.fromkeys(graph.inputs, 0)
    last: dict[int, int] = {}
    for at, operator in enumerate(graph.operators):
        for index in operator.outputs:
            born.setdefault(index, at)
        for index in (*operator.inputs, *operator.outputs):
            last[index] = at
    last |= dict.fromkeys(graph.outputs, end)
    change = [0] * (end + 2)
    for index, start in born.items():
        tensor = graph.tensors[index]
        if not tensor.constant_bytes:
            change[start] += tensor.size_bytes
            change[last.get(index, start) + 1] -= tensor.size_bytes
    return int(np.cumsum(np.array(change, object)).max())


def _steps(graph: Graph) -> list[Step]:
    seen: set[int] = set()
    steps = []
    for at, operator in enumerate(graph.operators):
        constants = {
            tensor.buffer: tensor.constant_bytes
            for tensor in (graph.tensors[index] for index in operator.inputs if index >= 0)
            if tensor.constant_bytes and tensor.buffer not in seen
        }
        seen |= set(constants)
        output = graph.tensors[operator.outputs[0]] if operator.outputs else None
        size = sum(constants.values())
        steps.append(Step(at, operator.name, operator.version, operator.multiply_adds, size, output))
    return steps


def _goldens(found: bundle.Bundle) -> list[Golden]:
    images, scores = found.golden()
    labels = found.manifest.label_names
    best = scores.argmax(axis=1)
    return [
        Golden(image, labels[row], float(score[row]))
        for image, score, row in zip(images, scores, best.tolist(), strict=True)
    ]


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"Expected: a model of at most {_MAX_BYTES} bytes in {path}.")
        return path.read_bytes()
    except OSError as exc:
        raise BundleError(
            f"Expected: a bundle or a .tflite file at {path}. Received: {exc.strerror}.",
            hint="name the folder that `shelfkit convert` wrote, or a .tflite file",
        ) from exc
