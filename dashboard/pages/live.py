"""What a store's open pages are told, live: encoded once for all of them, sent where it changed."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from dashboard.hub import Hub
from dashboard.queries import Queries

_EVENTS = 50
_LOOK_BACK = 20_000
_PAUSE_S = 0.03
_IDLE_S = 5.0


class _Device:
    """The latest of one device, ready to be sent: with its geometry, and without for who has that already."""

    def __init__(self, device: str, state: str | None, health: str | None) -> None:
        found = json.loads(state) if state else None
        said = json.loads(health) if health else None
        self.geometry: str | None = found["planogram"]["sha256"] if found else None
        self.full = _event("device", {"device": device, "state": found, "health": said})
        light = {key: value for key, value in found.items() if key != "planogram"} if found else None
        self.light = _event("device", {"device": device, "state": light, "health": said})


def _event(kind: str, value: object, number: int | None = None) -> bytes:
    """Return a server-sent event; JSON in ASCII has no line ends."""
    place = "" if number is None else f"id: {number}\n"
    return f"{place}event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


class _View:
    """The latest of one store."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.devices: dict[str, _Device] = {}
        self.events: deque[tuple[int, bytes]] = deque(maxlen=_EVENTS)
        self.readers = 0
        self.lock = asyncio.Lock()
        self.generation = -1
        self._raw: dict[str, tuple[str | None, str | None]] = {}
        self._after = -1

    def read(self, queries: Queries) -> None:
        """Read what is new."""
        for device, state, health in queries.latest(self.store):
            if self._raw.get(device) != (state, health):
                self._raw[device] = (state, health)
                self.devices[device] = _Device(device, state, health)
        end = queries.last_row()
        first = self._after if self._after >= 0 else max(end - _LOOK_BACK, 0)
        fresh = queries.latest_events(self.store, first, _EVENTS)
        self._after = max(end, fresh[-1]["cursor"]) if fresh else end
        self.events.extend((row["cursor"], _event("event", row, row["cursor"])) for row in fresh)


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

    async def stream(
        self, store: str, after: int, allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Yield what is there now, and then whatever changes, until the reader may see it no more.

        Args:
            store: Which store.
            after: The latest event that the page has.
            allowed: Asked now and then.
        """
        view = self._views.setdefault(store, _View(store))
        view.readers += 1
        try:
            with self._hub.listening() as news:
                sent = _Sent(after)
                while await allowed():
                    news.clear()
                    fresh = await self._fresh(view, sent)
                    if fresh:
                        yield fresh
                    await asyncio.sleep(_PAUSE_S)
                    # Also without news: a broker that is gone makes none.
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), timeout=_IDLE_S)
        finally:
            view.readers -= 1
            if not view.readers:
                self._views.pop(store, None)

    async def _fresh(self, view: _View, sent: "_Sent") -> bytes:
        database = True
        try:
            async with view.lock:
                generation = self._hub.generation
                if view.generation != generation:
                    await run_in_threadpool(view.read, self._queries)
                    view.generation = generation
        except sa.exc.SQLAlchemyError:
            database = False
        return sent.missing(view, _event("link", {"broker": self._connected(), "database": database}))


class _Sent:
    """What one page was told."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._devices: dict[str, _Device] = {}
        self._link = b""

    def missing(self, view: _View, link: bytes) -> bytes:
        """Return what the page lacks; it counts as told from then on."""
        messages = []
        for name, device in view.devices.items():
            known = self._devices.get(name)
            if known is not device:
                self._devices[name] = device
                same = known is not None and known.geometry == device.geometry
                messages.append(device.light if same else device.full)
        for row, event in view.events:
            if row > self._after:
                self._after = row
                messages.append(event)
        if link != self._link:
            self._link = link
            messages.append(link)
        return b"".join(messages)
