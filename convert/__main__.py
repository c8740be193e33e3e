"""`shelfkit convert`: a run directory to a proven int8 bundle; evaluate and verify bundles."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from convert.parity import Budget
from edge_agent.contracts import dataset, photos
from edge_agent.contracts import run as runs
from edge_agent.contracts.command import DefaultCommandGroup, new_app, one_of, print_json, run_command, shown
from edge_agent.contracts.dataset import LEVELS, PARTS
from edge_agent.contracts.errors import DataError, UsageError

_NAME_LENGTH = 64
QUANTIZATIONS: tuple[Literal["ptq", "qat"], ...] = ("ptq", "qat")
app = new_app(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    help="Turn a training run into a proven int8 bundle; evaluate and verify bundles.",
)


@app.command("bundle")
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


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")],
    data: Annotated[Path, typer.Argument(help="Labelled photos, any layout that `train` takes.")],
    split: Annotated[str, typer.Option(help=f"Only one part: {', '.join(PARTS)}.")] = "",
    levels: Annotated[str, typer.Option(help="Classes of a two-level data set: fine or coarse.")] = "fine",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a bundle on labelled photos, through the device's own classifier.

    \b
    Examples:
      shelfkit convert evaluate bundle more-photos
      shelfkit convert evaluate bundle grocerystore --split val --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    from convert import evaluate as evaluation  # noqa: PLC0415

    found = evaluation.evaluate(
        bundle,
        data,
        part=one_of("--split", split, PARTS) if split else None,
        levels=one_of("--levels", levels, LEVELS),
        progress=shown("reading photos"),
    )
    for item in found.rejected:
        typer.echo(f"left out: {item.name}: {item.reason}", err=True)
    if as_json:
        print_json(
            {
                "n": found.n,
                "accuracy": found.accuracy,
                "accuracy_95": list(found.interval),
                "calibration_error": found.calibration_error,
                "recall": found.recall,
                "rejected": len(found.rejected),
            }
        )
        return
    low, high = found.interval
    typer.echo(
        f"{100 * found.accuracy:.2f} % of {found.n} photos right "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
    )
    for label, recall in sorted(found.recall.items(), key=lambda item: item[1])[:10]:
        typer.echo(f"  {label:30} {100 * recall:5.1f} %")


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Check a bundle on this machine: hashes, manifest, and that it computes what its maker proved.

    \b
    Examples:
      shelfkit convert verify bundle
      shelfkit convert verify bundle --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    from edge_agent.classifier import Classifier  # noqa: PLC0415
    from edge_agent.contracts.bundle import read  # noqa: PLC0415

    checked = read(bundle)
    Classifier(checked).check_golden()
    manifest = checked.manifest
    if as_json:
        print_json({"sha256": checked.sha256, "manifest": manifest.model_dump(mode="json")})
    else:
        typer.echo(
            f"{manifest.name} {manifest.version}: {len(manifest.labels)} classes, "
            f"{manifest.input.height}x{manifest.input.width} px, sha256 {checked.sha256[:12]}; "
            "golden vectors hold"
        )


if __name__ == "__main__":
    sys.exit(run_command(app))
