"""`shelfkit train`: photos to a run directory."""

import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from edge_agent.contracts import run as runs
from edge_agent.contracts.command import INTERRUPTED, new_app, one_of, print_json, run_command, shown
from edge_agent.contracts.dataset import LEVELS
from edge_agent.contracts.errors import UsageError
from train.config import (
    BACKENDS,
    DISTRIBUTIONS,
    LOSSES,
    OPTIMIZERS,
    PRECISIONS,
    PRESETS,
    WEIGHTS,
    TrainConfig,
)
from train.devices import choose_backend
from train.prepare import Prepared, prepare

app = new_app()
_DEFAULT = TrainConfig()
_NAMED = 20


@app.command()
def train(  # noqa: PLR0913, PLR0917 - one parameter for each option
    data: Annotated[Path, typer.Argument(help="Folder of photos, index.csv folder, .npz file, or cifar10.")],
    out: Annotated[Path, typer.Option(help="Run directory to make; must not exist.")],
    name: Annotated[str, typer.Option(help="Name of the model; default: the run directory's.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was killed.")] = False,
    preset: Annotated[
        str, typer.Option(help=f"Network: {', '.join(PRESETS)}, or a backbone of keras.applications.")
    ] = _DEFAULT.preset,
    weights: Annotated[
        str, typer.Option(help=f"What a backbone starts from: {', '.join(WEIGHTS)}.")
    ] = _DEFAULT.weights,
    image_px: Annotated[int, typer.Option(help="Side of the square input, px.")] = _DEFAULT.image_px,
    epochs: Annotated[int, typer.Option(help="At most this many.")] = _DEFAULT.epochs,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1, help="Epochs without a better validation loss until it ends; default: a quarter."
        ),
    ] = _DEFAULT.patience,
    batch_size: Annotated[int, typer.Option(help="Photos of one step.")] = _DEFAULT.batch_size,
    optimizer: Annotated[str, typer.Option(help=f"{', '.join(OPTIMIZERS)}.")] = _DEFAULT.optimizer,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = _DEFAULT.learning_rate,
    warm_up: Annotated[
        float, typer.Option(help="Share of steps in which the learning rate rises.")
    ] = _DEFAULT.warm_up,
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = _DEFAULT.momentum,
    weight_decay: Annotated[float, typer.Option(help="Of adamw and sgd.")] = _DEFAULT.weight_decay,
    l1: Annotated[float, typer.Option(help="Penalty on absolute weights.")] = _DEFAULT.l1,
    l2: Annotated[float, typer.Option(help="Penalty on squared weights.")] = _DEFAULT.l2,
    loss: Annotated[str, typer.Option(help=f"{', '.join(LOSSES)}.")] = _DEFAULT.loss,
    dropout: Annotated[float, typer.Option(help="Share of features left out.")] = _DEFAULT.dropout,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the truth that is spread over all classes.")
    ] = _DEFAULT.label_smoothing,
    averaging: Annotated[
        float, typer.Option(help="Momentum of the average of the weights that is kept; 0: none.")
    ] = _DEFAULT.averaging,
    augment: Annotated[
        float, typer.Option(help="Strength of changes to training photos, 0 to 2.")
    ] = _DEFAULT.augment,
    shift: Annotated[
        float, typer.Option(help="How far photos are moved in training, share of a side.")
    ] = _DEFAULT.shift,
    zoom: Annotated[
        float, typer.Option(help="How much of a photo's side may be cut off in training, 0 to 0.8.")
    ] = _DEFAULT.zoom,
    turn: Annotated[
        float, typer.Option(help="How far photos are turned in training, degrees.")
    ] = _DEFAULT.turn,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror photos in training: not for print.")] = False,
    occlude: Annotated[
        float, typer.Option(help="Share of training photos with a part covered.")
    ] = _DEFAULT.occlude,
    mixup: Annotated[float, typer.Option(help="Blend pairs of photos in training, 0 to 2.")] = _DEFAULT.mixup,
    cutmix: Annotated[
        float, typer.Option(help="Paste photos into others in training, 0 to 2.")
    ] = _DEFAULT.cutmix,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="Run whose answers are learned, too; may be repeated.")
    ] = None,
    teacher_share: Annotated[
        float, typer.Option(help="Weight of the teachers against the labels.")
    ] = _DEFAULT.teacher_share,
    teacher_temperature: Annotated[
        float, typer.Option(help="Softens the teachers' answers.")
    ] = _DEFAULT.teacher_temperature,
    validation_share: Annotated[
        float, typer.Option(help="Of training photos, kept for choices where the data set names none.")
    ] = _DEFAULT.validation_share,
    holdout_share: Annotated[
        float, typer.Option(help="Of all photos, kept for the figures where the data set names none.")
    ] = _DEFAULT.holdout_share,
    precision: Annotated[str, typer.Option(help=f"{', '.join(PRECISIONS)}.")] = _DEFAULT.precision,
    backend: Annotated[
        str, typer.Option(help=f"What Keras runs on: {', '.join(BACKENDS)}.")
    ] = _DEFAULT.backend,
    xla: Annotated[bool, typer.Option("--xla", help="Compile the training step: for GPUs.")] = False,
    distribute: Annotated[
        str, typer.Option(help=f"Over many devices or machines: {', '.join(DISTRIBUTIONS)}.")
    ] = _DEFAULT.distribute,
    deterministic: Annotated[
        bool, typer.Option(help="The same weights again from the same seed; costs speed on GPUs.")
    ] = _DEFAULT.deterministic,
    seed: Annotated[int, typer.Option(help="Of split, weights, shuffling, augmentation.")] = _DEFAULT.seed,
    levels: Annotated[str, typer.Option(help="Classes of a two-level data set: fine or coarse.")] = "fine",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Class that the model must not know; judges the open set; may be repeated."),
    ] = None,
    outside: Annotated[
        Path | None, typer.Option(help="Photos of products outside the catalogue, to judge the open set.")
    ] = None,
    memory_mb: Annotated[
        int | None,
        typer.Option(min=1, help="For decoded photos, 10^6 bytes; beyond it they go to disk. Default: half."),
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard logs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train a small classifier on photos of products, and report how good it is.

    DATA is a folder for each class (with or without train/val/test folders above them), a folder
    with an index.csv, the GroceryStore layout, or a Keras .npz. A class named `empty` is the empty
    slot. Photos that cannot be read are listed and left out. Ctrl-C keeps the best so far; a run that
    was killed goes on with --resume and ends as if nothing had happened.

    \b
    Examples:
      shelfkit train photos --out run
      shelfkit train photos --out run --image-px 64 --epochs 20
      shelfkit train photos --out run --resume
      shelfkit train grocerystore --levels coarse --zoom 0.5 --flip --out run --json
      shelfkit train photos --out small --teacher run-1 --teacher run-2
      shelfkit train photos --out run --leave-out tea-mint --leave-out coffee
      shelfkit train photos --out run --preset MobileNetV3Small --weights imagenet
    """  # noqa: D301 - click needs the character itself to keep the lines
    options = dict(locals())
    if out.exists():
        raise UsageError(
            f"Expected: --out as a new folder. Received: {out}, which exists.",
            hint="name another one, or remove it first; runs are never overwritten",
        )
    config = _config(options, teacher or [])
    for path in teacher or []:
        runs.read(path)
    choose_backend(config.backend)
    prepared = prepare(
        data,
        config,
        levels=one_of("--levels", levels, LEVELS),
        progress=shown("reading photos"),
        memory_mb=memory_mb,
        spill=out.resolve().parent,
        leave_out=leave_out or [],
        outside=outside,
    )
    _warn(prepared)
    from train import fit  # noqa: PLC0415
    from train.progress import callbacks  # noqa: PLC0415

    info = fit.train(
        prepared,
        out,
        config,
        name=name or out.resolve().name,
        resume=resume,
        command=shlex.join(["shelfkit", "train", *sys.argv[2:]]),
        callbacks=callbacks(config.batch_size, Console(stderr=True), tensorboard),
        progress=shown("trying how much it bears"),
    )
    counts = {"photos": len(prepared.pictures), "rejected": len(prepared.rejected)}
    _tell(out, info, counts, as_json=as_json)


def _warn(prepared: Prepared) -> None:
    for item in prepared.rejected[:_NAMED]:
        typer.echo(f"left out: {item.name}: {item.reason}", err=True)
    if len(prepared.rejected) > _NAMED:
        typer.echo(f"... and {len(prepared.rejected) - _NAMED} more; the report names all", err=True)
    for note in prepared.notes:
        typer.echo(f"note: {note}", err=True)


def _config(options: dict[str, Any], teachers: list[Path]) -> TrainConfig:
    chosen = {field.name: options[field.name] for field in fields(TrainConfig) if field.name in options}
    return TrainConfig(**chosen, teachers=tuple(str(path) for path in teachers))


def _tell(out: Path, info: runs.RunInfo, counts: dict[str, int], *, as_json: bool) -> None:
    metrics = info.metrics
    if as_json:
        print_json({"run": str(out), **counts, "weights_sha256": info.weights_sha256, "metrics": metrics})
    else:
        low, high = metrics["holdout_accuracy_95"]
        typer.echo(
            f"{out}: {100 * metrics['holdout_accuracy']:.1f} % of {metrics['holdout_n']} held-out photos "
            f"right (95 % interval {100 * low:.1f} to {100 * high:.1f} %); report: {out / 'report.html'}"
        )
    if metrics.get("interrupted"):
        typer.echo(f"interrupted: the best of {metrics['epochs']} epochs was kept", err=True)
        raise typer.Exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(run_command(app))
