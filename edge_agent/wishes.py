"""What signals and commands ask of the loop; it looks at this whenever it waits for something."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType


class Ending(StrEnum):
    """Why the loop came to its end."""

    STOP = "stop"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Wishes:
    """Set from anywhere, looked at by the loop."""

    stop: threading.Event = field(default_factory=threading.Event)
    reload: threading.Event = field(default_factory=threading.Event)
    restart: threading.Event = field(default_factory=threading.Event)

    @property
    def end(self) -> bool:
        """Whether the loop must end."""
        return self.stop.is_set() or self.restart.is_set()

    @property
    def ending(self) -> Ending:
        """How; to stop goes before everything."""
        restart = self.restart.is_set() and not self.stop.is_set()
        return Ending.RESTART if restart else Ending.STOP


@contextmanager
def wishes() -> Iterator[Wishes]:
    """Turn SIGTERM and SIGINT into the wish to stop, SIGHUP into the one to read the configuration again."""
    asked = Wishes()

    def stop(_number: int, _frame: FrameType | None) -> None:
        asked.stop.set()

    def reload(_number: int, _frame: FrameType | None) -> None:
        asked.reload.set()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
