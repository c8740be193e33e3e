"""Labelled photos in every layout that the kit reads; train, convert and agent share these readers.

    folder/CLASS/photo.jpg                       one folder for each class
    folder/{train,val,test}/CLASS/photo.jpg      the same, already split
    folder/index.csv                             path,label[,split,group,x0,y0,x1,y1,gtin,name]
    folder/{train,val,test}.txt, classes.csv     GroceryStore: path, fine id, coarse id
    file.npz                                     x_train, y_train, x_test, y_test, as Keras has them

A photo that cannot be used is listed with its reason and left out; it never stops anything.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_agent.contracts.arrays import read_npz
from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Box, Dataset, Part, Photo, Rejected
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.validation import explain

LEVELS: tuple[Literal["fine", "coarse"], ...] = ("fine", "coarse")
PARTS: tuple[Part, ...] = ("train", "val", "test")
_PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
INDEX = "index.csv"
COLUMNS = ("path", "label", "split", "group", "x0", "y0", "x1", "y1", "gtin", "name")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_HINT = "lay photos out as one folder for each class, or write an index.csv with path,label"


def read(path: Path, *, levels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """Find the layout of a data set and list its photos; no picture is decoded yet.

    Args:
        path: A folder, or an .npz file.
        levels: Which classes to use where a data set (GroceryStore) has two levels of them.

    Raises:
        DataError: Nothing there, no layout that the kit knows, or no class with a photo.
    """
    if path.suffix == ".npz":
        found = _read_arrays(path)
    elif not path.is_dir():
        raise DataError(f"Expected: a folder of photos or an .npz file. Received: {path}.", hint=_HINT)
    elif (path / INDEX).is_file():
        found = _read_index(path)
    elif any((path / f"{part}.txt").is_file() for part in PARTS):
        found = _read_lists(path, levels)
    else:
        found = _read_folders(path)
    _refuse_empty(found)
    return found


def _refuse_empty(found: Dataset) -> None:
    if not found.photos:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in found.rejected[:3])
        received = f"none in {found.path}" + (f" that can be used ({reasons})" if reasons else "")
        raise DataError(f"Expected: labelled photos. Received: {received}.", hint=_HINT)


def write_index(folder: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write (anew) the `index.csv` of a folder; columns as in `COLUMNS`, `path` relative to the folder."""
    staged = folder / f".tmp-{INDEX}"
    with staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    staged.replace(folder / INDEX)


def _read_folders(path: Path) -> Dataset:
    named = {entry: _PART_NAMES.get(entry.name.lower()) for entry in _folders(path)}
    parts = [(part, entry) for entry, part in named.items() if part]
    if parts and len(parts) < len(named):
        other = next(entry.name for entry, part in named.items() if part is None)
        raise DataError(
            f"Expected: classes, or train, val and test with classes in them. "
            f"Received: both {parts[0][1].name!r} and {other!r} in {path}.",
            hint="move the classes into the parts, or the parts elsewhere",
        )
    roots: list[tuple[Part | None, Path]] = [*parts] or [(None, path)]
    names = sorted({entry.name for _, root in roots for entry in _folders(root)})
    classes = _entries(path, {name: {} for name in names})
    places = {entry.label: index for index, entry in enumerate(classes)}
    photos: list[Photo] = []
    for part, root in roots:
        for folder in _folders(root):
            files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in SUFFIXES]
            if not files and part in {None, "train"}:
                raise DataError(
                    f"Expected: photos in every class. Received: none in {folder}.",
                    hint="put photos there, or remove the folder",
                )
            for file in files:
                name = str(file.relative_to(path))
                photos.append(Photo(file, places[folder.name], part, name, name))
    return Dataset(path, classes, photos)


def _folders(path: Path) -> list[Path]:
    return [entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]


def _entries(path: Path, described: dict[str, dict[str, str]]) -> list[LabelEntry]:
    try:
        return [LabelEntry.model_validate({"label": label} | extra) for label, extra in described.items()]
    except ValidationError as exc:
        raise DataError(f"Expected: usable class names in {path}. Received: {explain(exc)}.") from exc


def _read_index(path: Path) -> Dataset:
    rows = list(_csv_rows(path / INDEX))
    rejected: list[Rejected] = []
    described: dict[str, dict[str, str]] = {}
    kept: list[tuple[dict[str, str], Part | None, Box | None]] = []
    for number, row in enumerate(rows, start=2):
        try:
            box = _box(row)
            part = _part(row.get("split", ""))
            if not row.get("path") or not row.get("label") or "\x00" in row["path"]:
                raise ValueError("path and label must be there")  # noqa: TRY301 - one place tells
        except ValueError as exc:
            rejected.append(Rejected(f"{INDEX}:{number}", str(exc)))
            continue
        extra = {key: row[key] for key in ("gtin", "name") if row.get(key)}
        described[row["label"]] = described.get(row["label"], {}) | extra
        kept.append((row, part, box))
    classes = _entries(path / INDEX, dict(sorted(described.items())))
    places = {entry.label: index for index, entry in enumerate(classes)}
    photos = [
        Photo(
            path / row["path"],
            places[row["label"]],
            part,
            row.get("group") or row["path"],
            row["path"],
            box,
        )
        for row, part, box in kept
    ]
    return Dataset(path, classes, photos, rejected)


