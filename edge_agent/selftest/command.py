"""`shelfkit agent self-test`: every part of a device tried, all of them even when one fails."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge_agent.contracts.command import print_json
from edge_agent.selftest.finding import Finding, Status, exit_code

_INDENT = " " * 17
_COLOURS = {Status.PASS: "green", Status.FAIL: "red", Status.SKIP: "yellow"}


def self_test(
    config: Annotated[Path, typer.Option(help="The device's device.yaml.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Try every part of this device: files, model, camera, shelf, broker, disk, clock, metrics.

    Every check runs, also after one has failed; each says what to do. The exit code is that of the
    first one that failed. While the agent runs it is not disturbed: what it knows is asked of it.

    \b
    Examples:
      shelfkit agent self-test --config device.yaml
      shelfkit agent self-test --config device.yaml --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    # The broker's side is not needed for any other command of this app.
    from edge_agent.selftest.examine import examined  # noqa: PLC0415

    findings: list[Finding] = []
    for finding in examined(config, shown=_shown()):
        findings.append(finding)
        if not as_json:
            _print(finding)
    code = exit_code(findings)
    if as_json:
        print_json({"passed": code == 0, "exit_code": code, "checks": [_as_json(item) for item in findings]})
    else:
        counts = {status: sum(item.status is status for item in findings) for status in Status}
        typer.echo(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    raise typer.Exit(code)


def _shown() -> Callable[[str], AbstractContextManager[object]]:
    """Return what shows a check that is under way, on a terminal only."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return lambda _name: nullcontext()
    return lambda name: console.status(f"testing {name}")


def _print(finding: Finding) -> None:
    status = typer.style(f"{finding.status:<5}", fg=_COLOURS[finding.status], bold=True)
    name = f"{finding.name:<11}"
    if finding.status is not Status.FAIL:
        typer.echo(f"{status} {name}{finding.received}")
    else:
        typer.echo(f"{status} {name}expected: {finding.expected}\n{_INDENT}received: {finding.received}")
    if finding.todo:
        typer.echo(f"{_INDENT}do: {finding.todo}")


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "status": finding.status.value,
        "expected": finding.expected,
        "received": finding.received,
        "todo": finding.todo,
        "exit_code": finding.code,
    }
