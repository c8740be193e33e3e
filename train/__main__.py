"""`shelfkit train`: photos to a run directory."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from edge_agent.contracts.command import new_app, one_of, print_json, run_command, shown
from edge_agent.contracts.dataset import LEVELS
from edge_agent.contracts.errors import UsageError
from train.config import PRESETS, TrainConfig
from train.prepare import prepare

app = new_app()
_DEFAULT = TrainConfig()
_NAMED = 20


@app.command()
def train(  # noqa: PLR0913, PLR0917 - one parameter for each option
    data: Annotated[Path, typer.Argument(help="Folder of photos, index.csv folder, or .npz file.")],
    out: Annotated[Path, typer.Option(help="Run directory to make; must not exist.")],
    name: Annotated[str, typer.Option(help="Name of the model; default: the run directory's.")] = "",
    preset: Annotated[str, typer.Option(help=f"Network: {', '.join(PRESETS)}.")] = _DEFAULT.preset,
    image_px: Annotated[int, typer.Option(help="Side of the square input, px.")] = _DEFAULT.image_px,
    epochs: Annotated[int, typer.Option(help="At most this many.")] = _DEFAULT.epochs,
    batch_size: Annotated[int, typer.Option(help="Photos of one step.")] = _DEFAULT.batch_size,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = _DEFAULT.learning_rate,
    augment: Annotated[
        float, typer.Option(help="Strength of changes to training photos, 0 to 2.")
    ] = _DEFAULT.augment,
    zoom: Annotated[
        float, typer.Option(help="How much of a photo's side may be cut off in training, 0 to 0.8.")
    ] = _DEFAULT.zoom,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror photos in training: not for print.")] = False,
    mixup: Annotated[float, typer.Option(help="Blend pairs of photos in training, 0 to 2.")] = _DEFAULT.mixup,
    seed: Annotated[int, typer.Option(help="Of split, weights, shuffling, augmentation.")] = _DEFAULT.seed,
    levels: Annotated[str, typer.Option(help="Classes of a two-level data set: fine or coarse.")] = "fine",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train a small classifier on photos of products, and report how good it is.

    DATA is a folder for each class (with or without train/val/test folders above them), a folder
    with an index.csv, the GroceryStore layout, or a Keras .npz. A class named `empty` is the empty
    slot. Photos that cannot be read are listed and left out.

    \b
    Examples:
      shelfkit train photos --out run
      shelfkit train photos --out run --image-px 64 --epochs 20
      shelfkit train grocerystore --levels coarse --zoom 0.5 --flip --out run --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    if out.exists():
        raise UsageError(
            f"Expected: --out as a new folder. Received: {out}, which exists.",
            hint="name another one, or remove it first; runs are never overwritten",
        )
    config = TrainConfig(
        preset=one_of("--preset", preset, PRESETS),
        image_px=image_px,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augment=augment,
        zoom=zoom,
        flip=flip,
        mixup=mixup,
        seed=seed,
    )
    prepared = prepare(
        data, config, levels=one_of("--levels", levels, LEVELS), progress=shown("reading photos")
    )
    for item in prepared.rejected[:_NAMED]:
        typer.echo(f"left out: {item.name}: {item.reason}", err=True)
    if len(prepared.rejected) > _NAMED:
        typer.echo(f"... and {len(prepared.rejected) - _NAMED} more; the report names all", err=True)
    # Keras reads these when it is imported; importing takes seconds, so bad data comes first.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from train import fit  # noqa: PLC0415
    from train.progress import Told  # noqa: PLC0415

    def callbacks(epochs: int, steps: int) -> list[Any]:
        return [Told(epochs, steps, config.batch_size, Console(stderr=True))]

    info = fit.train(prepared, out, config, name=name or out.resolve().name, callbacks=callbacks)
    metrics = info.metrics
    if as_json:
        counts = {"photos": len(prepared.pictures), "rejected": len(prepared.rejected)}
        print_json({"run": str(out), **counts, "metrics": metrics})
        return
    low, high = metrics["holdout_accuracy_95"]
    typer.echo(
        f"{out}: {100 * metrics['holdout_accuracy']:.1f} % of {metrics['holdout_n']} held-out photos right "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %); report: {out / 'report.html'}"
    )


if __name__ == "__main__":
    sys.exit(run_command(app))
