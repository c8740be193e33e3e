"""`shelfkit convert --int8 RUN`: a run directory to a proven int8 bundle."""

import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from convert.parity import Budget
from edge_agent.contracts import dataset, photos
from edge_agent.contracts import run as runs
from edge_agent.contracts.command import one_of, print_json, shown
from edge_agent.contracts.errors import DataError, UsageError

_NAME_LENGTH = 64
QUANTIZATIONS: tuple[Literal["ptq", "qat"], ...] = ("ptq", "qat")


def make_bundle(  # noqa: PLR0913, PLR0917 - one parameter for each option
    run: Annotated[Path, typer.Argument(help="Run directory of `shelfkit train`.")],
    out: Annotated[Path, typer.Option(help="Bundle to make; must not exist.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantize to int8: the only form there is.")] = False,
    quantization: Annotated[
        str, typer.Option(help="ptq: calibrate after training; qat: fine-tune with quantization first.")
    ] = "ptq",
    name: Annotated[str, typer.Option(help="Name of the model; default: the run's.")] = "",
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    max_drop: Annotated[float, typer.Option(help="Accuracy that may be lost, points.")] = 1.0,
    max_recall_drop: Annotated[float, typer.Option(help="Recall that any class may lose, points.")] = 10.0,
    min_agreement: Annotated[float, typer.Option(help="Share on which both models must agree.")] = 0.9,
    golden: Annotated[
        Path | None,
        typer.Option(
            help="Pictures for the golden vectors, of which a bundle carries 16; default: training photos."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scorecard as JSON.")] = False,
) -> None:
    """Quantize a run to a bundle, behind the gate; the word `bundle` may be left out.

    The int8 model is compared with the float one on the run's holdout, through the classifier that
    the device runs. If it is not as good, the exit code is 5 and nothing is written.

    \b
    Examples:
      shelfkit convert --int8 run --out bundle
      shelfkit convert --int8 run --out bundle --quantization qat --json
      shelfkit convert --int8 run --out bundle --golden pictures-that-anyone-may-see
    """  # noqa: D301 - click needs the character itself to keep the lines
    if not int8:
        raise UsageError(
            "Expected: --int8. Received: no form of quantization.",
            hint=f"shelfkit convert --int8 {run} --out {out}",
        )
    if out.exists():
        raise UsageError(
            f"Expected: --out as a new folder. Received: {out}, which exists.",
            hint="name another one; a bundle is never written over another",
        )
    if not (0 < len(version) <= _NAME_LENGTH and len(name) <= _NAME_LENGTH):
        raise UsageError(f"Expected: --version and --name of up to {_NAME_LENGTH} characters.")
    budget = Budget(
        max_drop_points=max_drop, max_recall_drop_points=max_recall_drop, min_agreement=min_agreement
    )
    quantizer, found = one_of("--quantization", quantization, QUANTIZATIONS), runs.read(run)
    found.calibration()
    shown_pictures = None if golden is None else _pictures(golden, found.info.height, found.info.width)
    # Keras reads these when it is imported; importing takes seconds, so bad arguments come first.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from convert.bundling import make  # noqa: PLC0415

    made = make(
        found,
        out,
        quantization=quantizer,
        budget=budget,
        name=name,
        bundle_version=version,
        shown=shown_pictures,
        told=lambda text: typer.echo(text, err=True),
    )
    card = made.manifest.scorecard
    if as_json:
        print_json(
            {
                "bundle": str(out),
                "sha256": made.sha256,
                "scorecard": card.model_dump(mode="json") if card else {},
            }
        )
    elif card:
        typer.echo(
            f"{out}: int8 {100 * card.int8.accuracy:.2f} %, float {100 * card.float32.accuracy:.2f} % of "
            f"{card.n} held-out photos; {made.model.stat().st_size / 1024:.0f} KiB"
        )


def _pictures(folder: Path, height: int, width: int) -> NDArray[np.uint8]:
    decoded, rejected = photos.decode(dataset.unlabelled(folder), height, width, shown("reading pictures"))
    if not len(decoded):
        raise DataError(
            f"Expected: readable pictures in {folder}. Received: {len(rejected)}, none of them readable."
        )
    return decoded.images
