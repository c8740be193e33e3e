"""One image onto several drives at once: unpacked once, written by a thread for each drive.

A drive that fails ends alone; the others go on.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from deploy import drives
from deploy.flash.image import Table, chunks
from deploy.flash.inject import inject
from deploy.flash.plan import Job
from deploy.flash.writer import Written, write
from edge_agent.contracts.errors import DeviceError, KitError

_WAITING = 8
"""Chunks that are unpacked ahead for a drive."""

Report = Callable[[str, str, int], None]
"""Told device, phase and bytes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went with one drive."""

    job: Job
    written: Written | None = None
    error: KitError | None = None


@dataclass(slots=True)
class _Belt:
    """The chunks on their way to one drive."""

    waiting: "queue.Queue[bytes | KitError | None]" = field(default_factory=lambda: queue.Queue(_WAITING))
    gone: threading.Event = field(default_factory=threading.Event)

    def put(self, item: bytes | KitError | None) -> None:
        while not self.gone.is_set():
            try:
                self.waiting.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def __iter__(self) -> Iterator[bytes]:
        while (item := self.waiting.get()) is not None:
            if isinstance(item, KitError):
                raise item
            yield item


def flash(
    image: Path, table: Table, jobs: Sequence[Job], files: dict[str, dict[str, bytes]], report: Report
) -> list[Outcome]:
    """Write an image to every drive, each with the files of its own device.

    Args:
        image: Packed or not.
        table: Of its parts.
        jobs: Drives that may be written, and whom they are for.
        files: By device, what goes onto its boot partition.
        report: Told how far each is, from several threads.

    Returns:
        How it went, in the order of the jobs; what a person can mend is an error of it.
    """
    belts = [_Belt() for _ in jobs]
    with ThreadPoolExecutor(len(jobs), thread_name_prefix="flash") as pool:
        futures = [
            pool.submit(_drive, job, belt, table, files[job.device], report)
            for job, belt in zip(jobs, belts, strict=True)
        ]
        _feed(image, belts)
    return [_outcome(job, future) for job, future in zip(jobs, futures, strict=True)]


def _outcome(job: Job, future: "Future[Written]") -> Outcome:
    error = future.exception()
    if error is None:
        return Outcome(job, future.result())
    if not isinstance(error, KitError):
        raise error
    return Outcome(job, error=error)


def _feed(image: Path, belts: list[_Belt]) -> None:
    # Whoever waits for more must not wait for ever, whatever ends this.
    end: KitError | None = DeviceError("Expected: to write the whole image. Received: an interruption.")
    try:
        for chunk in chunks(image):
            for belt in belts:
                belt.put(chunk)
            if all(belt.gone.is_set() for belt in belts):
                break
        end = None
    except KitError as exc:
        end = exc
    finally:
        for belt in belts:
            belt.put(end)


def _drive(job: Job, belt: _Belt, table: Table, files: dict[str, bytes], report: Report) -> Written:
    try:
        with drives.opened(job.drive) as disk:
            return write(
                disk,
                belt,
                table,
                lambda: inject(disk.path, table.fat, files),
                lambda phase, done: report(job.device, phase, done),
            )
    finally:
        belt.gone.set()
