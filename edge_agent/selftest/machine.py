"""The machine below: disk, database, clock, and the port of the metrics."""

import ctypes
import os
import shutil
import socket
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

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
_UNSYNCHRONIZED = 0x0040
_TIME_ERROR = 5


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


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What the kernel knows of its clock.

    Attributes:
        synchronized: Whether a time service sets it.
        error_s: By how much it may be off.
    """

    synchronized: bool
    error_s: float


class _Timex(ctypes.Structure):
    """The beginning of `struct timex`, see adjtimex(2); the rest is room for what follows."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def kernel_clock() -> KernelClock | None:
    """Ask the kernel; None where it does not tell."""
    told = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(told))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    good = state != _TIME_ERROR and not told.status & _UNSYNCHRONIZED
    return KernelClock(good, told.maxerror / 1e6)


def built_at() -> datetime:
    """Return when this agent was put on the device; no clock can be right that is before that."""
    return max(datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC), _EARLIEST)


def check_clock(now: datetime, built: datetime, kernel: KernelClock | None) -> Finding:
    """Judge the time.

    Args:
        now: As the machine has it.
        built: As `built_at` gives it.
        kernel: As `kernel_clock` gives it.
    """
    told = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    todo = "let a time service set the clock: timedatectl set-ntp true"
    if now < built:
        return CLOCK.failed(f"{told}, before this agent was installed ({built:%Y-%m-%d})", todo)
    if kernel is None:
        return CLOCK.skipped(f"{told}; whether it is set by a time server cannot be told here")
    if not kernel.synchronized:
        return CLOCK.failed(f"{told}, set by nobody", todo)
    return CLOCK.passed(f"{told}, off by {kernel.error_s:.3f} s at most")


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
