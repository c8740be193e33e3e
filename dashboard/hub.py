"""Wakes whoever waits for news of the recorder."""

import asyncio
import contextlib
from collections.abc import Iterator


class Hub:
    """Wakes the streams of all open pages when the recorder has something new."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Event] = set()
        self.generation = 0

    def changed(self) -> None:
        """Say that something is new; from any thread."""
        self.generation += 1
        if self._loop is not None:
            # While the server goes down its loop is closed, and nobody listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for waiting in self._waiting:
            waiting.set()

    @property
    def listeners(self) -> int:
        """How many pages listen now."""
        return len(self._waiting)

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever something is new."""
        self._loop = asyncio.get_running_loop()
        news = asyncio.Event()
        self._waiting.add(news)
        try:
            yield news
        finally:
            self._waiting.discard(news)
