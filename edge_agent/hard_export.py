"""Hard examples out of the device's folder: crops, and an `index.csv` for `train` once it is labelled."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edge_agent.collect import refuse_full
from edge_agent.contracts.dataset import INDEX
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.photos import Progress, read_picture
from edge_agent.contracts.times import rfc3339
from edge_agent.hard_folder import Example, Kept, Why, head, listed

COLUMNS = (
    *("path", "label", "group"),
    *("guess", "confidence", "second", "second_confidence", "confirmed"),
    *("reason", "slot", "time", "model", "version"),
)
"""Of the index. `label` is left to a person; the rest of what `train` does not know helps that person."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        reasons: How many crops for each reason.
        names: Of the files in the device's folder that were exported.
        damaged: How many files there are no whole examples.
    """

    reasons: Counter[Why]
    names: tuple[str, ...]
    damaged: int


def export(folder: Path, out: Path, *, device: str, progress: Progress[Kept]) -> Exported:
    """Copy the hard examples of a device; the agent may run meanwhile.

    Args:
        folder: Of the examples, as the agent keeps it.
        out: New folder; it appears whole or not at all.
        device: Part of each crop's group: crops of one slot and day stand on one side of a split.
        progress: Shows how far it has come.

    Raises:
        DataError: There is none, or they cannot be read or written.
    """
    refuse_full(out)
    try:
        kept = listed(folder)
    except OSError as exc:
        raise _unreadable(folder, exc) from exc
    try:
        with written_beside(out) as staged:
            staged.mkdir()
            found = _copied(folder, kept, staged, device, progress)
            if not found.names:
                raise _nothing(folder, found.damaged)
    except OSError as exc:
        raise DataError(f"Expected: to write --out {out}. Received: {exc.strerror}.") from exc
    return found


def clear(folder: Path, found: Exported) -> None:
    """Remove what was exported from the device's folder; what came since stays.

    Raises:
        DataError: It cannot be removed.
    """
    try:
        for name in found.names:
            (folder / name).unlink(missing_ok=True)
    except OSError as exc:
        raise DataError(
            f"Expected: to remove what was exported from {folder}. Received: {exc.strerror}.",
            hint="everything was exported; run as the user that the agent runs as",
        ) from exc


def _copied(folder: Path, kept: list[Kept], staged: Path, device: str, progress: Progress[Kept]) -> Exported:
    rows: list[dict[str, object]] = []
    names, reasons, damaged = [], Counter[Why](), 0
    for item in progress(kept, len(kept)):
        picture = _read(folder, item.name)
        if picture is None:
            continue
        file = Path(item.slot) / f"{item.ms:013d}-{item.why}.jpg"
        (staged / item.slot).mkdir(exist_ok=True)
        (staged / file).write_bytes(picture)
        example = _whole(staged / file)
        if example is None:
            (staged / file).unlink()
            damaged += 1
            continue
        rows.append(_row(file, example, device))
        names.append(item.name)
        reasons[item.why] += 1
    with (staged / INDEX).open("w", newline="", encoding="utf-8") as index:
        writer = csv.DictWriter(index, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return Exported(reasons, tuple(names), damaged)


def _read(folder: Path, name: str) -> bytes | None:
    """Return a file's content; None where it had to go for another meanwhile."""
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _unreadable(folder, exc) from exc


def _whole(path: Path) -> Example | None:
    """Return what is known of a picture, if both it and that can be read."""
    try:
        read_picture(path, as_named=True)
    except DataError:
        return None
    return head(path)


def _row(file: Path, example: Example, device: str) -> dict[str, object]:
    told = example.model_dump(mode="json", exclude={"thumb", "why", "time"}, exclude_none=True)
    return told | {
        "path": str(file),
        "group": f"{device}/{example.slot}/{example.time:%Y-%m-%d}",
        "reason": example.why.value,
        "time": rfc3339(example.time),
    }


def _nothing(folder: Path, damaged: int) -> DataError:
    received = f"none in {folder}" + (f", and {damaged} damaged files" if damaged else "")
    return DataError(
        f"Expected: hard examples. Received: {received}.",
        hint="device.yaml must say `hard_examples: {enabled: true}`, and the agent must have run since",
    )


def _unreadable(folder: Path, exc: OSError) -> DataError:
    return DataError(
        f"Expected: to read {folder}. Received: {exc.strerror}.",
        hint="the folder is for the agent alone: run as the user that the agent runs as",
    )
