"""The machine below: disk, database, clock, and the port of the metrics."""

import os
import shutil
import socket
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.board import Clock
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.errors import ConfigError, DeviceError
from edge_agent.parts import OUTBOX
from edge_agent.selftest.finding import Check, Finding
from edge_agent.selftest.running import Running

STATE_DIR = Check("disk", DeviceError.exit_code, "a state_dir to write in, with room for the outbox")
DATABASE = Check("outbox", DeviceError.exit_code, "a sound database")
CLOCK = Check("clock", DeviceError.exit_code, "a clock that a time server sets")
METRICS = Check("metrics", ConfigError.exit_code, "a port for metrics")

_MB = 1024 * 1024
_SPARE_MB = 16
_EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)


def check_disk(device: DeviceConfig) -> Finding:
    """Write a small file, and compare what is free with what the outbox may still take."""
    # os.path: a folder that we may not look into is told by the attempt to write.
    place = next(path for path in (device.state_dir, *device.state_dir.parents) if os.path.exists(path))  # noqa: PTH110
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".self-test-") as file:
            file.write(b"\0" * 4096)
            file.flush()
        free = shutil.disk_usage(place).free // _MB
        taken = _size(device.state_dir / OUTBOX)
    except OSError as exc:
        return STATE_DIR.failed(f"{place}: {exc.strerror}", "give the agent's user the right to write there")
    examples = device.hard_examples.max_mb if device.hard_examples.enabled else 0
    wanted = max(device.delivery.max_mb - taken, 0) + examples + _SPARE_MB
    told = f"{place}: {free} MiB free, {wanted} may be needed"
    if free < wanted:
        return STATE_DIR.failed(told, "free some room, or lower delivery.max_mb")
    return STATE_DIR.passed(told)


def _size(path: Path) -> int:
    """Return how large a file is, MiB; 0 where there is none."""
    return path.stat().st_size // _MB if path.exists() else 0


def check_database(device: DeviceConfig) -> Finding:
    """Let SQLite look at the whole outbox, without writing a byte."""
    path = device.state_dir / OUTBOX
    try:
        if not path.exists():
            return DATABASE.skipped("there is none yet; the agent makes it")
        path.open("rb").close()
        # Beside a database that nobody has open, reading would leave files of ours: SQLite may take it
        # as one that does not change.
        mode = "mode=ro" if path.with_name(f"{OUTBOX}-wal").exists() else "mode=ro&immutable=1"
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict == "ok":
                (waiting,) = database.execute("SELECT count(*) FROM event").fetchone()
                return DATABASE.passed(f"sound, {waiting} events wait")
    except PermissionError:
        return DATABASE.failed(f"{path} may not be read", "run this as the user that the agent runs as")
    except (OSError, sqlite3.Error) as exc:
        verdict = str(exc)
    todo = f"stop the agent, and move {path} away; what waits in it is not sent any more"
    return DATABASE.failed(" ".join(str(verdict).split())[:200], todo)


def built_at() -> datetime:
    """Return when this agent was put on the device; no clock can be right that is before that."""
    return max(datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC), _EARLIEST)


def check_clock(now: datetime, built: datetime, told: Clock | None) -> Finding:
    """Judge the time.

    Args:
        now: As the machine has it.
        built: As `built_at` gives it.
        told: As `board.clock` gives it.
    """
    shown = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    todo = "let a time service set the clock: timedatectl set-ntp true"
    if now < built:
        return CLOCK.failed(f"{shown}, before this agent was installed ({built:%Y-%m-%d})", todo)
    if told is None:
        return CLOCK.skipped(f"{shown}; whether it is set by a time server cannot be told here")
    if not told.synchronized:
        return CLOCK.failed(f"{shown}, set by nobody", todo)
    off = "" if told.error_s is None else f", off by {told.error_s:.3f} s at most"
    return CLOCK.passed(f"{shown}{off}")


def check_metrics(device: DeviceConfig, agent: Running | None) -> Finding:
    """Look whether the agent serves its metrics, or could."""
    host, port = device.metrics.host, device.metrics.port
    if not port:
        return METRICS.skipped("metrics are off (metrics.port is 0)")
    if agent is not None and agent.connected is not None:
        return METRICS.passed(f"the running agent serves them on {host}:{port}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as exc:
        return METRICS.failed(f"{host}:{port}: {exc.strerror}", "set metrics.port to another one, or to 0")
    return METRICS.passed(f"{host}:{port} is free")
