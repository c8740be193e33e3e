"""The GroceryStore layout: lists of `path, fine id, coarse id`, and a table of both levels of classes.

Klasson, Zhang, Kjellstrom 2019, "A Hierarchical Grocery Store Image Dataset with Visual and
Semantic Labels" (WACV); the layout is that of its published archive.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.contracts.entries import entries, places
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.index import PARTS
from edge_agent.contracts.photos import Dataset, Photo, Rejected

CLASSES = "classes.csv"


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    coarse_id: int
    coarse: str


def is_here(path: Path) -> bool:
    """Whether a folder has this layout."""
    return any((path / f"{part}.txt").is_file() for part in PARTS)


def read_lists(path: Path, levels: Literal["fine", "coarse"]) -> Dataset:
    """Read the lists of a folder; with fine classes, each keeps its coarse one.

    Raises:
        DataError: `classes.csv` is missing or says nothing.
    """
    table = dict(sorted(_table(path / CLASSES).items()))
    fine = levels == "fine"
    names = {number: row.name for number, row in table.items()}
    if not fine:
        names = dict(sorted({row.coarse_id: row.coarse for row in table.values()}.items()))
    # Two ids of one name are one class.
    classes = entries(path / CLASSES, {name: {} for name in names.values()})
    place = places(classes)
    photos, rejected = [], []
    for file, number, line, part in _lines_of_parts(path):
        fields = [item.strip() for item in line.split(",")]
        try:
            picture, label = fields[0], place[names[int(fields[1 if fine else 2])]]
        except (IndexError, KeyError, ValueError):
            said = f"expected path, id, id, as in {CLASSES}; received {line[:80]!r}"
            rejected.append(Rejected(f"{file}:{number}", said))
            continue
        if not picture or "\x00" in picture:
            rejected.append(Rejected(f"{file}:{number}", f"expected a path; received {line[:80]!r}"))
            continue
        photos.append(Photo(path / picture, label, part, picture, picture))
    above = {row.name: row.coarse for row in table.values()} if fine else {}
    coarse = tuple(above[entry.label] for entry in classes) if above else ()
    return Dataset(path, classes, photos, rejected, coarse)


def _lines_of_parts(path: Path) -> Iterator[tuple[str, int, str, Literal["train", "val", "test"]]]:
    for part in PARTS:
        file = path / f"{part}.txt"
        for number, line in enumerate(_lines(file) if file.is_file() else (), start=1):
            yield file.name, number, line, part


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as exc:
        raise DataError(f"Expected: UTF-8 text in {path}. Received: {exc}.") from exc


def _table(path: Path) -> dict[int, _Row]:
    """Return the classes by fine id (name, id, coarse name, coarse id, anything else)."""
    rows: dict[int, _Row] = {}
    try:
        for cells in csv.reader(_lines(path)):
            name, number, coarse, coarse_number = (cell.strip() for cell in [*cells, "", "", "", ""][:4])
            if number.isdecimal() and coarse_number.isdecimal():
                rows[int(number)] = _Row(name, int(coarse_number), coarse)
    except OSError as exc:
        raise DataError(
            f"Expected: {path.name} with the names of the classes beside the lists. Received: {exc.strerror}."
        ) from exc
    except (csv.Error, ValueError) as exc:
        raise DataError(f"Expected: CSV in {path}. Received: {exc}.") from exc
    if not rows:
        raise DataError(f"Expected: rows of name, id, coarse name, coarse id in {path}. Received: none.")
    return rows
