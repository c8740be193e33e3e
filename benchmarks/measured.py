"""Measured figures as small JSON files: what was run, on what machine, when, and what came out."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edge_agent.contracts.command import print_json
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside

_PACKAGES = ("shelfkit", "keras", "tensorflow", "jax", "ai-edge-litert", "numpy", "opencv-python-headless")
_GIB = 2**30


def write(
    path: Path, *, script: str, command: Sequence[str], at: datetime, figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Write one result and return it.

    Args:
        path: The JSON file; replaced as a whole.
        script: Name of the script in `benchmarks/`.
        command: Repeats it. Folders of this machine are left out: of an absolute path the name stays.
        at: When it was measured; the file keeps the day.
        figures: JSON values.

    Raises:
        DataError: The file cannot be written.
    """
    result = {
        "script": script,
        "command": " ".join(shown(part) for part in command),
        "machine": machine(),
        "date": at.date().isoformat(),
        "versions": versions(),
        "figures": dict(figures),
    }
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as staged:
            staged.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise DataError(f"Expected: a result that can be written. Received: {path}: {exc.strerror}.") from exc
    return result


def tell(figures: Mapping[str, Any], result: Path | None, *, script: str, at: datetime) -> None:
    """Print the figures of this process' command, and write them where that was asked for.

    Args:
        figures: JSON values.
        result: The JSON file; None: only print.
        script: Name of the script in `benchmarks/`.
        at: When it was measured.

    Raises:
        DataError: The file cannot be written.
    """
    if result is not None:
        write(result, script=script, command=command(script), at=at, figures=figures)
    print_json(figures)


def command(script: str, arguments: Sequence[str] | None = None) -> list[str]:
    """Return the command line that runs a script of this folder with these (or this process') arguments."""
    return ["python", f"benchmarks/{script}", *(sys.argv[1:] if arguments is None else arguments)]


def shown(argument: str) -> str:
    """Return an argument as it may be published: a path of this machine becomes its last name."""
    text = Path(argument).name if Path(argument).is_absolute() else argument
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text) else f"'{text}'"


def machine() -> dict[str, str | int | float]:
    """Return what the figures depend on: processor, cores that this process may use, memory in GiB."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpu": _processor(), "cores": len(os.sched_getaffinity(0)), "memory_gib": round(pages / _GIB, 1)}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = {
        name.strip(): value.strip() for name, found, value in (x.partition(":") for x in lines) if found
    }
    # x86 has a model name; Arm boards name the board, or nothing but the architecture.
    return fields.get("model name") or fields.get("Model") or os.uname().machine


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that figures depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
