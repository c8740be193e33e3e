"""What the board tells of itself: temperature, throttling, clock. None where it does not tell.

Reads what Linux shows below /sys and /run, and asks the kernel for its clock; changes nothing,
needs no privilege, and starts no program.
"""

import ctypes
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROCESSOR = re.compile(r"cpu|soc|x86_pkg|bcm2835", re.IGNORECASE)
"""Thermal zones of the processor; others are batteries, radios, or the air beside it (acpitz)."""
_SENSORS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal"})
_SANE_C = (-60.0, 200.0)
"""A sensor that says something else is not there, or not yet awake."""

_PI_THROTTLED = ("*soc*/*firmware*/get_throttled", "*firmware*/get_throttled")
_PI_REASONS = ("under-voltage", "frequency-capped", "throttled", "soft-temperature-limit")
"""Bits 0 to 3 of a Raspberry Pi's firmware are now, the same 16 higher since the board started."""
_SINCE_START = 16

_STA_UNSYNC, _STA_NANO = 0x0040, 0x2000


@dataclass(frozen=True, slots=True)
class Throttled:
    """Whether the board slows itself down; less speed, or a power supply that is too weak.

    Attributes:
        now: At this moment, or since the reading before where the board only counts.
        ever: Since the board started.
        reasons: Why, as far as the board says: of now, else of since the start.
    """

    now: bool
    ever: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clock:
    """The system's clock.

    Attributes:
        synchronized: Whether something keeps it right.
        offset_s: What is still to be corrected, seconds; None where the kernel cannot be asked.
        error_s: By how much it may be off, seconds; None likewise.
    """

    synchronized: bool
    offset_s: float | None = None
    error_s: float | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """One reading of everything."""

    temperature_c: float | None
    throttled: Throttled | None
    clock: Clock | None


class _Timex(ctypes.Structure):
    # The beginning of `struct timex`, the same everywhere; what follows differs with the size of time_t.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def kernel_clock() -> Clock | None:
    """Ask the kernel with adjtimex(2), which everybody may as long as nothing is to be changed."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    found = _Timex()
    if adjtimex(ctypes.byref(found)) < 0:
        return None
    unit = 1e-9 if found.status & _STA_NANO else 1e-6
    return Clock(not found.status & _STA_UNSYNC, found.offset * unit, found.maxerror * 1e-6)


def clock(root: Path = Path("/"), kernel: Callable[[], Clock | None] = kernel_clock) -> Clock | None:
    """Return how the clock is.

    Args:
        root: Of the file system.
        kernel: Asks the kernel. Where it cannot be asked (some containers forbid it), the mark that
            systemd-timesyncd leaves is looked for.
    """
    if (told := kernel()) is not None:
        return told
    marks = root / "run/systemd/timesync"
    return Clock((marks / "synchronized").exists()) if marks.is_dir() else None


def temperature_c(root: Path = Path("/")) -> float | None:
    """Return the temperature of the processor, degrees Celsius: the hottest where it has several sensors."""
    zones = list(_zones(root))
    return max(zones or _sensors(root), default=None)


def _zones(root: Path) -> Iterator[float]:
    for zone in (root / "sys/class/thermal").glob("thermal_zone*"):
        if _PROCESSOR.search(_text(zone / "type") or ""):
            yield from _degrees(zone / "temp")


def _sensors(root: Path) -> Iterator[float]:
    for chip in (root / "sys/class/hwmon").glob("hwmon*"):
        if _text(chip / "name") in _SENSORS:
            for sensor in chip.glob("temp*_input"):
                yield from _degrees(sensor)


def _degrees(path: Path) -> Iterator[float]:
    value = _number(path)
    if value is not None and _SANE_C[0] <= value / 1000 <= _SANE_C[1]:
        yield value / 1000


class BoardReader:
    """Reads the board again and again; remembers counts, because some boards tell throttling by counting.

    Args:
        root: Of the file system.
        kernel: Asks the kernel for its clock.
    """

    def __init__(self, root: Path = Path("/"), *, kernel: Callable[[], Clock | None] = kernel_clock) -> None:
        self._root, self._kernel = root, kernel
        self._count: int | None = None

    def read(self) -> Board:
        """Return what the board tells now."""
        return Board(temperature_c(self._root), self.throttled(), clock(self._root, self._kernel))

    def throttled(self) -> Throttled | None:
        """Return whether it slows itself down: a Raspberry Pi's firmware says it, x86 counts it."""
        platform = self._root / "sys/devices/platform"
        for pattern in _PI_THROTTLED:
            for path in sorted(platform.glob(pattern)):
                if (bits := _number(path, base=16)) is not None:
                    return _of_bits(bits)
        return self._counted()

    def _counted(self) -> Throttled | None:
        files = (self._root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/*_throttle_count")
        counts = [count for path in files if (count := _number(path)) is not None]
        if not counts:
            return None
        before, self._count = self._count, sum(counts)
        return Throttled(before is not None and self._count > before, self._count > 0)


def _of_bits(bits: int) -> Throttled:
    now = _reasons(bits)
    return Throttled(
        bool(now), bool(now or _reasons(bits >> _SINCE_START)), now or _reasons(bits >> _SINCE_START)
    )


def _reasons(bits: int) -> tuple[str, ...]:
    return tuple(reason for place, reason in enumerate(_PI_REASONS) if bits >> place & 1)


def _number(path: Path, base: int = 10) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    """Return what a file of the kernel says; None where it is not there, or the driver has no answer now."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
