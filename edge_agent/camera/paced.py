"""A clip or folder in step with the clock, as if it were a camera."""

import time
from collections.abc import Callable

from edge_agent.camera.base import Camera, Frame


class Paced(Camera):
    """Gives each frame when its moment has come, and skips those whose moment is over.

    Args:
        camera: With an end.
        steady: The clock.
        sleep: Waits, seconds.
    """

    def __init__(
        self,
        camera: Camera,
        *,
        steady: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._camera, self._steady, self._sleep = camera, steady, sleep
        self._begin: float | None = None
        self._skipped = 0
        self._waiting = camera.read()

    def read(self) -> Frame | None:
        """Return the latest frame whose moment has come, or None after the last."""
        if self._begin is None:
            self._begin = self._steady()
        frame, self._waiting = self._waiting, None
        if frame is None:
            return None
        self._sleep(max(self._begin + frame.at - self._steady(), 0))
        while (later := self._camera.read()) is not None and self._begin + later.at <= self._steady():
            frame = later
            self._skipped += 1
        self._waiting = later
        return Frame(frame.image, self._begin + frame.at)

    @property
    def dropped(self) -> int:
        """How many frames had their moment before anybody asked."""
        return self._skipped + self._camera.dropped

    def close(self) -> None:
        """Let the source go."""
        self._camera.close()
