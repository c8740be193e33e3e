"""Which drive gets what, and why it must not: no I/O, nothing but rules.

A drive is refused that this machine runs from, that is mounted, read-only or too small: nothing
overrides that. One that cannot be taken out, or is no drive but a file, is refused unless its
override is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.drives import Drive
from edge_agent.contracts.errors import DeviceError, UsageError


class FlashRefusedError(DeviceError):
    """A drive that must not be written."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What was overridden."""

    fixed: bool = False
    file: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One drive, and the device that it is for."""

    device: str
    drive: Drive

    def __str__(self) -> str:
        return f"{self.device} onto {self.drive}"


def refusals(drive: Drive, needs: int, allowed: Allowed) -> list[str]:
    """Return why a drive must not be written; empty where it may.

    Args:
        drive: As it is now.
        needs: How many bytes the image takes.
        allowed: What was overridden.
    """
    found = []
    if drive.system:
        found.append("this machine runs from it")
    if drive.mounted:
        found.append(f"it is mounted at {', '.join(drive.mounted)}: unmount it first")
    if drive.read_only:
        found.append("it is read-only: look for the switch on the card")
    if drive.size < needs:
        found.append(f"the image needs {needs} bytes, it has {drive.size}")
    if drive.plain_file and not allowed.file:
        found.append("it is a file and no drive: --allow-file if that is meant")
    if not drive.removable and not drive.plain_file and not allowed.fixed:
        found.append(
            "it cannot be taken out, so it may be a part of this machine: --allow-fixed if it is not"
        )
    return found


def paired(devices: Sequence[str], drives: Sequence[Drive]) -> list[Job]:
    """Give each device its drive, in order.

    Raises:
        UsageError: There are not as many of one as of the other, or one is named twice.
    """
    paths: list[Path] = [drive.path for drive in drives]
    if len(devices) != len(drives) or len(set(devices)) != len(devices) or len(set(paths)) != len(paths):
        raise UsageError(
            f"Expected: each --device once, with a --drive of its own. "
            f"Received: {', '.join(devices)} and {', '.join(map(str, paths))}.",
            hint="for example --device cam-1 --drive /dev/sdb --device cam-2 --drive /dev/sdc",
        )
    return [Job(device, drive) for device, drive in zip(devices, drives, strict=True)]


def unchanged(jobs: Sequence[Job], now: Sequence[Drive]) -> None:
    """Refuse all where a drive is no more what was shown: another one under its name, or in use by now.

    Args:
        jobs: With the drives as they were shown.
        now: The same as they are.

    Raises:
        FlashRefusedError: Each that is another.
    """
    told = [str(job.drive) for job, drive in zip(jobs, now, strict=True) if job.drive != drive]
    if told:
        raise FlashRefusedError(
            f"Expected: drives as they were shown. Received: since then something was plugged in, taken out "
            f"or mounted: {', '.join(told)}.",
            hint="nothing was written; begin again",
        )


def require(jobs: Sequence[Job], needs: int, allowed: Allowed) -> None:
    """Refuse all where one must not be written.

    Raises:
        FlashRefusedError: Every reason, of every drive.
    """
    told = [f"{job.drive}: {why}" for job in jobs for why in refusals(job.drive, needs, allowed)]
    if told:
        raise FlashRefusedError(
            "Expected: drives that may be overwritten. Received:\n  " + "\n  ".join(told),
            hint="nothing was written; `shelfkit deploy drives` lists those that may be",
        )
