"""CIFAR-10 by the real command line: train, convert, and measure the int8 bundle on what was held out.

Usage: python benchmarks/cifar10.py best DATA.npz OUT [-- TRAIN OPTIONS]
       python benchmarks/cifar10.py article DATA.npz OUT

DATA.npz comes from `cifar10_sheets.py`. `best` trains with the given options; `article` trains the
network of the article that this project started from as its own script does: 10 epochs of Adam,
batches of 32, no augmentation, nothing against overfitting. One thing is the kit's own in both: the
learning rate falls along a cosine. Each leaves its figures in OUT; a result file holds what is there
of both, with published figures beside them. Each can be started again: what is made stays.
"""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import commands, measured
from edge_agent.contracts.command import new_app, run_command

_SCRIPT = "cifar10.py"
_ARTICLE = (
    "--preset article-cifar --epochs 10 --patience 10 --batch-size 32 --optimizer adam "
    "--learning-rate 0.001 --warm-up 0 --averaging 0 --dropout 0 --label-smoothing 0 "
    "--augment 0 --shift 0 --occlude 0"
)
PUBLISHED = {
    "mlperf-tiny-resnet8": {"float": 0.8719, "int8": 0.8697, "int8_bytes": 98_496, "on": "test"},
    "mlperf-tiny-large": {"float": 0.9128, "int8": 0.9131, "int8_bytes": 512_024, "on": "test"},
    "article": {"claims": 0.92, "its_script_gives": 0.699},
}
app = new_app(help="The article's network and the kit's best on CIFAR-10.")
_Data = Annotated[Path, typer.Argument(help="The .npz of cifar10_sheets.py.")]
_Out = Annotated[Path, typer.Argument(help="Folder for runs; made if needed.")]
_Convert = Annotated[str, typer.Option(help="Options of `shelfkit convert`.")]
_Result = Annotated[Path | None, typer.Option(help="JSON file for the figures of both.")]


@app.command()
def best(
    data: _Data,
    out: _Out,
    options: Annotated[
        list[str] | None, typer.Argument(help="After --: options of `shelfkit train`.")
    ] = None,
    convert_options: _Convert = "",
    result: _Result = None,
) -> None:
    """Train with the options given, convert and measure."""
    _measure("best", data, out, options or [], shlex.split(convert_options))
    _tell(out, result)


@app.command()
def article(
    data: _Data,
    out: _Out,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the article's 10.")] = None,
    convert_options: _Convert = "",
    result: _Result = None,
) -> None:
    """Train the article's network as the article does, convert and measure."""
    more = [] if epochs is None else ["--epochs", str(epochs)]
    _measure("article", data, out, [*shlex.split(_ARTICLE), *more], shlex.split(convert_options))
    _tell(out, result)


def _measure(name: str, data: Path, out: Path, options: list[str], convert_options: list[str]) -> None:
    words = ["--image-px", "32", *options]
    info = commands.trained(data, out / name, words)
    made = commands.converted(out / name, out / f"{name}-bundle", convert_options)
    metrics = info.metrics
    figures = {
        "options": shlex.join(measured.shown(word) for word in words),
        "epochs": metrics["epochs"],
        "parameters": metrics["parameters"],
        "float": {"accuracy": metrics["holdout_accuracy"], "accuracy_95": metrics["holdout_accuracy_95"]},
        "int8": commands.evaluated(made, data, split="test"),
        "weights_sha256": info.weights_sha256,
        "bundle_sha256": made.sha256,
    }
    _figures(out, name).write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _figures(out: Path, name: str) -> Path:
    return out / f"{name}.json"


def _tell(out: Path, result: Path | None) -> None:
    figures: dict[str, Any] = {
        name: json.loads(_figures(out, name).read_text(encoding="utf-8"))
        for name in ("best", "article")
        if _figures(out, name).is_file()
    }
    figures["published"] = PUBLISHED
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


if __name__ == "__main__":
    sys.exit(run_command(app))
