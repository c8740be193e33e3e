"""`shelfkit convert bench`: how quick a bundle is on this machine."""

import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from convert.commands import making
from edge_agent.contracts.command import print_json, shown
from edge_agent.contracts.errors import UsageError

if TYPE_CHECKING:
    from convert.bench import Candidate, Comparison, Measured, Ratio

_MOST_THREADS = 64
_MIB = 2**20
_WIDTH = 120
"""Where the output is no terminal and has no width of its own."""


def bench(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")],
    float_model: Annotated[
        Path | None,
        typer.Option(
            "--float", help="Its float model to compare with: a float32 .tflite file, or the run directory."
        ),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(help="Another Python whose environment has a TFLite runtime; may be repeated."),
    ] = None,
    threads: Annotated[
        str,
        typer.Option(help="Numbers of threads, with commas; default: 1, 2, 4 and so on up to the cores."),
    ] = "",
    seconds: Annotated[float, typer.Option(help="Measuring time of each candidate, all turns together.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure latency, load time and memory of a bundle on this machine.

    Every measurement runs in a process of its own, and the candidates take turns, so that what
    disturbs the machine disturbs them alike. Ratios travel to other machines better than times.

    \b
    Examples:
      shelfkit convert bench bundle
      shelfkit convert bench bundle --float run --threads 1,2,4
      shelfkit convert bench bundle --python ~/tflite-runtime/bin/python --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    from convert import bench as benchmark  # noqa: PLC0415

    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"Expected: --seconds above 0. Received: {seconds}.")
    making.prepare_keras()
    found = benchmark.bench(
        bundle,
        float_model=None if float_model is None else benchmark.float_model(float_model),
        pythons=python or [],
        threads=_threads(threads),
        seconds=seconds,
        progress=shown("measuring"),
    )
    if as_json:
        print_json(_figures(found))
    else:
        _tell(found)


def _threads(text: str) -> list[int]:
    cores = len(os.sched_getaffinity(0))
    if not text:
        return sorted({2**power for power in range(cores.bit_length())} | {cores})
    numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in text.split(",")]
    if not all(1 <= number <= _MOST_THREADS for number in numbers):
        raise UsageError(
            f"Expected: --threads as numbers from 1 to {_MOST_THREADS}, with commas. Received: {text!r}."
        )
    return sorted(set(numbers))


def _figures(found: "Sequence[Measured]") -> dict[str, object]:
    from convert.bench import TURNS, comparisons  # noqa: PLC0415

    return {
        "machine": {"architecture": platform.machine(), "cores": len(os.sched_getaffinity(0))},
        "turns": TURNS,
        "measured": [
            _named(one.candidate)
            | {
                "n": sum(len(turn.single_ms) for turn in one.turns),
                "median_ms": one.latency_ms(50),
                "p95_ms": one.latency_ms(95),
                "load_ms": one.median("load_ms"),
                "first_ms": one.median("first_ms"),
                "memory_bytes": one.median("memory_bytes"),
                "over_bare": _ratio(one.over_bare()),
            }
            for one in found
        ],
        "comparisons": [
            {"slow": _named(one.slow), "quick": _named(one.quick), "ratio": _ratio(one.ratio)}
            for one in comparisons(found)
        ],
    }


def _named(candidate: "Candidate") -> dict[str, object]:
    where = candidate.interpreter
    return {
        "model": candidate.form,
        "runtime": where.runtime,
        "runtime_version": where.version,
        "python": where.python,
        "interpreter": where.path,
        "threads": candidate.threads,
    }


def _ratio(ratio: "Ratio") -> dict[str, float]:
    return {"median": ratio.median, "low": ratio.low, "high": ratio.high}


def _tell(found: "Sequence[Measured]") -> None:
    from convert.bench import comparisons  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    table = Table(title="one crop through the device's classifier; ms", title_justify="left", box=SIMPLE)
    for name in ("model", "runtime", "Python"):
        table.add_column(name)
    for name in ("threads", "median", "p95", "/ bare", "load", "first", "MiB"):
        table.add_column(name, justify="right")
    for one in found:
        where = one.candidate.interpreter
        table.add_row(
            one.candidate.form,
            f"{where.runtime} {where.version}",
            where.python,
            str(one.candidate.threads),
            f"{one.latency_ms(50):.3f}",
            f"{one.latency_ms(95):.3f}",
            f"{one.over_bare().median:.3f}",
            f"{one.median('load_ms'):.1f}",
            f"{one.median('first_ms'):.1f}",
            f"{one.median('memory_bytes') / _MIB:.1f}",
        )
    console.print(table)
    for pair in comparisons(found):
        typer.echo(_sentence(pair))


def _sentence(pair: "Comparison") -> str:
    slow, quick, ratio = pair.slow, pair.quick, pair.ratio
    threads = f"{slow.threads} thread{'s' if slow.threads > 1 else ''}"
    turns = f"{ratio.median:.2f} times (turns {ratio.low:.2f} to {ratio.high:.2f})"
    if slow.form != quick.form:
        return f"{slow.form} takes {turns} the time of the {quick.form}: {slow.interpreter}, {threads}"
    return f"{slow.interpreter} takes {turns} the time of {quick.interpreter}: {slow.form}, {threads}"
