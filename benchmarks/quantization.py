"""What int8 costs: accuracy, size and time of each way from a run to a bundle, on the run's own holdout.

Usage: python benchmarks/quantization.py RUN [RUN ...] [--result FILE.json]

For each run, through the real command line: both quantizers after training, training with
quantization, half of the weights pruned, sixteen values a layer, and what `--qat auto` makes of it;
beside them the float32, float16 and dynamic forms of the same network. Budgets are wide open, so that
all are measured; whether the default gate lets it through is said by `gate`.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import commands, measured
from edge_agent.contracts import run
from edge_agent.contracts.command import new_app, run_command

_SCRIPT = "quantization.py"
_OPEN = ("--max-drop", 100, "--max-recall-drop", 100, "--min-agreement", 0, "--max-calibration-rise", 100)
_WAYS: dict[str, tuple[object, ...]] = {
    "tensorflow": ("--qat", "never", "--float16", "--dynamic"),
    "litert": ("--qat", "never", "--quantizer", "litert"),
    "qat": ("--qat", "always"),
    "pruned": ("--qat", "never", "--prune", 0.5),
    "clustered": ("--qat", "never", "--cluster", 16),
}
app = new_app(help="Accuracy, size and time of each way from a run to a bundle.")


@app.command()
def measure(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.")],
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Convert each run each way and say what it cost."""
    figures = {run.read(folder).info.name: _of_run(folder) for folder in folders}
    measured.tell({"runs": figures}, result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _of_run(folder: Path) -> dict[str, Any]:
    ways = {name: _made(folder, options) for name, options in _WAYS.items()}
    forms = ways["tensorflow"].pop("others")
    exact = forms["float32"]
    for way in ways.values():
        way.pop("others", None)
        if "accuracy" not in way:
            continue
        way["size_ratio"] = way["size"] / exact["size"]
        way["drop_points"] = 100 * (exact["accuracy"] - way["accuracy"])
    info = run.read(folder).info
    return {
        "n": len(run.read(folder).holdout().ids),
        "preset": info.config.get("preset"),
        "float": forms,
        "int8": ways,
        "gate": _gate(folder),
    }


def _made(folder: Path, options: tuple[object, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as room:
        began = time.monotonic()
        try:
            told = commands.kit("convert", "--int8", folder, "--out", Path(room) / "bundle", *_OPEN, *options)
        except SystemExit as refused:
            # Not every way can do every network.
            return {"exit_code": refused.code}
        seconds = time.monotonic() - began
    forms: dict[str, dict[str, Any]] = {form.pop("form"): form for form in told["forms"]}
    return forms.pop("int8") | {"seconds": round(seconds, 1), "others": forms}


def _gate(folder: Path) -> dict[str, Any]:
    """Say what the default command does: its bundle's figures, or that there is none."""
    with tempfile.TemporaryDirectory() as room:
        try:
            told = commands.kit("convert", "--int8", folder, "--out", Path(room) / "bundle")
        except SystemExit as refused:
            return {"exit_code": refused.code}
    card = told["scorecard"]
    keys = ("drop_points", "agreement")
    return {"exit_code": 0, "quantization": told["quantization"]} | {key: card[key] for key in keys}


if __name__ == "__main__":
    sys.exit(run_command(app))
