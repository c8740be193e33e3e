"""Wakes whoever waits for news of a store, when the recorder has some."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator


class News:
    """What is new in one store since somebody last took it.

    Attributes:
        sources: Which devices have something new.
    """

    def __init__(self) -> None:
        self.sources: set[str] = set()
        self._told = asyncio.Event()

    def add(self, source: str) -> None:
        """Say that a device has something new."""
        self.sources.add(source)
        self.wake()

    def wake(self) -> None:
        """Let whoever waits go on."""
        self._told.set()

    async def take(self, patience_s: float) -> set[str]:
        """Wait for news, but not for ever; return which devices have some: perhaps none."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), patience_s)
        self._told.clear()
        taken, self.sources = self.sources, set()
        return taken


class Hub:
    """Takes word from the recorder's thread to whoever listens in the server's."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: dict[str, set[News]] = {}
        self.closed = False

    def changed(self, sources: Iterable[str]) -> None:
        """Say which devices, `/stores/STORE/devices/DEVICE`, have something new; from any thread."""
        if self._loop is not None:
            # While the server goes down its loop is closed, and nobody listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._tell, frozenset(sources))

    def _tell(self, sources: Iterable[str]) -> None:
        for source in sources:
            for news in self._listening.get(source.split("/")[2], ()):
                news.add(source)

    def close(self) -> None:
        """Say that there will be no more news; in the server's thread."""
        self.closed = True
        for listening in self._listening.values():
            for news in listening:
                news.wake()

    @contextlib.contextmanager
    def listening(self, store: str) -> Iterator[News]:
        """Give what is told of a store from now on."""
        self._loop = asyncio.get_running_loop()
        news = News()
        self._listening.setdefault(store, set()).add(news)
        try:
            yield news
        finally:
            self._listening[store].discard(news)
            if not self._listening[store]:
                del self._listening[store]
