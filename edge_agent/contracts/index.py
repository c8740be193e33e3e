"""`index.csv`: photos with label, part, group, box, and what their classes are called.

A row that cannot be used is listed with its line and left out. A class that is described in two
ways is an error: nobody but its author knows which is right.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edge_agent.contracts.entries import entries, places, refuse
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Box, Dataset, Part, Photo, Rejected

INDEX = "index.csv"
PARTS: tuple[Part, ...] = ("train", "val", "test")
PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
COLUMNS = ("path", "label", "split", "group", "x0", "y0", "x1", "y1", "gtin", "name", "coarse")
_OF_A_CLASS = ("gtin", "name", "coarse")


def write_index(folder: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write (anew) the `index.csv` of a folder; columns as in `COLUMNS`, `path` relative to the folder."""
    staged = folder / f".tmp-{INDEX}"
    with staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    staged.replace(folder / INDEX)


def read_index(path: Path, levels: Literal["fine", "coarse"]) -> Dataset:
    """Read the `index.csv` of a folder.

    Args:
        path: The folder.
        levels: Whether `label` or, where it is given, `coarse` is the class.

    Raises:
        DataError: No CSV with the needed columns, or classes that cannot be used.
    """
    rejected: list[Rejected] = []
    classes = _Classes(path / INDEX)
    kept: list[tuple[str, Photo]] = []
    for number, row in _csv_rows(path / INDEX):
        try:
            photo = _photo(path, row)
        except ValueError as exc:
            rejected.append(Rejected(f"{INDEX}:{number}", str(exc)))
            continue
        classes.add(row, number)
        kept.append((row["label"], photo))
    described = classes.checked()
    if levels == "coarse" and classes.coarse:
        above = {label: classes.coarse.get(label, label) for label in described}
        kept = [(above[label], photo) for label, photo in kept]
        described = {label: {} for label in sorted(set(above.values()))}
    known = entries(path / INDEX, described)
    place = places(known)
    coarse = (
        tuple(classes.coarse.get(label, label) for label in described)
        if levels == "fine" and classes.coarse
        else ()
    )
    return Dataset(
        path, known, [replace(photo, label=place[label]) for label, photo in kept], rejected, coarse
    )


class _Classes:
    """What the rows say of their classes, gathered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._described: dict[str, dict[str, str]] = {}
        self._problems: list[str] = []

    def add(self, row: dict[str, str], number: int) -> None:
        known = self._described.setdefault(row["label"], {})
        for key in _OF_A_CLASS:
            value = row.get(key)
            if value and known.setdefault(key, value) != value:
                said = f"{known[key][:40]!r} and, in line {number}, {value[:40]!r}"
                self._problems.append(f"{key} of {row['label'][:64]!r}: {said}")

    def checked(self) -> dict[str, dict[str, str]]:
        """Return name and GTIN of each class, in alphabetical order."""
        refuse(self._path, self._problems, "each class described in one way")
        return {
            label: {key: value for key, value in known.items() if key != "coarse"}
            for label, known in sorted(self._described.items())
        }

    @property
    def coarse(self) -> dict[str, str]:
        """The coarse class of each class that has one."""
        return {label: known["coarse"] for label, known in self._described.items() if "coarse" in known}


def _photo(folder: Path, row: dict[str, str]) -> Photo:
    """Return the photo of a row, its class not numbered yet.

    Raises:
        ValueError: The row cannot be used.
    """
    box = _box(row)
    part = _part(row.get("split", ""))
    name = row["path"]
    if not name or not row["label"] or "\x00" in name:
        raise ValueError("path and label must be there")
    return Photo(folder / name, 0, part, row.get("group") or name, name, box)


def _part(text: str) -> Part | None:
    if not text:
        return None
    if text.lower() not in PART_NAMES:
        raise ValueError(f"expected split as one of {', '.join(PARTS)}, or nothing; received {text[:40]!r}")
    return PART_NAMES[text.lower()]


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = {"path", "label"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(
                    f"Expected: columns path and label in {path}. Received: {str(reader.fieldnames)[:300]}.",
                    hint=f"the columns are {', '.join(COLUMNS)}; the first two are needed",
                )
            for row in reader:
                cells = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
                yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"Expected: UTF-8 CSV in {path}. Received: {exc}.") from exc


def _box(row: dict[str, str]) -> Box | None:
    corners = [row.get(key, "") for key in ("x0", "y0", "x1", "y1")]
    if not any(corners):
        return None
    try:
        x0, y0, x1, y1 = (round(float(corner)) for corner in corners)
    except (ValueError, OverflowError):
        told = ",".join(corner[:20] for corner in corners)
        raise ValueError(f"expected x0,y0,x1,y1 as numbers; received {told}") from None
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"expected x0 < x1 and y0 < y1; received {x0},{y0},{x1},{y1}")
    return x0, y0, x1, y1
