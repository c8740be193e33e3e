"""What the commands that make a bundle share: the gate's options, and what they print."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from convert.recipe import Budget, Recipe
from edge_agent.contracts import dataset, photos
from edge_agent.contracts.command import print_json, shown
from edge_agent.contracts.errors import DataError, UsageError

if TYPE_CHECKING:
    from convert.bundling import Made
    from convert.source import Source

MaxDrop = Annotated[float, typer.Option(help="Accuracy that may be lost, points.")]
MaxRecallDrop = Annotated[float, typer.Option(help="Recall that any class may lose, points.")]
MinAgreement = Annotated[float, typer.Option(help="Share on which both models must agree.")]
MaxCalibrationRise = Annotated[float, typer.Option(help="Rise of the calibration error, points.")]
Golden = Annotated[
    Path | None,
    typer.Option(
        help="Pictures for the golden vectors, of which a bundle carries 16; default: training photos."
    ),
]
Qat = Annotated[
    str,
    typer.Option(
        help="Train with quantization: auto (where the gate refuses calibration alone), always, never; "
        "--qat alone is always."
    ),
]
Quantizer = Annotated[str, typer.Option(help="Which one calibrates: tensorflow or litert.")]
Version = Annotated[str, typer.Option(help="Version of the bundle.")]
NAME_LENGTH = 64


def check_names(out: Path, name: str, version: str) -> None:
    """Refuse what no bundle can be made under.

    Raises:
        UsageError: The folder exists, or a name is too long.
    """
    if out.exists():
        raise UsageError(
            f"Expected: --out as a new folder. Received: {out}, which exists.",
            hint="name another one; a bundle is never written over another",
        )
    if not (0 < len(version) <= NAME_LENGTH and len(name) <= NAME_LENGTH):
        raise UsageError(f"Expected: --version and --name of up to {NAME_LENGTH} characters.")


def pictures(folder: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Return the pictures of a folder at model size, uint8 (n, height, width, 3), RGB.

    Raises:
        DataError: None can be read.
    """
    decoded, rejected = photos.decode(dataset.unlabelled(folder), height, width, shown("reading pictures"))
    if not len(decoded):
        raise DataError(
            f"Expected: readable pictures in {folder}. Received: {len(rejected)}, none of them readable."
        )
    return decoded.images


def prepare_keras() -> None:
    """Say what Keras and TensorFlow read when they are imported, which takes seconds."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def gated(
    source: "Source",
    out: Path,
    *,
    recipe: Recipe,
    budget: Budget,
    bundle_version: str,
    shown: NDArray[np.uint8] | None,
    as_json: bool,
) -> None:
    """Make a bundle and say how good it is, or why there is none.

    Args:
        source: What to make it of.
        out: The bundle; a picture of the layers that lose most is written beside it where the gate refuses.
        recipe: What is done to the weights.
        budget: What the gate allows.
        bundle_version: Of the bundle.
        shown: Pictures for the golden vectors; None: those that calibrate.
        as_json: One JSON document on standard output, whatever the gate says.

    Raises:
        NotAsGoodError: The gate said no.
    """
    from convert import bundling, layers  # noqa: PLC0415 - the converter takes seconds to import

    try:
        made = bundling.make(
            source,
            out,
            recipe=recipe,
            budget=budget,
            bundle_version=bundle_version,
            shown=shown,
            told=lambda text: typer.echo(text, err=True),
        )
    except bundling.NotAsGoodError as exc:
        picture = out.with_name(f"{out.name}.layers.svg")
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(layers.picture(exc.losses), encoding="utf-8")
        typer.echo(f"{layers.table(exc.losses)}\n\nas a picture: {picture}\n", err=True)
        if as_json:
            print_json(
                {
                    "bundle": None,
                    "lost": exc.lost,
                    "layers": [asdict(loss) for loss in exc.losses],
                    "scorecard": exc.card.model_dump(mode="json"),
                }
            )
        raise
    if as_json:
        print_json(_as_json(out, made))
    else:
        _tell(out, made)


def _as_json(out: Path, made: "Made") -> dict[str, Any]:
    manifest = made.bundle.manifest
    return {
        "bundle": str(out),
        "sha256": made.bundle.sha256,
        "quantization": manifest.provenance.quantization,
        "quantizer": manifest.provenance.quantizer,
        "forms": [asdict(form) for form in made.forms],
        "scorecard": manifest.scorecard.model_dump(mode="json") if manifest.scorecard else {},
    }


def _tell(out: Path, made: "Made") -> None:
    card, how = made.bundle.manifest.scorecard, made.bundle.manifest.provenance.quantization
    if card:
        typer.echo(
            f"{out}: int8 {100 * card.int8.accuracy:.2f} %, float {100 * card.float32.accuracy:.2f} % of "
            f"{card.n} held-out photos, both agree on {100 * card.agreement:.2f} % ({how})"
        )
    for form in made.forms:
        typer.echo(
            f"  {form.form:8} {form.size / 1024:8.0f} KiB, {form.packed / 1024:.0f} KiB packed, "
            f"{100 * form.accuracy:.2f} %, agrees on {100 * form.agreement:.2f} %"
        )
