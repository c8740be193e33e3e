"""The confusion matrix as a picture: SVG, which shows every letter of a label and opens in any browser."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.files import written_beside

SUFFIX = ".svg"
_CELL_PX = 26
_LETTER_PX = 6.5
_MARGIN_PX = 30
_LONGEST_LABEL = 32
_LIGHT, _DARK = (255, 255, 255), (20, 66, 122)
_DARK_FROM = 0.5
_FIGURES = 4
"""Digits of a count that fit into a cell at full size."""


def check_name(path: Path) -> None:
    """Refuse a name that is no picture of ours, before anything has been measured.

    Raises:
        UsageError: Another suffix.
    """
    if path.suffix.lower() != SUFFIX:
        raise UsageError(f"Expected: --confusion as a file name ending in {SUFFIX}. Received: {path.name!r}.")


def write(path: Path, labels: Sequence[str], table: NDArray[np.int64]) -> None:
    """Write the picture; a file that is there is replaced.

    Raises:
        DataError: It cannot be written.
    """
    try:
        with written_beside(path) as staged:
            staged.write_text(draw(labels, table), encoding="utf-8")
    except OSError as exc:
        raise DataError(
            f"Expected: a picture that can be written. Received: {path}: {exc.strerror}."
        ) from exc


def draw(labels: Sequence[str], table: NDArray[np.int64]) -> str:
    """Return the SVG: a row for each true class, a column for each answer.

    A cell holds the number of photos; the darker, the larger the share of its row. Pointing at a cell
    says the same in words.

    Args:
        labels: Of the classes.
        table: int64, (true class, answer).
    """
    # Some characters that a label may hold are none of XML's.
    labels = ["".join(letter if letter.isprintable() else "?" for letter in label) for label in labels]
    names = [label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…" for label in labels]
    room = max(map(len, names)) * _LETTER_PX + _MARGIN_PX
    side = _CELL_PX * len(names)
    size = f"{room + side + _MARGIN_PX:.0f}"
    picture = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", width=size, height=size)
    picture.set("viewBox", f"0 0 {size} {size}")
    picture.set("font-family", "sans-serif")
    picture.set("font-size", "11")
    ET.SubElement(picture, "rect", width="100%", height="100%", fill="white")
    _text(picture, "rows: what it is; columns: what it was called", 6, 16)
    for place, name in enumerate(names):
        middle = room + _CELL_PX * (place + 0.5)
        _text(picture, name, room - 6, middle + 4, anchor="end")
        turned = _text(picture, name, 0, 0)
        turned.set("transform", f"translate({middle + 4:.1f} {room - 6:.1f}) rotate(-90)")
    totals = np.maximum(table.sum(axis=1), 1).tolist()
    for row, column in np.argwhere(table).tolist():
        n, total = int(table[row, column]), totals[row]
        told = f"{n} of {total} of {labels[row]}: called {labels[column]}"
        _cell(picture, room + _CELL_PX * column, room + _CELL_PX * row, n, n / total, told)
    frame = {"x": f"{room:.1f}", "y": f"{room:.1f}", "width": f"{side}", "height": f"{side}"}
    ET.SubElement(picture, "rect", frame, fill="none", stroke="#999")
    return ET.tostring(picture, encoding="unicode") + "\n"


def _text(parent: ET.Element, text: str, x: float, y: float, *, anchor: str = "start") -> ET.Element:
    element = ET.SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})
    element.text = text
    return element


def _cell(parent: ET.Element, x: float, y: float, n: int, share: float, told: str) -> None:
    cell = ET.SubElement(parent, "g")
    ET.SubElement(cell, "title").text = told
    red, green, blue = (
        round(light + (dark - light) * share) for light, dark in zip(_LIGHT, _DARK, strict=True)
    )
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{_CELL_PX}", "height": f"{_CELL_PX}"}
    ET.SubElement(cell, "rect", place, fill=f"rgb({red},{green},{blue})")
    count = _text(cell, str(n), x + _CELL_PX / 2, y + _CELL_PX / 2 + 4, anchor="middle")
    count.set("fill", "white" if share > _DARK_FROM else "black")
    if len(str(n)) > _FIGURES - 1:
        count.set("font-size", f"{11 * (_FIGURES - 1) / len(str(n)):.1f}")
