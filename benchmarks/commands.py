"""Commands of the kit, run as a user runs them, shown as they are run, and not repeated when done."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_agent.contracts import bundle, run
from edge_agent.contracts.errors import DataError, UsageError


def kit(*arguments: object) -> dict[str, Any]:
    """Run one command with `--json` and return what it prints.

    Raises:
        SystemExit: The command failed (it has said why): the same exit code.
        DataError: It printed something else.
    """
    words = [*map(str, arguments), "--json"]
    print(f"$ shelfkit {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent.cli", *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    try:
        found = json.loads(done.stdout)
    except ValueError as exc:
        raise DataError(f"Expected: JSON of shelfkit {words[0]}. Received: {done.stdout:.200}.") from exc
    return dict(found)


def trained(data: Path, out: Path, options: list[str]) -> run.RunInfo:
    """Train unless the run is there; a run that was killed goes on.

    Args:
        data: Data set.
        out: Run directory; the command that makes it is kept beside it.
        options: Of `shelfkit train`.

    Returns:
        What `run.json` says.

    Raises:
        UsageError: The run was made by another command.
        DataError: The run was interrupted: its figures are those of less training.
        SystemExit: Training failed.
    """
    words = ["train", str(data), "--out", str(out), *options]
    if not _made(out, words):
        kit(*words, "--resume")
    found = run.read(out)
    if found.info.metrics.get("interrupted"):
        raise DataError(
            f"Expected: a run that came to its end. Received: {out}, which was interrupted.",
            hint=f"remove {out} and start again",
        )
    return found.info


def converted(run_folder: Path, out: Path, options: list[str]) -> bundle.Bundle:
    """Convert a run to an int8 bundle unless that is there.

    Raises:
        UsageError: The bundle was made by another command.
        SystemExit: The gate said no, or something else failed.
    """
    words = ["convert", "--int8", str(run_folder), "--out", str(out), *options]
    if not _made(out, words):
        kit(*words)
    return bundle.read(out)


def evaluated(made: bundle.Bundle, data: Path, *, split: str) -> dict[str, Any]:
    """Return the figures of a bundle on one part of a data set, with its size in bytes.

    Raises:
        SystemExit: It cannot be evaluated.
    """
    found = kit("convert", "evaluate", made.path, data, "--split", split)
    keys = ("n", "accuracy", "accuracy_95", "calibration_error")
    return {key: found[key] for key in keys} | {"int8_bytes": made.model.stat().st_size}


def _made(out: Path, words: list[str]) -> bool:
    """Tell whether this command has made it; note the command where it still has to."""
    note, line = out.with_name(f"{out.name}.command"), shlex.join(["shelfkit", *words]) + "\n"
    if out.exists():
        before = note.read_text(encoding="utf-8") if note.is_file() else "an unknown command\n"
        if before != line:
            raise UsageError(
                f"Expected: {out} made by `{line.strip()}`. Received: `{before.strip()}`.",
                hint="name another folder, or remove that one",
            )
        return True
    out.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(line, encoding="utf-8")
    return False
