"""The device's own classifier: a TFLite model, raw pixels in, scores out. Knows that two runtimes exist.

`ai-edge-litert` wherever it has a wheel; `tflite-runtime` on 32-bit ARM, where it has none. No other
module of the kit imports either, and `convert` judges every bundle with this very code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.bundle import Bundle, InputSpec, Manifest
from edge_agent.contracts.errors import BundleError
from edge_agent.contracts.scoring import Floats, softmax

Images = NDArray[np.uint8]
"""Pictures at model size: uint8, (n, height, width, 3), RGB."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the model file describes it."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    @classmethod
    def described(cls, details: Mapping[str, Any]) -> "Tensor":
        """Read what the runtime says about a tensor."""
        scale, zero_point = details["quantization"]
        shape = tuple(int(size) for size in details["shape"])
        return cls(int(details["index"]), shape, np.dtype(details["dtype"]), float(scale), int(zero_point))

    def dequantized(self, raw: NDArray[Any]) -> Floats:
        """Return real values: the tensor's own scale and zero point, widened first lest int8 overflows."""
        if self.scale == 0.0:
            return raw.astype(np.float32)
        return (raw.astype(np.int32) - self.zero_point).astype(np.float32) * np.float32(self.scale)


class TfliteModel:
    """One input picture, one vector of scores.

    Args:
        model: A `.tflite` file, or its bytes.
        threads: For the runtime.

    Raises:
        BundleError: No model, a damaged one, or one that is no picture classifier.
    """

    def __init__(self, model: Path | bytes, *, threads: int = 1) -> None:
        content = model if isinstance(model, bytes) else _content(model)
        try:
            self._interpreter = _interpreter()(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as exc:
            raise BundleError(f"Expected: a TFLite model. Received: {str(exc)[:200]}.") from exc
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleError(
                f"Expected: one input and one output. Received: {len(inputs)} and {len(outputs)}."
            )
        self.input = Tensor.described(inputs[0])
        self.output = Tensor.described(outputs[0])
        if len(self.input.shape) != 4 or self.input.shape[0] != 1 or self.input.shape[3] != 3:  # noqa: PLR2004 - batch, height, width, RGB
            raise BundleError(f"Expected: an input of (1, height, width, 3). Received: {self.input.shape}.")

    def tensors(self) -> list[tuple[str, np.dtype[Any]]]:
        """Return name and dtype of every tensor in the file."""
        return [
            (str(item["name"]), np.dtype(item["dtype"])) for item in self._interpreter.get_tensor_details()
        ]

    def answers(self, images: Images, table: NDArray[Any] | None) -> Floats:
        """Return what the model gives for pictures, dequantized: float32, (n, classes).

        Args:
            images: uint8, (n, height, width, 3), RGB.
            table: As `pixel_table` gives it.
        """
        if not len(images):
            return np.zeros((0, self.output.shape[-1]), np.float32)
        fed = images if table is None else cv2.LUT(images, table)
        raw = np.stack([self._raw(picture) for picture in fed])
        return self.output.dequantized(raw).reshape(len(fed), -1)

    def scores(self, picture: NDArray[Any]) -> Floats:
        """Return float32 (classes,) for one input, (height, width, 3), of the input's own dtype."""
        return self.output.dequantized(self._raw(picture)).reshape(-1)

    def _raw(self, picture: NDArray[Any]) -> NDArray[Any]:
        self._interpreter.set_tensor(self.input.index, picture[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self.output.index)  # type: ignore[no-any-return]


class Classifier:
    """What a bundle makes of slot crops.

    Args:
        bundle: Read, and therefore checked.
        threads: For the runtime.

    Raises:
        BundleError: The model does not fit its manifest.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.manifest = bundle.manifest
        self.labels: list[str] = bundle.manifest.label_names
        self.height, self.width = bundle.manifest.input.height, bundle.manifest.input.width
        self._model = TfliteModel(bundle.model, threads=threads)
        self._table = pixel_table(bundle.manifest.input, self._model.input)
        self._golden = bundle.golden
        if self._model.input.shape[1:3] != (self.height, self.width):
            raise BundleError(
                f"Expected: an input of {self.height}x{self.width}, as the manifest says. "
                f"Received: {self._model.input.shape[1:3]}."
            )
        if self._model.output.shape[-1] != len(self.labels):
            raise BundleError(
                f"Expected: {len(self.labels)} scores, as the manifest says. "
                f"Received: {self._model.output.shape[-1]}."
            )

    def scores(self, images: Images) -> Floats:
        """Return what the model gives, dequantized: float32, (n, classes).

        Args:
            images: uint8, (n, height, width, 3), RGB.
        """
        return self._model.answers(images, self._table)

    def probabilities(self, images: Images) -> Floats:
        """Return calibrated probabilities: float32, (n, classes), rows sum to 1."""
        return calibrated(self.manifest, self.scores(images))

    def check_golden(self) -> None:
        """Run the golden vectors: equal top-1, scores within the recorded tolerance.

        Raises:
            BundleError: This device computes something else than the bundle's maker did.
        """
        images, expected = self._golden()
        found = self.scores(images)
        worst = float(np.abs(found - expected).max()) if len(found) else 0.0
        flipped = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
        # The other way round, a NaN would be as good as equal.
        if flipped or not worst <= self.manifest.golden.tolerance:
            raise BundleError(
                f"Expected: golden scores within {self.manifest.golden.tolerance:g}, same top-1. "
                f"Received: {worst:g} off, {flipped} of {len(found)} with another top-1.",
                hint="this bundle does not compute on this device what it was proven to; do not use it",
            )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BundleError(f"Expected: a TFLite model at {path}. Received: {exc.strerror}.") from exc


def calibrated(manifest: Manifest, scores: Floats) -> Floats:
    """Return what a bundle's scores mean: probabilities, float32, (n, classes), rows sum to 1."""
    if manifest.output.kind == "probabilities":
        return scores
    return softmax(scores, manifest.calibration.temperature)


def pixel_table(spec: InputSpec, tensor: Tensor) -> NDArray[Any] | None:
    """Return 256 tensor values for the 256 pixel values; None where pixels go in as they are."""
    if spec.pixels != "raw":
        return np.array(spec.pixels).astype(tensor.dtype)
    if tensor.dtype != np.uint8:
        raise BundleError(
            f"Expected: a uint8 input for raw pixels. Received: {tensor.dtype}.",
            hint="an imported model needs a table of 256 tensor values in the manifest's `input.pixels`",
        )
    return None


def _interpreter() -> Callable[..., Any]:
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - whichever is installed
    except ModuleNotFoundError:
        from tflite_runtime.interpreter import Interpreter  # noqa: PLC0415 - 32-bit ARM
    return Interpreter  # type: ignore[no-any-return]
