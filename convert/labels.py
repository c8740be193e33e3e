"""A labels file: one class a line, in the order of the model's outputs.

Lines as they are found in the wild: a byte order mark, carriage returns, the number of the class in
front. ImageNet's have spaces, commas and a "crane" twice; a label is a short word, a name is any text.
"""

import re
from pathlib import Path

from pydantic import ValidationError

from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.entries import MOST_CLASSES
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.validation import explain

_MAX_BYTES = 16 * 1024 * 1024
_MAX_LENGTH = 100
_NUMBERED = re.compile(r"(\d{1,6})(?:\s*[:,]\s*|\s+)(\S.*)")
_PLAIN = re.compile(r"\w[\w.-]*")
_HINT = "one class a line, in the order of the model's outputs"


def read(path: Path) -> tuple[list[LabelEntry], list[str]]:
    """Read a labels file.

    Args:
        path: UTF-8 text.

    Returns:
        The classes, and what was made of lines that could not stay as they are.

    Raises:
        DataError: No text, fewer than two lines, an empty one among them, or one that gives no label.
    """
    lines = _lines(path)
    notes: list[str] = []
    if (bare := _without_numbers(lines)) is not None:
        lines = bare
        notes.append(f"{path.name}: the numbers in front of the labels are left out")
    found: dict[str, LabelEntry] = {}
    for number, text in enumerate(lines, start=1):
        label = plain = _label(text)
        count = 1
        while label in found:
            count += 1
            label = f"{plain}-{count}"
        if count > 1:
            notes.append(f"{path.name}:{number}: {text[:80]!r} is {label!r}: {plain!r} is there already")
        try:
            found[label] = LabelEntry(label=label, name="" if text == label else text)
        except ValidationError as exc:
            raise DataError(
                f"Expected: a label in {path}, line {number}. Received: {text[:80]!r} ({explain(exc)}).",
                hint=_HINT,
            ) from exc
    return list(found.values()), notes


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"Expected: a labels file of up to {_MAX_BYTES} bytes. Received: {path}.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise DataError(f"Expected: a labels file at {path}. Received: {exc.strerror}.", hint=_HINT) from exc
    except UnicodeDecodeError as exc:
        raise DataError(
            f"Expected: UTF-8 text in {path}. Received: {exc}.", hint="save the labels as UTF-8"
        ) from exc
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if empty := [number for number, line in enumerate(lines, start=1) if not line and len(lines) > 1]:
        raise DataError(
            f"Expected: a label in every line of {path}. Received: none in line "
            f"{', '.join(map(str, empty[:5]))}.",
            hint="a line for each output of the model; call a class that means nothing `background`",
        )
    if not 2 <= len(lines) <= MOST_CLASSES:  # noqa: PLR2004 - a classifier tells two apart
        raise DataError(
            f"Expected: 2 to {MOST_CLASSES} labels in {path}. Received: {len(lines) if lines[0] else 0}.",
            hint=_HINT,
        )
    return lines


def _without_numbers(lines: list[str]) -> list[str] | None:
    """Return the labels behind numbers that count the classes, in that order; None where none do."""
    found: dict[int, str] = {}
    for line in lines:
        if (match := _NUMBERED.fullmatch(line)) is None:
            return None
        found[int(match[1])] = match[2]
    counted = sorted(found)
    if len(counted) != len(lines) or counted[0] > 1 or counted[-1] - counted[0] != len(lines) - 1:
        return None
    return [found[number] for number in counted]


def _label(text: str) -> str:
    """Return a text as one plain word: its own where it is one, else in small letters with dashes."""
    if _PLAIN.fullmatch(text) and len(text) <= _MAX_LENGTH:
        return text
    return "-".join(re.findall(r"[^\W_]+", text.casefold()))[:_MAX_LENGTH].strip("-")
