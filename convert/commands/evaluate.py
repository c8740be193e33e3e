"""`shelfkit convert evaluate`: how good a bundle is on labelled photos."""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.contracts.command import one_of, print_json, shown
from edge_agent.contracts.dataset import LEVELS, PARTS


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
