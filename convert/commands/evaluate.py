"""`shelfkit convert evaluate`: how good a bundle is on labelled photos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.contracts.command import one_of, print_json, shown
from edge_agent.contracts.dataset import LEVELS, PARTS

if TYPE_CHECKING:
    from convert.evaluate import ClassFigures, Evaluation

_PAIRS = 10


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")],
    data: Annotated[Path, typer.Argument(help="Labelled photos, any layout that `train` takes.")],
    split: Annotated[str, typer.Option(help=f"Only one part: {', '.join(PARTS)}.")] = "",
    levels: Annotated[str, typer.Option(help="Classes of a two-level data set: fine or coarse.")] = "fine",
    confusion: Annotated[
        Path | None, typer.Option(help="Draw the confusion matrix into this .svg file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a bundle on labelled photos, through the device's own classifier.

    Prints accuracy, what each class loses, and which classes are taken for which. With `--json` the
    whole confusion matrix comes along.

    \b
    Examples:
      shelfkit convert evaluate bundle more-photos
      shelfkit convert evaluate bundle more-photos --confusion confusion.svg
      shelfkit convert evaluate bundle grocerystore --split val --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    from convert import confusion as picture  # noqa: PLC0415
    from convert import evaluate as evaluation  # noqa: PLC0415

    if confusion is not None:
        picture.check_name(confusion)
    found = evaluation.evaluate(
        bundle,
        data,
        part=one_of("--split", split, PARTS) if split else None,
        levels=one_of("--levels", levels, LEVELS),
        progress=shown("reading photos"),
    )
    for item in found.rejected:
        typer.echo(f"left out: {item.name}: {item.reason}", err=True)
    if confusion is not None:
        picture.write(confusion, found.labels, found.confusion)
    if as_json:
        print_json(_figures(found))
    else:
        _tell(found)


def _figures(found: "Evaluation") -> dict[str, object]:
    return {
        "n": found.n,
        "accuracy": found.accuracy,
        "accuracy_95": list(found.interval),
        "top_k": {str(k): share for k, share in found.top_k.items()},
        "coarse_accuracy": found.coarse_accuracy,
        "calibration_error": found.calibration_error,
        "unknown": found.unknown,
        "recall": {item.label: item.recall for item in found.classes if item.recall is not None},
        "classes": [
            {
                "label": item.label,
                "n": item.n,
                "recall": item.recall,
                "recall_95": list(item.interval) if item.n else None,
                "precision": item.precision,
            }
            for item in found.classes
        ],
        "confused": [{"label": pair.label, "called": pair.called, "n": pair.n} for pair in found.confused()],
        "labels": found.labels,
        "confusion": found.confusion.tolist(),
        "rejected": len(found.rejected),
    }


def _tell(found: "Evaluation") -> None:
    low, high = found.interval
    typer.echo(
        f"{100 * found.accuracy:.2f} % of {found.n} photos right "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
    )
    if found.coarse_accuracy is not None:
        typer.echo(f"  coarse class right: {100 * found.coarse_accuracy:.2f} %")
    for k, share in found.top_k.items():
        typer.echo(f"  among the top {k}: {100 * share:.2f} %")
    typer.echo(f"  calibration error {100 * found.calibration_error:.1f} points")
    typer.echo(f"  unknown to the device (below the bundle's threshold): {100 * found.unknown:.1f} %")
    known = sorted((item for item in found.classes if item.recall is not None), key=_worst_first)
    width = max(len(item.label) for item in known)
    typer.echo(f"\n{'class':{width}} {'n':>6}  recall (95 % interval)  precision")
    for item in known:
        typer.echo(f"{item.label:{width}} {item.n:6}  {_recall(item)}  {_percent(item.precision):>9}")
    if absent := len(found.classes) - len(known):
        typer.echo(f"no photos of {absent} more classes")
    if pairs := found.confused():
        typer.echo("\ntaken for another, most often first")
        for pair in pairs[:_PAIRS]:
            typer.echo(f"{pair.n:6}  {pair.label} -> {pair.called}")


def _worst_first(item: "ClassFigures") -> float:
    return item.recall or 0.0


def _recall(item: "ClassFigures") -> str:
    low, high = item.interval
    return f"{_percent(item.recall)} ({100 * low:5.1f} to {100 * high:5.1f})"


def _percent(share: float | None) -> str:
    return "     -" if share is None else f"{100 * share:5.1f} %"
