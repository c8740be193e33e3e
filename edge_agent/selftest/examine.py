"""All checks of a device, one after another."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.board import Clock
from edge_agent.board import clock as board_clock
from edge_agent.contracts.config import DeviceConfig
from edge_agent.selftest import machine
from edge_agent.selftest.broker import check_broker
from edge_agent.selftest.camera import check_camera
from edge_agent.selftest.finding import Check, Finding
from edge_agent.selftest.parts import Parts, check_model, read_parts
from edge_agent.selftest.running import running

Step = tuple[str, Callable[[], list[Finding]]]


@dataclass(frozen=True, slots=True)
class Clocks:
    """What tells the time, and what is known of it."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    board: Callable[[], Clock | None] = board_clock
    built: Callable[[], datetime] = machine.built_at


def examined(
    path: Path,
    *,
    clocks: Clocks | None = None,
    shown: Callable[[str], AbstractContextManager[object]] = lambda _name: nullcontext(),
) -> Iterator[Finding]:
    """Yield what each check finds.

    Args:
        path: Of the `device.yaml`.
        clocks: Of this machine, or of a test.
        shown: Shows what is tried while it is tried.
    """
    with shown("files"):
        parts = read_parts(path)
    yield from parts.findings
    for name, step in _steps(parts, clocks or Clocks()):
        with shown(name):
            found = step()
        yield from found


def _steps(parts: Parts, clocks: Clocks) -> list[Step]:
    device = parts.device
    agent = None if device is None else running(device)

    def clock() -> list[Finding]:
        return [machine.check_clock(clocks.now(), clocks.built(), clocks.board())]

    def below(check: Check, look: Callable[[DeviceConfig], Finding]) -> list[Finding]:
        return [check.skipped("device.yaml cannot be read") if device is None else look(device)]

    return [
        ("model", lambda: check_model(parts)),
        ("camera", lambda: check_camera(parts, agent)),
        ("broker", lambda: check_broker(parts, agent)),
        ("disk", lambda: below(machine.STATE_DIR, machine.check_disk)),
        ("outbox", lambda: below(machine.DATABASE, machine.check_database)),
        ("clock", clock),
        ("metrics", lambda: below(machine.METRICS, lambda known: machine.check_metrics(known, agent))),
    ]
