"""Classes as people described them in folders and files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.validation import explain

MOST_CLASSES = 100_000
"""As many as a bundle's manifest may name."""
_SHOWN = 5


def entries(path: Path, described: Mapping[str, Mapping[str, str]]) -> list[LabelEntry]:
    """Return the classes, in order; `described` gives name and GTIN of some by label.

    Raises:
        DataError: Labels or GTINs that cannot be used: all of them, with their reasons.
    """
    if len(described) > MOST_CLASSES:
        raise DataError(
            f"Expected: at most {MOST_CLASSES} classes in {path}. Received: {len(described)}.",
            hint="a class is a product, not a photo; check which column or folder names the class",
        )
    found, problems = [], []
    for label, extra in described.items():
        try:
            found.append(LabelEntry.model_validate({"label": label} | dict(extra)))
        except ValidationError as exc:
            problems.append(f"class {label[:64]!r}: {explain(exc)}")
    refuse(path, problems, "usable class names and GTINs")
    return found


def refuse(path: Path, problems: list[str], wanted: str) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        DataError: There are.
    """
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(f"Expected: {wanted} in {path}. Received: {'; '.join(problems[:_SHOWN])}{more}.")


def places(classes: Iterable[LabelEntry]) -> dict[str, int]:
    """Return the number of each class by its label."""
    return {entry.label: number for number, entry in enumerate(classes)}
