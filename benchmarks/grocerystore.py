"""GroceryStore: cross-validation on its train list, and the one final run that meets its validation list.

Usage: python benchmarks/grocerystore.py cv DATA OUT [--folds 5] [--fold K] [-- TRAIN OPTIONS]
       python benchmarks/grocerystore.py final DATA OUT --teacher-seed 1 --teacher-seed 2 [-- TRAIN OPTIONS]

Both only lead the real command line (each command is shown), and both can be started again: what is
made already is not made twice, and a training that was killed goes on.

`cv` chooses: photos of a class that look as if one visit to a store had given them stay together, so
that a fold asks for shelves that training has not seen. File numbers tell nothing: the lists are
shuffled. `final` states: all of the train list is trained on, the photos of `val.txt` are the
holdout, and nothing is chosen by it.

Klasson, Zhang, Kjellstrom 2019, "A Hierarchical Grocery Store Image Dataset" (WACV).
"""

import shlex
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks import commands, measured
from edge_agent.contracts import dataset, photos
from edge_agent.contracts.command import new_app, run_command, shown
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.photos import Dataset, Photo

_SCRIPT = "grocerystore.py"
_SIDE_PX = 64
app = new_app(help="Cross-validation and the final figure on GroceryStore.")
_Data = Annotated[Path, typer.Argument(help="Folder with train.txt, val.txt and classes.csv.")]
_Out = Annotated[Path, typer.Argument(help="Folder for runs; made if needed.")]
_Options = Annotated[list[str] | None, typer.Argument(help="After --: options of `shelfkit train`.")]
_Visit = Annotated[int, typer.Option(min=1, help="Photos that one visit gave, on average.")]
_Result = Annotated[Path | None, typer.Option(help="JSON file for the figures.")]


@dataclass(frozen=True, slots=True)
class Listed:
    """One photo of the lists: which visit it seems to come from, and which part it is in the end."""

    photo: Photo
    visit: str
    split: str


@app.command()
def cv(
    data: _Data,
    out: _Out,
    options: _Options = None,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Parts of the train list.")] = 5,
    fold: Annotated[int | None, typer.Option(min=0, help="Only this one, from 0; default: all.")] = None,
    visit: _Visit = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds.")] = 7,
    result: _Result = None,
) -> None:
    """Train on all folds but one, measure on that one, for each; print mean and spread."""
    chosen = range(folds) if fold is None else [fold]
    if max(chosen) >= folds:
        raise UsageError(f"Expected: --fold below {folds}. Received: {fold}.")
    found = dataset.read(data)
    listed = [item for item in _listed(found, visit) if item.split == "train"]
    held = _folds(listed, folds, seed)
    scores = []
    for number in chosen:
        place = out / f"photos-{folds}-{number}"
        parts = ["test" if part == number else "train" for part in held]
        write_folder(place, found, [Listed(x.photo, x.visit, y) for x, y in zip(listed, parts, strict=True)])
        info = commands.trained(place, out / f"fold-{folds}-{number}", options or [])
        scores.append({"fold": number} | _of_run(info.metrics))
    accuracies = [score["accuracy"] for score in scores]
    figures = {
        "folds": folds,
        "visit": visit,
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
    visit: _Visit = 8,
    result: _Result = None,
) -> None:
    """Train teachers and a student on the whole train list, convert, and measure on `val.txt` once."""
    found = dataset.read(data)
    place = out / "photos"
    write_folder(place, found, _listed(found, visit))
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


def _listed(found: Dataset, visit: int) -> list[Listed]:
    kept = replace(found, photos=[photo for photo in found.photos if photo.part in {"train", "val"}])
    if not any(photo.part == "train" for photo in kept.photos):
        raise DataError(f"Expected: GroceryStore's train.txt in {found.path}. Received: no photo of it.")
    pictures, _ = photos.decode(kept, _SIDE_PX, _SIDE_PX, shown("looking for visits"))
    visits = visits_of(pictures.images, pictures.labels, visit)
    return [
        # The two lists share no group: their split is given.
        Listed(photo, f"{photo.part}-{place}", "test" if photo.part == "val" else "train")
        for photo, place in zip(pictures.photos, visits, strict=True)
    ]


def visits_of(images: NDArray[np.uint8], labels: NDArray[np.int64], size: int) -> list[str]:
    """Group the photos of each class by their colours: one visit, one shelf, one light.

    Ward's method (1963) on Hellinger distances of colour histograms.

    Args:
        images: uint8, (n, height, width, 3), RGB.
        labels: int64, (n,).
        size: Photos in a group, on average.

    Returns:
        The name of each photo's group.
    """
    colours = np.sqrt([_histogram(image) for image in images])
    names = [""] * len(images)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        groups = min(len(rows), max(2, round(len(rows) / size)))
        found = np.zeros(1, np.int64)
        if len(rows) > 1:
            found = AgglomerativeClustering(groups, linkage="ward").fit_predict(colours[rows])
        for row, group in zip(rows, found, strict=True):
            names[row] = f"{label}-{group}"
    return names


def _histogram(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return shares of 8 hues x 4 saturations x 4 values, float32 (128,)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256])
    return np.asarray(counts.ravel() / counts.sum(), np.float32)


def _folds(listed: list[Listed], folds: int, seed: int) -> list[int]:
    """Return the fold of each photo; visits stay whole, classes are spread."""
    labels = [item.photo.label for item in listed]
    groups = [item.visit for item in listed]
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
                "group": item.visit,
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
