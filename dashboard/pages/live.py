"""What a store's open pages are told, live: read and encoded once for all of them, and only what changed.

A page gets everything once (`begin`, `device`..., `event`..., `link`) and from then on `change`: of a
device's snapshot and health what is different, as a JSON merge patch (RFC 7396); or that it is `gone`. One
that was too slow for many changes gets everything anew.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from dashboard.hub import Hub
from dashboard.queries import Queries

_EVENTS = 50
_KEPT = 50
_PAUSE_S = 0.02
_IDLE_S = 5.0
_AWAY_S = 1.0

Json = dict[str, Any]


def patch(before: Json, now: Json) -> Json:
    """Return what makes one of the other: a JSON merge patch; a value that is null counts as left out."""
    found: Json = {name: None for name in before if now.get(name) is None and before[name] is not None}
    for name, value in now.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if changed := patch(old, value):
                found[name] = changed
        elif value != old and value is not None:
            found[name] = value
    return found


def _event(kind: str, value: object) -> bytes:
    """Return a server-sent event; JSON in ASCII has no line ends."""
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


class _View:
    """The latest of one store, and the last changes, each under a number."""

    def __init__(self, store: str, queries: Queries) -> None:
        self.pages: set[_Page] = set()
        self.keeper: asyncio.Task[None] | None = None
        self.number = 0
        self._store, self._queries = store, queries
        self._changes: deque[bytes] = deque(maxlen=_KEPT)
        self._devices: dict[str, Json] = {}
        self._texts: dict[str, tuple[str | None, ...]] = {}
        self._events: deque[bytes] = deque(maxlen=_EVENTS)
        self._after = -1
        self._link = b""
        self._whole: bytes | None = None

    def read(self, sources: set[str] | None) -> list[bytes]:
        """Read what is new, of some devices or of all; return what to tell pages."""
        news = self._queries.news(self._store, sources, self._after, _EVENTS)
        self._after = news.last
        told = self._gone(sources, {device for device, *_ in news.devices})
        told += [self._changed(*device) for device in news.devices]
        events = [_event("event", row) for row in news.events]
        self._events.extend(events)
        return [change for change in told if change] + events

    def _gone(self, sources: set[str] | None, there: set[str]) -> list[bytes]:
        """Forget devices that were asked for and are there no more."""
        asked = self._devices if sources is None else {source.split("/")[-1] for source in sources}
        gone = [device for device in asked if device in self._devices and device not in there]
        for device in gone:
            del self._devices[device], self._texts[device]
        return [_event("gone", {"device": device}) for device in gone]

    def _changed(self, device: str, *texts: str | None) -> bytes:
        if self._texts.get(device) == texts:
            return b""
        self._texts[device] = texts
        before = self._devices.get(device)
        state, health, heard = texts
        now = {
            "state": json.loads(state) if state else None,
            "health": json.loads(health) if health else None,
            "heard": heard,
        }
        self._devices[device] = now
        if before is None:
            return _event("device", {"device": device, **now})
        change = patch(before, now)
        return _event("change", {"device": device, **change}) if change else b""

    def tell(self, told: list[bytes], *, broker: bool, database: bool) -> None:
        """Number what there is to tell, and wake the pages if there is anything."""
        link = _event("link", {"broker": broker, "database": database})
        if link != self._link:
            self._link = link
            told.append(link)
        if told:
            self.number += 1
            self._changes.append(b"".join(told))
            self._whole = None
        self.wake()

    def wake(self) -> None:
        """Let every page look."""
        for page in self.pages:
            page.wake.set()

    def since(self, number: int) -> bytes:
        """Return what a page lacks that was told everything up to a number; 0 is one that is new."""
        behind = self.number - number
        if number and behind <= len(self._changes):
            return b"".join(list(self._changes)[-behind:]) if behind else b""
        return self._everything() if self.number else b""

    def _everything(self) -> bytes:
        if self._whole is None:
            devices = [_event("device", {"device": name, **now}) for name, now in self._devices.items()]
            begin = _event("begin", {"devices": list(self._devices)})
            self._whole = b"".join([begin, *devices, *self._events, self._link])
        return self._whole


class _Page:
    """One open page: up to where it was told, and what wakes it."""

    def __init__(self) -> None:
        self.number = 0
        self.wake = asyncio.Event()
        self.wake.set()


class Live:
    """Streams for the pages of all stores.

    Args:
        queries: To the recorder's database.
        hub: Told of news by the recorder.
        connected: Whether the broker is there.
    """

    def __init__(self, queries: Queries, hub: Hub, connected: Callable[[], bool]) -> None:
        self._queries, self._hub, self._connected = queries, hub, connected
        self._views: dict[str, _View] = {}

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return sum(len(view.pages) for view in self._views.values())

    async def stream(self, store: str, allowed: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """Yield what is there now and then what changes, while the reader may see it and the server goes on.

        Args:
            store: Which store.
            allowed: Asked now and then.
        """
        with self._open(store) as (view, page):
            while await allowed():
                await page.wake.wait()
                page.wake.clear()
                if view.keeper is not None and view.keeper.done():
                    view.keeper.result()
                    return
                number, fresh = view.number, view.since(page.number)
                page.number = number
                # Also where there is nothing to tell: only who is written to is found to be gone.
                yield fresh or b":\n\n"

    @contextlib.contextmanager
    def _open(self, store: str) -> Iterator[tuple[_View, _Page]]:
        """Give a page its view, which is kept up to date for as long as it has pages."""
        page = _Page()
        view = self._views.get(store)
        if view is None:
            view = self._views[store] = _View(store, self._queries)
            view.keeper = asyncio.create_task(self._keep(store, view), name=f"view of {store}")
            view.keeper.add_done_callback(lambda _ended: view.wake())
        view.pages.add(page)
        try:
            yield view, page
        finally:
            view.pages.discard(page)
            if not view.pages:
                del self._views[store]
                if view.keeper is not None:
                    view.keeper.cancel()

    async def _keep(self, store: str, view: _View) -> None:
        """Read what is new, as soon as it is and now and then without word: others may record, too."""
        sources: set[str] | None = None
        with self._hub.listening(store) as news:
            while not self._hub.closed:
                told, database = [], True
                try:
                    told = await run_in_threadpool(view.read, sources)
                except sa.exc.SQLAlchemyError:
                    database = False
                view.tell(told, broker=self._connected(), database=database)
                # What comes in one breath is told together.
                await asyncio.sleep(_PAUSE_S)
                taken = await news.take(_IDLE_S if database else _AWAY_S)
                sources = taken if taken and database else None