def _part(text: str) -> Part | None:
    if not text:
        return None
    if text.lower() not in _PART_NAMES:
        raise ValueError(f"expected split as one of {', '.join(PARTS)}, or nothing; received {text!r}")
    return _PART_NAMES[text.lower()]


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = {"path", "label"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(
                    f"Expected: columns path and label in {path}. Received: {reader.fieldnames}.",
                    hint=f"the columns are {', '.join(COLUMNS)}; the first two are needed",
                )
            for row in reader:
                yield {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
    except (UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"Expected: UTF-8 CSV in {path}. Received: {exc}.") from exc


def _box(row: dict[str, str]) -> Box | None:
    corners = [row.get(key, "") for key in ("x0", "y0", "x1", "y1")]
    if not any(corners):
        return None
    try:
        x0, y0, x1, y1 = (round(float(corner)) for corner in corners)
    except (ValueError, OverflowError):
        raise ValueError(f"expected x0,y0,x1,y1 as numbers; received {','.join(corners)}") from None
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"expected x0 < x1 and y0 < y1; received {x0},{y0},{x1},{y1}")
    return x0, y0, x1, y1


def _read_lists(path: Path, levels: Literal["fine", "coarse"]) -> Dataset:
    names = _class_names(path / "classes.csv", levels)
    photos, rejected = [], []
    for part in PARTS:
        file = path / f"{part}.txt"
        for number, line in enumerate(_lines(file) if file.is_file() else (), start=1):
            fields = [item.strip() for item in line.split(",")]
            try:
                picture, fine, coarse = fields[0], int(fields[1]), int(fields[2])
                label = list(names).index(fine if levels == "fine" else coarse)
            except (IndexError, ValueError):
                rejected.append(
                    Rejected(f"{file.name}:{number}", f"expected path, id, id; received {line!r}")
                )
                continue
            photos.append(Photo(path / picture, label, part, picture, picture))
    classes = _entries(path / "classes.csv", {name: {} for name in names.values()})
    return Dataset(path, classes, photos, rejected)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as exc:
        raise DataError(f"Expected: UTF-8 text in {path}. Received: {exc}.") from exc


def _class_names(path: Path, levels: Literal["fine", "coarse"]) -> dict[int, str]:
    """Return class names by id from a GroceryStore `classes.csv` (fine name, id, coarse name, id, ...)."""
    names: dict[int, str] = {}
    first = 0 if levels == "fine" else 2
    try:
        for row in csv.reader(_lines(path)):
            if len(row) > first + 1 and row[first + 1].strip().isdigit():
                names[int(row[first + 1])] = row[first].strip()
    except OSError as exc:
        raise DataError(
            f"Expected: {path.name} with the names of the classes beside the lists. Received: {exc.strerror}."
        ) from exc
    if not names:
        raise DataError(f"Expected: rows of name, id, coarse name, coarse id in {path}. Received: none.")
    return dict(sorted(names.items()))


def _read_arrays(path: Path) -> Dataset:
    photos: list[Photo] = []
    highest = -1
    for part in ("train", "test"):
        images, labels = read_npz(path, (f"x_{part}", f"y_{part}"))
        numbers = labels.dtype.kind in "iu"
        labels = labels.reshape(-1).astype(np.int64) if numbers else labels
        pictures = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in {1, 3})  # noqa: PLR2004 - grey, RGB
        whole = numbers and len(images) == len(labels) and labels.min(initial=0) >= 0
        if images.dtype != np.uint8 or not pictures or not whole:
            raise DataError(
                f"Expected: x_{part} as uint8 pictures, grey or RGB, and their numbers in y_{part}. "
                f"Received: {images.dtype} {images.shape} and {labels.dtype} {labels.shape}."
            )
        highest = max(highest, int(labels.max(initial=-1)))
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = f"{part}/{number}"
            photos.append(Photo(_bgr(image), int(label), part, name, name))
    classes = [LabelEntry(label=str(index)) for index in range(highest + 1)]
    return Dataset(path, classes, photos)


def _bgr(image: NDArray[np.uint8]) -> Image:
    """Return a Keras picture (RGB or grey) as the rest of the kit has them."""
    grey = image.ndim == 2 or image.shape[2] == 1  # noqa: PLR2004 - height and width alone
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if grey else cv2.COLOR_RGB2BGR), np.uint8)
