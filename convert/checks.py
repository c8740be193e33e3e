"""What a foreign model must be: a classifier of RGB pictures of one size, with weights that are numbers."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_agent.contracts.bundle import InputSpec
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.scoring import Floats
from edge_agent.contracts.validation import explain

Output = Literal["logits", "probabilities"]
Shape = tuple[int | None, ...]

_RANK = 4
_CHANNELS = 3
_ONE = 1e-2
"""How far probabilities may add up to something else: some are of half precision."""
EXPORT = "export it where it was made as a SavedModel: `model.export(FOLDER)`, and import that folder"
SMALLER = (
    "a device cuts one product out of a frame; export the model again with a smaller input, for example "
    "keras.Input((96, 96, 3))"
)
FIXED = "export the model again with a fixed input, for example keras.Input((96, 96, 3))"
PARTS = "export the part that takes a picture and gives the scores"
_THREE = (
    "the device hands over RGB pictures, channels last; export the model with a layer in front that makes "
    "of them what it wants"
)


def output_of(scores: Floats) -> Output:
    """Say what scores of any pictures are, float32 (n, classes): probabilities add up to 1."""
    probable = scores.min() >= 0 and np.abs(scores.sum(axis=1) - 1).max() <= _ONE
    return "probabilities" if probable else "logits"


def noise(height: int, width: int, count: int) -> NDArray[np.uint8]:
    """Return pictures of nothing, uint8 (count, height, width, 3): shades from corner to corner, with noise.

    The same ones every time.
    """
    rng = np.random.default_rng(0)
    down, across = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    made = np.empty((count, height, width, 3), np.uint8)
    # Rounded one by one: as float64 all of them would take gigabytes.
    for number, picture in enumerate(made):
        first, second, third = rng.uniform(0, 255, (3, 1, 1, 3))
        shades = first + (second - first) * down + (third - first) * across
        noisy = shades + rng.normal(0, 8.0 * (1 + number % 8), (height, width, 3))
        picture[:] = np.clip(np.rint(noisy), 0, 255)
    return made


def require_picture(shape: Shape, where: str) -> tuple[int, int]:
    """Return height and width of an input, (batch, height, width, 3); the batch is None, -1 or 1.

    Raises:
        DataError: The input is of another shape, of unknown size, or larger than a bundle allows.
    """
    sizes = tuple(None if size in {None, -1} else size for size in shape)
    if len(sizes) != _RANK or sizes[3] not in {_CHANNELS, None}:
        raise DataError(
            f"Expected: an input of (1, height, width, 3) in {where}. Received: {shape}.", hint=_THREE
        )
    if sizes[0] not in {None, 1}:
        raise DataError(
            f"Expected: an input of one picture in {where}. Received: of {sizes[0]} at once.",
            hint="export the model again with a batch of 1, or of any size",
        )
    height, width, channels = sizes[1:]
    if height is None or width is None or channels is None:
        raise DataError(f"Expected: a fixed height and width in {where}. Received: {shape}.", hint=FIXED)
    try:
        InputSpec(height=height, width=width)
    except ValidationError as exc:
        raise DataError(
            f"Expected: an input that a bundle can have in {where}. "
            f"Received: {height}x{width} px ({explain(exc)}).",
            hint=SMALLER,
        ) from exc
    return height, width


def require_classes(shape: Shape, classes: int) -> None:
    """Check an output, (batch, classes), against the number of labels.

    Raises:
        DataError: It is of another shape or number.
    """
    if shape[-1:] != (classes,) or any(size not in {None, -1, 1} for size in shape[:-1]):
        single = shape[-1:] in {(), (1,)}
        raise DataError(
            f"Expected: a score for each of the {classes} labels. Received: an output of {shape}.",
            hint="a single score (a sigmoid) is not enough: export the model with two outputs"
            if single
            else "the labels file must have a line for each output of the model, in their order",
        )


def flat(
    predict: Callable[[Any], Any], classes: int, *, one_by_one: bool
) -> Callable[[NDArray[np.float32]], Floats]:
    """Return a prediction as `Network` wants it: float32 (n, height, width, 3) to float32 (n, classes).

    Args:
        predict: Of the model; its output may have sizes of 1 between.
        classes: Scores of each picture.
        one_by_one: The model takes one picture at a time.
    """

    def predicted(batch: NDArray[np.float32]) -> Floats:
        parts = [batch[row : row + 1] for row in range(len(batch))] if one_by_one else [batch]
        scores = np.concatenate([np.asarray(predict(part), np.float32) for part in parts])
        require_classes(scores.shape[1:], classes)
        return scores.reshape(len(batch), classes)

    return predicted


def require_float(dtype: Any, path: Path) -> None:  # noqa: ANN401 - the name of a dtype, or one
    """Check the type of an input.

    Raises:
        DataError: It is not float32.
    """
    name = getattr(dtype, "name", str(dtype))
    if name != "float32":
        raise DataError(
            f"Expected: a float32 input in {path}. Received: {name}.",
            hint="export the model with a float32 input; --pixels says what a pixel is to it",
        )


def require_numbers(weights: Iterable[tuple[str, Any]]) -> None:
    """Check weights, each with its name.

    Raises:
        DataError: One holds NaN or infinity.
    """
    for name, weight in weights:
        values = np.asarray(weight)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            broken = int((~np.isfinite(values)).sum())
            raise DataError(
                f"Expected: weights that are numbers. Received: {broken} of {values.size} in {name!r} that "
                "are NaN or infinite.",
                hint="training went wrong there; train the model again with a lower learning rate",
            )


def refuse(path: Path, exc: Exception) -> NoReturn:
    """Raise what a loader said of a file as one error.

    Raises:
        DataError: Always.
    """
    # A KeyError's text is only the key.
    # Keras puts the whole configuration of a model in front of what is wrong with it.
    text = str(exc).rpartition("Exception encountered: ")[2]
    said = " ".join(f"{type(exc).__name__}: {text}".split())
    raise DataError(
        f"Expected: a whole model of known layers in {path}. Received: {said[:300]}.", hint=EXPORT
    ) from exc
