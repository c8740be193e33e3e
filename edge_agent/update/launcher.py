"""Starts the release that is to run. Nothing is asked of the network, and little of the disk.

The start is counted before it happens, so that whatever it does to the machine is held against it. Where
that cannot be written down, a release on trial is not started: it would be tried for ever.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_agent.contracts.errors import BundleError, DeviceError
from edge_agent.contracts.release import Place, Release
from edge_agent.update import machine, state
from edge_agent.update.disk import read_small, sweep, write_whole
from edge_agent.update.records import End, Start, decode_starts, encode_starts
from edge_agent.update.state import State

log = logging.getLogger(__name__)

RELEASES = "SHELFKIT_RELEASES"
RELEASE = "SHELFKIT_RELEASE"
START = "SHELFKIT_START"
DEFAULT = Path("/data/shelf")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Execute = Callable[[str, list[str], dict[str, str]], object]


def boot_id() -> str:
    """Return what names this life of the machine; tests give it another one."""
    given = os.environ.get("SHELFKIT_BOOT_ID")
    return given or _BOOT_ID.read_text(encoding="ascii").strip()


def up_s() -> float:
    """Return the seconds since the machine booted; no clock that is set changes it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def launch(place: Place, words: Sequence[str], *, boot: str, at: float, execute: Execute = os.execve) -> None:
    """Start the agent of the release that is to run, in this very process.

    Args:
        place: The device's releases.
        words: What the agent is told, such as `run --config device.yaml`.
        boot: This life of the machine.
        at: Seconds since it began.
        execute: Takes the process over.

    Raises:
        BundleError: There is no release to start.
    """
    sweep(place.starts.parent)
    known = state.load(place)
    starts = decode_starts(read_small(place.starts))
    number = max([known.folded, *(start.number for start in starts)]) + 1
    for release in _startable(place, known, starts, boot):
        start = Start(number, release.number, boot, at)
        try:
            write_whole(place.starts, encode_starts([*starts, start]))
        except DeviceError as exc:
            if release.number != known.good:
                log.warning("release %d is not tried: %s", release.number, exc)
                continue
            log.warning("started without being counted: %s", exc)
        run(place, release, words, start=number, execute=execute)
        return
    raise BundleError(
        f"Expected: a release in {place.root}. Received: none that is whole.",
        hint="flash or push the device again, or: python3 -m edge_agent.update apply FOLDER",
    )


def run(
    place: Place, release: Release, words: Sequence[str], *, start: int, execute: Execute = os.execve
) -> None:
    """Become the agent of a release.

    Raises:
        OSError: Its Python cannot be started.
    """
    environment = environment_of(place, release, os.environ, start=start)
    execute(sys.executable, [sys.executable, "-P", "-m", "edge_agent", *words], environment)


def environment_of(
    place: Place, release: Release, environ: Mapping[str, str], *, start: int
) -> dict[str, str]:
    """Return the environment in which a release finds its own parts, and nobody else's."""
    parts = (place.release(release.number) / "agent", place.runtime(release) / "site-packages")
    return {
        **environ,
        "PYTHONPATH": os.pathsep.join(map(str, parts)),
        # What Python would compile came with the release; whoever runs this, nothing is added to it.
        "PYTHONDONTWRITEBYTECODE": "1",
        RELEASES: str(place.root),
        RELEASE: str(release.number),
        START: str(start),
    }


def best(place: Place, boot: str) -> Release:
    """Return the release that would be started now.

    Raises:
        BundleError: There is none.
    """
    starts = decode_starts(read_small(place.starts))
    for release in _startable(place, state.load(place), starts, boot):
        return release
    raise BundleError(f"Expected: a release in {place.root}. Received: none that is whole.")


def ended(place: Place, end: End, *, boot: str) -> None:
    """Write down how the latest start ended; systemd calls this once it has.

    Raises:
        DeviceError: The disk does not take it.
    """
    starts = decode_starts(read_small(place.starts))
    if starts and starts[-1].end is None and starts[-1].boot_id == boot:
        write_whole(place.starts, encode_starts([*starts[:-1], replace(starts[-1], end=end)]))


def _startable(place: Place, known: State, starts: Sequence[Start], boot: str) -> list[Release]:
    """Return those that are whole; where none of them is, any other: a shelf that is watched is better."""
    order = machine.to_start(known, starts, boot)
    found = [release for number in order if (release := state.whole(place, number)) is not None]
    if found:
        return found
    others = [number for number in reversed(state.on_disk(place)) if number not in known.bad]
    return [release for number in others if (release := state.whole(place, number)) is not None]
