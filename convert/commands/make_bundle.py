"""`shelfkit convert --int8 RUN`: a run directory to a proven int8 bundle."""

from pathlib import Path
from typing import Annotated

import typer

from convert.commands import making
from convert.recipe import QATS, QUANTIZERS, Budget, FloatForm, Recipe
from edge_agent.contracts import run as runs
from edge_agent.contracts.command import one_of
from edge_agent.contracts.errors import UsageError


def make_bundle(  # noqa: PLR0913, PLR0917 - one parameter for each option
    run: Annotated[Path, typer.Argument(help="Run directory of `shelfkit train`.")],
    out: Annotated[Path, typer.Option(help="Bundle to make; must not exist.")],
    int8: Annotated[bool, typer.Option("--int8", help="Quantize to int8: the only form there is.")] = False,
    qat: making.Qat = "auto",
    quantizer: making.Quantizer = "tensorflow",
    prune: Annotated[
        float | None, typer.Option(help="Share of the weights to set to nought: packs smaller.")
    ] = None,
    cluster: Annotated[
        int | None, typer.Option(help="Values that each layer's weights share: packs smaller.")
    ] = None,
    float16: Annotated[
        bool, typer.Option("--float16", help="Measure float16 and float32 beside int8.")
    ] = False,
    dynamic: Annotated[
        bool,
        typer.Option("--dynamic", help="Measure int8 weights alone, and float32, beside int8."),
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the model; default: the run's.")] = "",
    version: making.Version = "1.0.0",
    max_drop: making.MaxDrop = 0.5,
    max_recall_drop: making.MaxRecallDrop = 5.0,
    min_agreement: making.MinAgreement = 0.98,
    max_calibration_rise: making.MaxCalibrationRise = 2.0,
    golden: making.Golden = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scorecard as JSON.")] = False,
) -> None:
    """Quantize a run to a bundle, behind the gate; the word `bundle` may be left out.

    The int8 model is compared with the float one on the run's holdout, through the classifier that
    the device runs. If it is not as good, the exit code is 5, no bundle is written, and the layers
    that lose most are shown, as a table and as a picture beside OUT.

    \b
    Examples:
      shelfkit convert --int8 run --out bundle
      shelfkit convert --int8 --qat run --out bundle --json
      shelfkit convert --int8 run --out bundle --prune 0.5 --float16 --dynamic
      shelfkit convert --int8 run --out bundle --golden pictures-that-anyone-may-see
    """  # noqa: D301 - click needs the character itself to keep the lines
    if not int8:
        raise UsageError(
            "Expected: --int8. Received: no form of quantization.",
            hint=f"shelfkit convert --int8 {run} --out {out}",
        )
    making.check_names(out, name, version)
    recipe = Recipe(
        qat=one_of("--qat", qat, QATS),
        quantizer=one_of("--quantizer", quantizer, QUANTIZERS),
        sparsity=prune,
        clusters=cluster,
        compared=_compared(float16=float16, dynamic=dynamic),
    )
    budget = Budget(
        max_drop_points=max_drop,
        max_recall_drop_points=max_recall_drop,
        min_agreement=min_agreement,
        max_calibration_rise_points=max_calibration_rise,
    )
    found = runs.read(run)
    found.calibration()
    shown = None if golden is None else making.pictures(golden, found.info.height, found.info.width)
    making.prepare_keras()
    from convert.trained import source_of  # noqa: PLC0415 - seconds, after all arguments were seen

    making.gated(
        source_of(found, name),
        out,
        recipe=recipe,
        budget=budget,
        bundle_version=version,
        shown=shown,
        as_json=as_json,
    )


def _compared(*, float16: bool, dynamic: bool) -> tuple[FloatForm, ...]:
    asked: dict[FloatForm, bool] = {"float32": float16 or dynamic, "float16": float16, "dynamic": dynamic}
    return tuple(form for form, wanted in asked.items() if wanted)
