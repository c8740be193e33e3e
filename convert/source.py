"""What is converted: a float classifier, with the pictures to calibrate and to judge it by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.run import Samples
from edge_agent.contracts.scoring import Floats

_BATCH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A float classifier, whoever trained it.

    Attributes:
        height: Of its input, px.
        width: Of its input, px.
        pixel_scale: A pixel value p, 0 to 255, goes in as `p * pixel_scale + pixel_offset`.
        pixel_offset: See there.
        output: What comes out.
        predict: float32 (n, height, width, 3) to float32 (n, classes).
        converter: Makes a new TFLite converter of it.
        keras: The same as a Keras 3 model, for what trains it further; None where there is none.
    """

    height: int
    width: int
    pixel_scale: float = 1 / 255
    pixel_offset: float = 0.0
    output: Literal["logits", "probabilities"] = "logits"
    predict: Callable[[NDArray[np.float32]], Floats]
    converter: Callable[[], Any]
    keras: Any = None

    def inputs(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return pictures as they go in: uint8 (n, height, width, 3) RGB to float32 of the same shape."""
        # Divided where it can be: 1/255 has no exact float, and training divides too.
        if not self.pixel_offset and self.pixel_scale == 1 / 255:
            return images.astype(np.float32) / np.float32(255)
        return images.astype(np.float32) * np.float32(self.pixel_scale) + np.float32(self.pixel_offset)

    def scores(self, images: NDArray[np.uint8]) -> Floats:
        """Return what it gives for pictures: uint8 (n, height, width, 3) RGB to float32 (n, classes)."""
        steps = range(0, len(images), _BATCH)
        return np.concatenate([self.predict(self.inputs(images[at : at + _BATCH])) for at in steps])


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One conversion's beginning.

    Attributes:
        network: Float.
        name: Of the model.
        classes: In the order of its outputs.
        temperature: Of its logits.
        unknown_below: Top probability under which a picture shows no known class.
        calibration: Training pictures for the quantizer.
        holdout: Pictures for the gate, which nothing else has seen.
        seed: Of what is drawn.
        run_sha256: Identity of the run, or of the model file.
        dataset_sha256: Identity of the data set.
    """

    network: Network
    name: str
    classes: list[LabelEntry]
    temperature: float = 1.0
    unknown_below: float = 0.0
    calibration: Samples
    holdout: Samples
    seed: int = 0
    run_sha256: str
    dataset_sha256: str

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the outputs."""
        return [entry.label for entry in self.classes]
