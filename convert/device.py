"""A model run as the device will run it, before it is a bundle."""

import numpy as np
from numpy.typing import NDArray

from convert import pixels
from edge_agent.classifier import TfliteModel, pixel_table
from edge_agent.contracts import bundle
from edge_agent.contracts.scoring import Floats


class Device:
    """A TFLite model before it is a bundle, run as the device will: raw pixels in.

    Args:
        model: Of any input type.
        expected: What it takes for a pixel.
    """

    def __init__(self, model: TfliteModel, expected: pixels.Pixels) -> None:
        height, width = model.input.shape[1:3]
        self.output = model.output
        self.spec = bundle.InputSpec(height=height, width=width, pixels=pixels.table(expected, model.input))
        self._model, self._table = model, pixel_table(self.spec, model.input)

    def scores(self, images: NDArray[np.uint8]) -> Floats:
        """Return float32 (n, classes) of uint8 (n, height, width, 3) RGB."""
        return self._model.answers(images, self._table)
