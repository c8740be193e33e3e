"""Whether evening out the light before the model helps, in the dark, in glare, in noise, and without colour.

Usage: python benchmarks/light.py BUNDLE=DATA ... [--result FILE]

Each bundle answers photos that neither training nor calibration has seen (DATA as `convert evaluate` takes
it), made worse as the report of `train` makes them worse, and drawn without colour as a camera sees by
infrared. Three ways from the crop to the model: as it is; multiplied so that its mean is that of the photos;
with its lightness evened out place by place (CLAHE, Zuiderveld 1994), as is often advised. The reference
is the device's own classifier on the crop as it is.
"""

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import cv2
import measured
import numpy as np
import typer
from numpy.typing import NDArray

from convert.labelled import held, spread
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle
from edge_agent.contracts.command import new_app, run_command, shown
from edge_agent.contracts.errors import UsageError
from train.robustness import CORRUPTIONS, SEVERITIES

_SCRIPT = "light.py"
_KINDS = ("darkness", "glare", "noise")
_CLIP, _TILES = 2.0, (4, 4)
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Way = Callable[[Images], Images]
"""From a crop, uint8, (height, width, 3), RGB, to what the model sees."""
app = new_app(help="Whether evening out the light helps.")


@app.command()
def compare(
    pairs: Annotated[list[str], typer.Argument(help="BUNDLE=DATA, one or several.")],
    count: Annotated[int, typer.Option(min=100, help="Photos of each at most.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of photos, places and noise.")] = 7,
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Let each bundle answer the same worse photos on three ways."""
    figures = {}
    for pair in pairs:
        place, _, data = pair.partition("=")
        if not data:
            raise UsageError(f"Expected: BUNDLE=DATA. Received: {pair!r}.")
        figures[Path(place).name] = _of(bundle.read(Path(place)), Path(data), count, seed)
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _of(made: bundle.Bundle, data: Path, count: int, seed: int) -> dict[str, Any]:
    model = Classifier(made)
    labels = made.manifest.label_names
    pictures = held(data, labels, model.height, model.width, shown("reading")).pictures
    usual = float(np.asarray(pictures.images, np.float64).mean())
    rows = spread(pictures, count)
    photos = np.stack([np.asarray(pictures.images[row]) for row in rows])
    ways: Mapping[str, Way] = {
        "as it is": lambda image: image,
        "mean": lambda image: _to_mean(image, usual),
        "place by place": _evened,
    }
    return {"n": len(rows), "usual_light": round(usual, 1)} | {
        name: _accuracies(model, way, photos, pictures.labels[rows], seed) for name, way in ways.items()
    }


def _accuracies(model: Classifier, way: Way, photos: Images, labels: Labels, seed: int) -> dict[str, Any]:
    """Return the accuracy in % of what is clean, grey, and worse in each kind from little to much."""

    def right(images: Images) -> float:
        answers = model.scores(np.stack([way(image) for image in images])).argmax(axis=1)
        return round(100 * float((answers == labels).mean()), 1)

    def worse(kind: str, severity: int) -> Images:
        # The same place and noise for each way and severity.
        rngs = (np.random.default_rng([seed, row]) for row in range(len(photos)))
        return np.stack(
            [CORRUPTIONS[kind](photo, severity, rng) for photo, rng in zip(photos, rngs, strict=True)]
        )

    found: dict[str, Any] = {
        "clean": right(photos),
        "grey": right(np.stack([_grey(photo) for photo in photos])),
    }
    return found | {kind: [right(worse(kind, severity)) for severity in SEVERITIES] for kind in _KINDS}


def _to_mean(image: Images, usual: float) -> Images:
    return np.asarray(cv2.convertScaleAbs(image, alpha=usual / max(float(image.mean()), 1.0)), np.uint8)


def _evened(image: Images) -> Images:
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(_CLIP, _TILES).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def _grey(image: Images) -> Images:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


if __name__ == "__main__":
    sys.exit(run_command(app))
