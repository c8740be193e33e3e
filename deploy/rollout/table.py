"""A rollout for people, and as JSON."""

from collections.abc import Mapping
from datetime import datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.rollout.model import FAILED, Rollout, Standing, State, tally
from edge_agent.contracts.times import rfc3339

_SHOWN = (
    Standing.COMMITTED,
    Standing.UPDATING,
    Standing.WAITING,
    Standing.ROLLED_BACK,
    Standing.REFUSED,
    Standing.OVERDUE,
    Standing.OFFLINE,
)
_ASIDE = (Standing.EXCUSED, Standing.LEFT_OUT)
_MOST_FAILED = 20
_COLOURS = {
    State.RUNNING: "cyan",
    State.PAUSED: "yellow",
    State.STOPPED: "red",
    State.ABORTED: "red",
    State.DONE: "green",
}


def as_json(rollout: Rollout, *, members: bool, running: bool) -> dict[str, object]:
    """Return what a script wants to know.

    Args:
        rollout: The rollout.
        members: Whether each device is listed.
        running: Whether a process drives it.
    """
    counts = tally(rollout.members.values())
    value: dict[str, object] = {
        "rollout": rollout.id,
        "release": rollout.release,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "created": rfc3339(rollout.created),
        "wave": rollout.wave + 1,
        "waves": list(rollout.sizes),
        "well_since": rfc3339(rollout.well_since) if rollout.well_since else None,
        "running": running,
        "told": not rollout.owed,
        "devices": {standing.value: counts[standing] for standing in Standing},
    }
    if members:
        value["members"] = {
            name: {
                "standing": member.standing.value,
                "wave": None if member.wave is None else member.wave + 1,
                "attempt": member.attempt,
                "reason": member.reason,
            }
            for name, member in rollout.members.items()
        }
    return value


def line(rollout: Rollout) -> str:
    """Return one line."""
    counts = tally(rollout.members.values())
    parts = [f"{counts[item]} {item.value.replace('_', ' ')}" for item in Standing if counts[item]]
    wave = f"wave {rollout.wave + 1} of {len(rollout.sizes)}"
    return f"{rollout.id}: release {rollout.release}, {rollout.state.value}, {wave}: {', '.join(parts)}"


def table(rollout: Rollout, now: datetime, trouble: Mapping[str, str] | None = None) -> Group:
    """Return what a terminal shows.

    Args:
        rollout: The rollout.
        now: UTC.
        trouble: Brokers that are away, and why.
    """
    shown = Table(title=f"{rollout.id}: release {rollout.release}", title_justify="left")
    shown.add_column("wave")
    shown.add_column("devices", justify="right")
    counts = tally(rollout.members.values())
    columns = [item for item in _SHOWN if counts[item] or item == Standing.COMMITTED]
    for standing in columns:
        style = "red" if standing in FAILED else ""
        shown.add_column(standing.value.replace("_", " "), justify="right", style=style)
    for number, size in enumerate(rollout.sizes):
        of_wave = tally(rollout.members.values(), number)
        mark = ">" if number == rollout.wave and rollout.state == State.RUNNING else " "
        cells = [str(of_wave[item]) if of_wave[item] else "" for item in columns]
        shown.add_row(f"{mark}{number + 1}", str(size), *cells)
    return Group(shown, *_below(rollout, now), *_failed(rollout), *_away(trouble or {}))


def _below(rollout: Rollout, now: datetime) -> list[Text]:
    state = Text.assemble((rollout.state.value, _COLOURS[rollout.state]))
    if rollout.owed:
        state.append("; not all devices are told yet")
    if rollout.reason:
        state.append(f": {rollout.reason}")
    if rollout.state == State.RUNNING and rollout.well_since is not None:
        left = max(0, round((rollout.soak - (now - rollout.well_since)).total_seconds()))
        state.append(f"; this wave is well, and soaks for {left} s more")
    counts = tally(rollout.members.values())
    aside = [f"{counts[item]} {item.value.replace('_', ' ')}" for item in _ASIDE if counts[item]]
    return [state, *([Text(", ".join(aside))] if aside else [])]


def _failed(rollout: Rollout) -> list[Text]:
    found = [(name, m) for name, m in rollout.members.items() if m.standing in FAILED]
    rows = [
        Text(f"  {name}: {member.standing.value.replace('_', ' ')}, attempt {member.attempt}"[:200])
        + Text(f": {member.reason}"[:300] if member.reason else "")
        for name, member in found[:_MOST_FAILED]
    ]
    more = len(found) - len(rows)
    return [*rows, *([Text(f"  and {more} more: --json lists all")] if more > 0 else [])]


def _away(trouble: Mapping[str, str]) -> list[Text]:
    return [Text(f"{broker}: away: {why}", "yellow") for broker, why in trouble.items()]
