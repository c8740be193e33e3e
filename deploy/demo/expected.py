"""What a right agent must say, told from script and planogram alone; knows nothing of the agent's code."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.events import Kind
from edge_agent.contracts.identifiers import EMPTY
from edge_agent.contracts.planogram import Planogram

EARLY_S, LATE_S = 1.0, 8.0
"""An event belongs to a moment of the script if it reaches the recorder this close to it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One event that must come.

    Attributes:
        at: Seconds of the script at which it is in the picture, the hand gone.
        kind: Of event.
        about: Slot, product, or fault.
        detail: State of the slot, or nothing.
    """

    at: float
    kind: str
    about: str
    detail: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What a received event must have in common with it."""
        return self.kind, self.about, self.detail


def read_script(path: Path) -> dict[str, Any]:
    """Read the ground truth of a scene.

    Raises:
        DataError: It cannot be read.
    """
    try:
        script: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DataError(f"Expected: a script at {path}. Received: {exc}.") from exc
    return script


def expect(script: Mapping[str, Any], shelf: Planogram) -> list[Expected]:
    """Return every event of slots, products and camera, in the order of their moments."""
    return sorted([*_stock(script, shelf), *_faults(script)], key=lambda item: item.at)


def write_expected(path: Path, expected: list[Expected]) -> None:
    """Write them down, before anybody can know better."""
    path.write_text(json.dumps([asdict(item) for item in expected], indent=1) + "\n", encoding="utf-8")


def _stock(script: Mapping[str, Any], shelf: Planogram) -> Iterator[Expected]:
    belongs = {slot.id: slot.product for slot in shelf.slots}
    there: dict[str, str] = dict(script["start"])
    for change in script["changes"]:
        slot, at = change["slot"], change["at"]
        product = next(item for item in shelf.products if item.label == belongs[slot])
        before, level_before = there[slot], _level(there, belongs, product.label, product.low_at)
        there[slot] = change["label"]
        state = _state(there[slot], belongs[slot])
        yield Expected(at, Kind.SLOT_CHANGED, slot, state)
        if _state(before, belongs[slot]) == "misplaced" and state != "misplaced":
            yield Expected(at, Kind.MISPLACED_CLEARED, slot, state)
        if state == "misplaced":
            yield Expected(at, Kind.MISPLACED, slot, state)
        level = _level(there, belongs, product.label, product.low_at)
        if level != level_before:
            kind = {"out": Kind.OUT_OF_STOCK, "low": Kind.LOW_STOCK, "ok": Kind.RESTOCKED}[level]
            yield Expected(at, kind, product.label)


def _state(label: str, belongs: str) -> str:
    if label == EMPTY:
        return "empty"
    return "present" if label == belongs else "misplaced"


def _level(there: Mapping[str, str], belongs: Mapping[str, str], product: str, low_at: int) -> str:
    filled = sum(there[slot] == product for slot, owner in belongs.items() if owner == product)
    if filled == 0:
        return "out"
    return "low" if filled <= low_at else "ok"


def _faults(script: Mapping[str, Any]) -> Iterator[Expected]:
    for cover in script["covers"]:
        yield Expected(cover["from"], Kind.CAMERA_FAULT, "blocked")
        yield Expected(cover["until"], Kind.CAMERA_FAULT_CLEARED, "blocked")
