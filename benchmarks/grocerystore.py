"""GroceryStore: cross-validation on its train list, and the one final run that meets its validation list.

Usage: python benchmarks/grocerystore.py cv DATA OUT [--folds 5] [--fold K] [-- TRAIN OPTIONS]
       python benchmarks/grocerystore.py final DATA OUT --teacher-seed 1 --teacher-seed 2 [-- TRAIN OPTIONS]

Both only lead the real command line (each command is shown), and both can be started again: what is
made already is not made twice, and a training that was killed goes on.

`cv` chooses: blocks of consecutive file numbers of a class stay together, because photos that were
taken one after another are near copies. `final` states: all of the train list is trained on, the
photos of `val.txt` are the holdout, and nothing is chosen by it.

Klasson, Zhang, Kjellstrom 2019, "A Hierarchical Grocery Store Image Dataset" (WACV).
"""

import re
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks import commands, measured
from edge_agent.contracts import dataset
from edge_agent.contracts.command import new_app, run_command
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.photos import Dataset, Photo

_SCRIPT = "grocerystore.py"
app = new_app(help="Cross-validation and the final figure on GroceryStore.")
_Data = Annotated[Path, typer.Argument(help="Folder with train.txt, val.txt and classes.csv.")]
_Out = Annotated[Path, typer.Argument(help="Folder for runs; made if needed.")]
_Options = Annotated[list[str] | None, typer.Argument(help="After --: options of `shelfkit train`.")]
_Block = Annotated[int, typer.Option(min=1, help="Consecutive file numbers that stay together.")]
_Result = Annotated[Path | None, typer.Option(help="JSON file for the figures.")]


@dataclass(frozen=True, slots=True)
class Listed:
    """One photo of the lists: which block it stands in, and which part it is in the end."""

    photo: Photo
    block: str
    split: str


@app.command()
def cv(
    data: _Data,
    out: _Out,
    options: _Options = None,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Parts of the train list.")] = 5,
    fold: Annotated[int | None, typer.Option(min=0, help="Only this one, from 0; default: all.")] = None,
    block: _Block = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds.")] = 7,
    result: _Result = None,
) -> None:
    """Train on all folds but one, measure on that one, for each; print mean and spread."""
    chosen = range(folds) if fold is None else [fold]
    if max(chosen) >= folds:
        raise UsageError(f"Expected: --fold below {folds}. Received: {fold}.")
    found = dataset.read(data)
    listed = [item for item in _listed(found, block) if item.split == "train"]
    held = _folds(listed, folds, seed)
    scores = []
    for number in chosen:
        place = out / f"photos-{folds}-{number}"
        parts = ["test" if part == number else "train" for part in held]
        write_folder(place, found, [Listed(x.photo, x.block, y) for x, y in zip(listed, parts, strict=True)])
        info = commands.trained(place, out / f"fold-{folds}-{number}", options or [])
        scores.append({"fold": number} | _of_run(info.metrics))
    accuracies = [score["accuracy"] for score in scores]
    figures = {
        "folds": folds,
        "block": block,
        "runs": scores,
        "mean": float(np.mean(accuracies)),
        "spread": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
    }
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


@app.command()
def final(  # noqa: PLR0913, PLR0917 - one parameter for each option
    data: _Data,
    out: _Out,
    options: _Options = None,
    teacher_seed: Annotated[list[int] | None, typer.Option(help="Train a teacher; may be repeated.")] = None,
    teacher_options: Annotated[str, typer.Option(help="More options of the teachers.")] = "",
    student_options: Annotated[str, typer.Option(help="More options of the student.")] = "",
    convert_options: Annotated[str, typer.Option(help="Options of `shelfkit convert`.")] = "",
    block: _Block = 5,
    result: _Result = None,
) -> None:
    """Train teachers and a student on the whole train list, convert, and measure on `val.txt` once."""
    found = dataset.read(data)
    place = out / "photos"
    write_folder(place, found, _listed(found, block))
    common = options or []
    teachers = [out / f"teacher-{seed}" for seed in teacher_seed or []]
    for seed, folder in zip(teacher_seed or [], teachers, strict=True):
        more = shlex.split(teacher_options)
        # Their figures on the holdout stay unread: nothing is chosen by them.
        commands.trained(place, folder, [*common, *more, "--seed", str(seed)])
    taught = [word for folder in teachers for word in ("--teacher", str(folder))]
    info = commands.trained(place, out / "student", [*common, *shlex.split(student_options), *taught])
    made = commands.converted(out / "student", out / "bundle", shlex.split(convert_options))
    figures = {
        "teachers": len(teachers),
        "float": _of_run(info.metrics),
        "int8": commands.evaluated(made, place, split="test"),
        "weights_sha256": info.weights_sha256,
        "bundle_sha256": made.sha256,
    }
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _listed(found: Dataset, block: int) -> list[Listed]:
    listed = [
        Listed(photo, block_of(photo.name, block), "test" if photo.part == "val" else "train")
        for photo in found.photos
        if photo.part in {"train", "val"}
    ]
    if not any(item.split == "train" for item in listed):
        raise DataError(f"Expected: GroceryStore's train.txt in {found.path}. Received: no photo of it.")
    return listed


def block_of(name: str, block: int) -> str:
    """Return the block of a photo by its name: `.../Lemon/Lemon_013.jpg` is in the third block of five.

    Raises:
        DataError: The name ends in no number.
    """
    matched = re.fullmatch(r"(.*?)(\d+)\.\w+", name)
    if matched is None:
        raise DataError(f"Expected: photos with numbered names, as Lemon_013.jpg. Received: {name}.")
    return f"{matched[1]}{(int(matched[2]) - 1) // block}"


def _folds(listed: list[Listed], folds: int, seed: int) -> list[int]:
    """Return the fold of each photo; blocks stay whole, classes are spread."""
    labels = [item.photo.label for item in listed]
    groups = [item.block for item in listed]
    folding = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    held = np.zeros(len(listed), np.int64)
    for number, (_, rows) in enumerate(folding.split(labels, labels, groups)):
        held[rows] = number
    return [int(number) for number in held]


def write_folder(place: Path, found: Dataset, listed: list[Listed]) -> None:
    """Write an `index.csv` that names the photos where they are."""
    place.mkdir(parents=True, exist_ok=True)
    dataset.write_index(
        place,
        (
            {
                "path": str((found.path / item.photo.name).resolve()),
                "label": found.labels[item.photo.label],
                "split": item.split,
                "group": item.block,
                "coarse": found.coarse[item.photo.label] if found.coarse else "",
            }
            for item in listed
        ),
    )


def _of_run(metrics: dict[str, Any]) -> dict[str, Any]:
    keys = {"n": "holdout_n", "accuracy": "holdout_accuracy", "accuracy_95": "holdout_accuracy_95"}
    return {key: metrics[name] for key, name in keys.items()} | {"epochs": metrics["epochs"]}


if __name__ == "__main__":
    sys.exit(run_command(app))
