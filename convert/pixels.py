"""What a model expects of a pixel, and the tensor values that 256 pixel values become for it."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.classifier import Tensor
from edge_agent.contracts.errors import DataError, UsageError

PixelTable = Literal["raw"] | list[float]
_LARGEST = float(np.finfo(np.float32).max)
_CLOSE = 0.01
"""Of a range's width: how far the ends of an integer input may lie from those of a range it is taken for."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """A pixel value p, 0 to 255, goes in as `p * scale + offset`."""

    scale: float
    offset: float

    def values(self) -> NDArray[np.float64]:
        """Return what the 256 pixel values are to the model, float64 (256,)."""
        return np.asarray(np.arange(256) * self.scale + self.offset, np.float64)

    @property
    def told(self) -> str:
        """The range in words: from what black is to what white is."""
        return f"{self.offset:g}..{255 * self.scale + self.offset:g}"


RANGES = {"0..1": Pixels(1 / 255, 0.0), "0..255": Pixels(1.0, 0.0), "-1..1": Pixels(2 / 255, -1.0)}


def parse(text: str) -> Pixels:
    """Read `--pixels`: the name of a range, or `SCALE,OFFSET`.

    Raises:
        UsageError: It is neither.
    """
    if text in RANGES:
        return RANGES[text]
    try:
        scale, offset = (float(number) for number in text.split(","))
    except ValueError:
        scale, offset = math.nan, 0.0
    # NaN is not below it, and what float32 cannot hold is no number to the model either.
    if not (scale and all(abs(end) <= _LARGEST for end in (offset, 255 * scale + offset))):
        raise UsageError(
            f"Expected: --pixels as {', '.join(RANGES)}, or SCALE,OFFSET. Received: {text!r}.",
            hint="a pixel p from 0 to 255 goes in as p * SCALE + OFFSET",
        )
    return Pixels(scale, offset)


def derived(tensor: Tensor) -> Pixels:
    """Return what an integer input says of itself: its 256 values are the 256 pixel values, in order.

    That holds where the tensor spans one of the usual ranges. One that was calibrated on what some photos
    happened to span, or on colours with a mean and a deviation, does not tell what a pixel is.

    Raises:
        UsageError: It spans no usual range.
    """
    lowest = int(np.iinfo(tensor.dtype).min)
    own = Pixels(tensor.scale, (lowest - tensor.zero_point) * tensor.scale)
    for known in RANGES.values():
        apart = max(abs(own.offset - known.offset), abs(own.values()[-1] - known.values()[-1]))
        if apart <= _CLOSE * 255 * known.scale:
            return own
    raise UsageError(
        f"Expected: an input that spans {', '.join(RANGES)}. Received: one of {own.told}.",
        hint="say with --pixels what the model was trained with",
    )


def table(pixels: Pixels, tensor: Tensor) -> PixelTable:
    """Return a manifest's `input.pixels`: "raw", or 256 values of the input tensor.

    Args:
        pixels: What the model expects.
        tensor: Its input: uint8, int8 or float32.

    Raises:
        DataError: The input is of another type, or nearly all pixels become the same value.
    """
    values = pixels.values()
    if tensor.dtype == np.float32:
        return [float(value) for value in values.astype(np.float32)]
    if tensor.dtype not in {np.dtype(np.uint8), np.dtype(np.int8)} or not tensor.scale > 0:
        raise DataError(
            "Expected: an input of uint8, int8 or float32, with a scale where it is an integer. "
            f"Received: {tensor.dtype} with scale {tensor.scale:g}."
        )
    bounds = np.iinfo(tensor.dtype)
    steps = np.rint(values / tensor.scale) + tensor.zero_point
    held = np.clip(steps, bounds.min, bounds.max)
    if len(np.unique(held)) < 128:  # noqa: PLR2004 - half of the shades
        raise DataError(
            f"Expected: an input that tells pixels of {pixels.told} apart. Received: one of "
            f"{(bounds.min - tensor.zero_point) * tensor.scale:g} to "
            f"{(bounds.max - tensor.zero_point) * tensor.scale:g}, with "
            f"{len(np.unique(held))} shades of 256.",
            hint="say with --pixels what the model was trained with",
        )
    if tensor.dtype == np.uint8 and np.array_equal(held, np.arange(256)):
        return "raw"
    return [float(value) for value in held]
