"""The present of a camera that blocks, fails, or hangs: read in a thread that can be given up.

A frame changes hands only while a reader waits for it, so no reader ever sees an old one. What
comes while nobody waits is dropped, and counted. A camera that fails is closed and opened again.
A driver that does not come back cannot be ended: its thread is abandoned, and another takes over.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from edge_agent.camera.base import Camera, Frame, Stream
from edge_agent.contracts.errors import DeviceError, KitError

log = logging.getLogger(__name__)

Opener = Callable[[], Camera]
T = TypeVar("T")

_HINT = "check cable, power and address of the camera; the agent tries again by itself"
_HUNG_HINT = "unplug the camera and plug it in again, or restart the device"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long is too long, seconds.

    Attributes:
        patience_s: A reader waits so long for a frame.
        pause_s: Between a loss and the next try to open.
        hung_s: A call into the driver that takes longer is hung.
        rest_s: A camera that nobody asked for so long is closed until somebody does.
        close_s: The end waits so long for the driver: one that comes back while Python goes down
            around it would take the process with it. Longer than any time-out of a camera.
    """

    patience_s: float = 2.0
    pause_s: float = 2.0
    hung_s: float = 30.0
    rest_s: float = math.inf
    close_s: float = 6.0


class Latest(Camera):
    """The present of another camera, for one reader.

    Args:
        opener: Opens the camera, in the thread that reads it; again after each loss.
        name: Of the camera, for messages; free of passwords.
        timing: How long is too long.
        abandoned: How many hung threads there may be at once.
        steady: The clock.
        pause: Waits so many seconds, or until the event is set.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        name: str,
        timing: Timing = Timing(),
        abandoned: int = 3,
        steady: Callable[[], float] = time.monotonic,
        pause: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self._name, self._timing, self._most = name, timing, abandoned
        self._opener, self._steady, self._pause = opener, steady, pause
        self._meeting = _Meeting(steady)
        self._abandoned: list[_Worker] = []
        self._worker = self._start()

    @property
    def dropped(self) -> int:
        """How many frames came and were never given."""
        return self._meeting.dropped

    def read(self) -> Frame:
        """Wait a moment for a frame from now on.

        Raises:
            DeviceError: None came.
        """
        self._relieve()
        frame = self._meeting.take(self._timing.patience_s)
        if frame is None:
            raise self._missing()
        return frame

    def close(self) -> None:
        """End the thread, which lets the camera go; a hung one is left behind."""
        self._worker.stop()
        self._worker.join(self._timing.close_s)

    def _start(self) -> "_Worker":
        return _Worker(self._opener, self._meeting, self._timing, self._steady, self._pause)

    def _relieve(self) -> None:
        """Put another worker in the place of one that hangs or has died."""
        self._abandoned = [worker for worker in self._abandoned if worker.alive]
        if self._worker.alive:
            stuck = self._worker.stuck_s
            if stuck < self._timing.hung_s:
                return
            if len(self._abandoned) >= self._most:
                raise DeviceError(
                    f"Expected: the driver of {self._name} to come back. "
                    f"Received: {self._most + 1} calls that have not for {self._timing.hung_s:g} s.",
                    hint=_HUNG_HINT,
                )
            log.warning("the driver of %s hangs for %.0f s; another thread takes over", self._name, stuck)
            self._worker.stop()
            self._abandoned.append(self._worker)
        self._worker = self._start()

    def _missing(self) -> DeviceError:
        """Return why no frame came, as far as it is known."""
        hint = _HUNG_HINT if self._abandoned else _HINT
        problem = self._meeting.problem
        if problem is not None:
            error = DeviceError(str(problem), hint=problem.hint or hint)
            error.__cause__ = problem
            return error
        return DeviceError(
            f"Expected: a frame from {self._name}. Received: none in {self._timing.patience_s:g} s.",
            hint=hint,
        )


class _Worker:
    """A thread, and the one camera that it has open."""

    def __init__(
        self,
        opener: Opener,
        meeting: "_Meeting",
        timing: Timing,
        steady: Callable[[], float],
        pause: Callable[[threading.Event, float], object],
    ) -> None:
        self.stopped = threading.Event()
        self._opener, self._meeting, self._timing = opener, meeting, timing
        self._steady, self._pause = steady, pause
        self._since: float | None = None
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    @property
    def stuck_s(self) -> float:
        """For how long the driver has not come back; 0 outside of it."""
        since = self._since
        return 0.0 if since is None else self._steady() - since

    def stop(self) -> None:
        """Let the thread end as soon as the driver comes back; what it brings is not shown."""
        self.stopped.set()
        self._meeting.wake()

    def join(self, patience_s: float) -> None:
        """Wait for the end."""
        self._thread.join(patience_s)

    def _run(self) -> None:
        while not self.stopped.is_set():
            try:
                self._serve()
            except KitError as exc:
                self._meeting.lose(exc, self.stopped)
                self._pause(self.stopped, self._timing.pause_s)
            else:
                self._meeting.wait_for_reader(self.stopped)

    def _serve(self) -> None:
        """Open the camera, and serve until it fails, this worker is stopped, or nobody asks any more."""
        camera = self._within(self._opener)
        try:
            while not self.stopped.is_set() and self._meeting.idle_s < self._timing.rest_s:
                if isinstance(camera, Stream):
                    self._flow(camera)
                elif self._meeting.wait_for_reader(self.stopped):
                    self._ask(camera)
        finally:
            self._within(camera.close)

    def _flow(self, camera: Stream) -> None:
        """Take the next frame out of the queue; do the work of decoding it only for somebody."""
        self._within(camera.grab)
        self._meeting.well()
        frame = self._within(camera.retrieve) if self._meeting.wanted else None
        self._meeting.give(frame, self.stopped)

    def _ask(self, camera: Camera) -> None:
        """Let a camera that queues nothing make a picture."""
        frame = self._within(camera.read)
        if frame is None:
            raise DeviceError("Expected: a camera that goes on. Received: its end.")
        self._meeting.well()
        self._meeting.give(frame, self.stopped)

    def _within(self, call: Callable[[], T]) -> T:
        """Call the driver, and note since when."""
        self._since = self._steady()
        try:
            return call()
        finally:
            self._since = None


class _Meeting:
    """Where the reader and the worker of the day meet."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self.wanted = False
        self.dropped = 0
        self.problem: KitError | None = None
        self._frame: Frame | None = None
        self._changed = threading.Condition()
        self._steady = steady
        self._asked = steady()

    @property
    def idle_s(self) -> float:
        """For how long nobody has waited."""
        return 0.0 if self.wanted else self._steady() - self._asked

    def take(self, patience_s: float) -> Frame | None:
        """Wait for a frame; None when patience is over."""
        with self._changed:
            self.wanted = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._frame is not None, patience_s)
            frame, self._frame, self.wanted = self._frame, None, False
            self._asked = self._steady()
        return frame

    def give(self, frame: Frame | None, stopped: threading.Event) -> None:
        """Hand over a frame that came, None: not worth showing; dropped where nobody waits or it is late."""
        with self._changed:
            if frame is None or stopped.is_set() or not self.wanted:
                self.dropped += 1
                return
            self._frame, self.wanted = frame, False
            self._asked = self._steady()
            self._changed.notify_all()

    def wait_for_reader(self, stopped: threading.Event) -> bool:
        """Return whether somebody waits; False when the worker is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self.wanted or stopped.is_set())
            return not stopped.is_set()

    def wake(self) -> None:
        """Let workers see that they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def lose(self, problem: KitError, stopped: threading.Event) -> None:
        """Remember why there is no camera."""
        with self._changed:
            if not stopped.is_set():
                self.problem = problem

    def well(self) -> None:
        """Forget that there was none."""
        self.problem = None
