"""`shelfkit convert import MODEL`: a model that nobody here trained, to a bundle."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from convert import labels as label_files
from convert.checks import Output
from convert.commands import making
from convert.pixels import RANGES, parse
from convert.recipe import QATS, QUANTIZERS, Budget, Recipe
from edge_agent.classifier import Classifier
from edge_agent.contracts.bundle import Bundle, LabelEntry
from edge_agent.contracts.command import one_of, print_json, shown
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.photos import Rejected
from edge_agent.contracts.scoring import fit_temperature

if TYPE_CHECKING:
    from convert.labelled import Held
    from convert.ready import Ready
    from convert.source import Network, Source

_OUTPUTS: tuple[Output, ...] = ("logits", "probabilities")
_CANDIDATES = 200
"""Pictures to choose golden vectors from."""


def import_model(  # noqa: PLR0913, PLR0917 - one parameter for each option
    model: Annotated[Path, typer.Argument(help="A .keras, .h5 or .tflite file, or a SavedModel folder.")],
    labels: Annotated[Path, typer.Option(help="Text file: a class a line, in the order of the outputs.")],
    out: Annotated[Path, typer.Option(help="Bundle to make; must not exist.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled photos to calibrate and judge with; a float model needs them."),
    ] = None,
    pixels: Annotated[
        str,
        typer.Option(
            help="What the model takes for a pixel: 0..1, 0..255, -1..1, or SCALE,OFFSET; default: 0..1, or "
            "what an integer input says."
        ),
    ] = "",
    output: Annotated[
        str, typer.Option(help="What comes out: logits or probabilities; default: found out.")
    ] = "",
    qat: making.Qat = "auto",
    quantizer: making.Quantizer = "tensorflow",
    name: Annotated[str, typer.Option(help="Name of the model; default: the file's.")] = "",
    version: making.Version = "1.0.0",
    max_drop: making.MaxDrop = 0.5,
    max_recall_drop: making.MaxRecallDrop = 5.0,
    min_agreement: making.MinAgreement = 0.98,
    max_calibration_rise: making.MaxCalibrationRise = 2.0,
    golden: making.Golden = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the cut of photos without parts.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Make a bundle of a model that was trained elsewhere.

    A float model is quantized and judged like one of the kit's own, with --data. A ready .tflite goes in
    as it is, whatever its input's type, scale and zero point: the bundle carries a table of 256 values.

    \b
    Examples:
      shelfkit convert import model.keras --labels labels.txt --data photos --out bundle
      shelfkit convert import resnet.h5 --labels labels.txt --data photos --pixels 0..255 --out bundle
      shelfkit convert import mobilenet.tflite --labels imagenet.txt --out bundle
    """  # noqa: D301 - click needs the character itself to keep the lines
    making.check_names(out, name, version)
    recipe = Recipe(qat=one_of("--qat", qat, QATS), quantizer=one_of("--quantizer", quantizer, QUANTIZERS))
    budget = Budget(
        max_drop_points=max_drop,
        max_recall_drop_points=max_recall_drop,
        min_agreement=min_agreement,
        max_calibration_rise_points=max_calibration_rise,
    )
    kind = one_of("--output", output, _OUTPUTS) if output else None
    wanted = parse(pixels) if pixels else None
    classes, notes = label_files.read(labels)
    for note in notes[:20]:
        typer.echo(note, err=True)
    making.prepare_keras()
    from convert import foreign, ready  # noqa: PLC0415 - seconds, after all arguments were seen

    called = name or (model.stem or model.resolve().name)[: making.NAME_LENGTH]
    if foreign.kind_of(model) == "tflite":
        found = ready.read(model, classes, wanted=wanted, output=kind)
        held = None if data is None else _held(found, data)
        pictures = _pictures(found, golden, held)
        made = ready.make(found, out, name=called, bundle_version=version, shown=pictures)
        _tell(made, held, as_json=as_json)
        return
    network = foreign.load(model, wanted or RANGES["0..1"], classes=len(classes), output=kind)
    typer.echo(f"the model gives {network.output}", err=True)
    making.gated(
        _source(model, network, classes, data, called, seed),
        out,
        recipe=recipe,
        budget=budget,
        bundle_version=version,
        shown=None if golden is None else making.pictures(golden, network.height, network.width),
        as_json=as_json,
    )


def _source(
    model: Path, network: "Network", classes: list[LabelEntry], data: Path | None, name: str, seed: int
) -> "Source":
    if data is None:
        raise UsageError(
            "Expected: --data to quantize a float model. Received: none.",
            hint="labelled photos calibrate it, and others of them judge what came out",
        )
    from convert import foreign, foreign_data  # noqa: PLC0415 - seconds
    from convert.source import Source  # noqa: PLC0415 - the same

    found = foreign_data.read(
        data, classes, network.height, network.width, seed=seed, progress=shown("reading photos")
    )
    _tell_rejected(found.rejected)
    temperature = 1.0
    if network.output == "logits" and len(found.calibration.ids):
        temperature = fit_temperature(found.calibration.labels, network.scores(found.calibration.images))
    return Source(
        network=network,
        name=name,
        classes=classes,
        temperature=temperature,
        calibration=found.calibration,
        holdout=found.holdout,
        seed=seed,
        run_sha256=foreign.sha256_of(model),
        dataset_sha256=found.sha256,
    )


def _held(ready: "Ready", data: Path) -> "Held":
    """Return the photos that a ready model is measured on."""
    from convert import labelled  # noqa: PLC0415 - only with photos

    labels = [entry.label for entry in ready.classes]
    found = labelled.held(data, labels, ready.height, ready.width, shown("reading photos"))
    _tell_rejected(found.rejected)
    return found


def _pictures(ready: "Ready", golden: Path | None, held: "Held | None") -> NDArray[np.uint8] | None:
    """Return pictures for the golden vectors of a ready model, if there are any."""
    if golden is not None:
        return making.pictures(golden, ready.height, ready.width)
    if held is None:
        return None
    from convert import labelled  # noqa: PLC0415 - only with photos

    return np.asarray(held.pictures.images[labelled.spread(held.pictures, _CANDIDATES)])


def _tell(made: Bundle, held: "Held | None", *, as_json: bool) -> None:
    """Say what the bundle is, and how good, where there are photos to say it by."""
    figures: dict[str, object] = {"bundle": str(made.path), "sha256": made.sha256, "n": 0}
    text = ""
    if held is not None:
        from convert import evaluate  # noqa: PLC0415 - only with photos

        scores = Classifier(made).scores(held.pictures.images)
        found = evaluate.judged(
            made.manifest, held.pictures.labels, scores, coarse=held.coarse, rejected=held.rejected
        )
        figures |= {
            "part": held.part,
            "n": found.n,
            "accuracy": found.accuracy,
            "accuracy_95": list(found.interval),
        }
        part = f" of the part {held.part!r}" if held.part else ""
        text = f"\n  {100 * found.accuracy:.2f} % of {found.n} photos{part} right"
    if as_json:
        print_json(figures)
        return
    manifest = made.manifest
    typer.echo(
        f"{made.path}: {len(manifest.labels)} classes, {manifest.input.height}x{manifest.input.width} px, "
        f"gives {manifest.output.kind}; golden vectors hold{text}"
    )


def _tell_rejected(rejected: Iterable[Rejected]) -> None:
    for item in rejected:
        typer.echo(f"left out: {item.name}: {item.reason}", err=True)
