"""The kit's one MQTT adapter as an asynchronous iterator of events."""

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from dashboard.client._position import Position
from edge_agent.contracts import events
from edge_agent.contracts.address import Address, address_from_url
from edge_agent.contracts.config import Tls
from edge_agent.contracts.errors import DataError, ServiceError, UsageError
from edge_agent.contracts.events import Event, Kind, SlotData
from edge_agent.contracts.topics import DeviceTopics, parse
from edge_agent.mqtt import Disconnected, Handle, Link, Notice, Received, Refused, Subscribed

log = logging.getLogger(__name__)

_SESSION_S = 7 * 24 * 3600
_MEMORY = 100_000


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which events are wanted; an empty part wants all."""

    kinds: frozenset[Kind]
    stores: frozenset[str]
    devices: frozenset[str]
    products: frozenset[str]

    def topics(self) -> tuple[str, ...]:
        """Return what to subscribe to; no two of them overlap."""
        kinds = [kind.value for kind in self.kinds] or ["+"]
        places = itertools.product(self.stores or ["+"], self.devices or ["+"], kinds)
        return tuple(sorted(DeviceTopics(store, device).event(kind) for store, device, kind in places))

    def wants(self, place: DeviceTopics, event: Event) -> bool:
        """Say whether to hand an event on; a session may hold what was once subscribed to."""
        return (
            (not self.kinds or event.kind in self.kinds)
            and (not self.stores or place.store in self.stores)
            and (not self.devices or place.device in self.devices)
            and (not self.products or self._product(event))
        )

    def _product(self, event: Event) -> bool:
        if not isinstance(event.data, SlotData):
            return False
        product = event.data.product
        return product.label in self.products or product.gtin in self.products


def subscribe(  # noqa: PLR0913 - each is a keyword
    url: str,
    *,
    position: Path | str,
    kinds: Collection[Kind | str] = (),
    stores: Collection[str] = (),
    devices: Collection[str] = (),
    products: Collection[str] = (),
    tls: Tls | None = None,
    client_id: str | None = None,
    memory: int = _MEMORY,
) -> "Subscription":
    """Return a subscription to the events of a broker: iterate over it.

    Args:
        url: `mqtt://[user:password@]host[:port]`, `mqtts://` for TLS.
        position: A file of this consumer alone: which events it is done with. Keep it.
        kinds: Kinds wanted, `low-stock`; none given: all. The same for the next three.
        stores: Stores wanted.
        devices: Devices wanted.
        products: Labels or GTINs (14 digits) wanted; events that are about no product are then left out.
        tls: CA, certificate and key, for a broker that asks for certificates (mqtts).
        client_id: The session's name where the broker's access list fixes one; else the file keeps one.
        memory: So many events are remembered, to know one that comes twice.

    Raises:
        UsageError: `url`, a kind, a name or `memory` is not well formed.
    """
    address = address_from_url(url)
    if tls is not None:
        if not address.encrypted:
            raise UsageError(f"Expected: mqtts:// where there are certificates. Received: {url!r}.")
        address = replace(address, tls=tls)
    try:
        wanted = frozenset(Kind(kind) for kind in kinds)
    except ValueError as exc:
        raise UsageError(f"Expected: kinds out of {', '.join(Kind)}. Received: {exc}.") from exc
    for name in (*stores, *devices):
        if not name or set(name) & set("+#/\0"):
            raise UsageError(f"Expected: names of stores and devices. Received: {name!r}.")
    if memory < 1:
        raise UsageError(f"Expected: memory of at least 1. Received: {memory}.")
    chosen = _Filter(wanted, frozenset(stores), frozenset(devices), frozenset(products))
    return Subscription(address, chosen, Path(position), client_id, memory)


class Subscription:
    """Events as they come, at least once each; made by `subscribe`.

    An event is done with when the consumer asks for the next one, or leaves `async with` without an
    error. Only then is it written to the position file and flushed, and only after that does the broker
    forget it. A consumer that dies before gets it again.

    Guaranteed
    - From the first connection on, nothing that the broker takes in is missed, for as long as the broker
      keeps the session: seven days without a connection, no loss of the broker's own memory, no limit on
      its queue. What was lost there stands in the recorder: ask `/api/v1/events` for it.
    - An event that is done with does not come again while it is among the last `memory` ones.
    - Events of one device come in the order in which its broker took them in. That is the order of
      `sequence`, but for what a device sends again: then an older event that was missed comes later.

    Not guaranteed
    - Exactly once: an effect and the position file are two places. Make the effect idempotent by
      (`source`, `id`).
    - Kinds that this version does not know, and messages that are no events: logged and passed over.

    Without `async with`, an event whose loop is left by `break` is not done with, and comes again.
    """

    def __init__(
        self, address: Address, chosen: _Filter, path: Path, client_id: str | None, memory: int
    ) -> None:
        self._address, self._filter, self._path = address, chosen, path
        self._client_id, self._memory = client_id, memory
        self._opened: _Opened | None = None

    async def __aenter__(self) -> Self:
        """Open the position file, and begin to connect.

        Raises:
            ConfigError: The certificates cannot be read.
            DataError: The position file cannot be used.
        """
        if self._opened is not None:
            raise UsageError("Expected: one loop at a time over a subscription. Received: a second one.")
        position = Position(self._path, self._memory)
        link = Link(
            self._address,
            client_id=self._client_id or position.client_id,
            subscriptions=self._filter.topics(),
            session_expiry_s=_SESSION_S,
            manual_ack=True,
        )
        try:
            link.check()
        except BaseException:
            position.close()
            raise
        self._opened = _Opened(link, position, self._filter)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close(done=error is None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events without end.

        Raises:
            ServiceError: The broker will not have us. One that is away is waited for.
            DataError: The position file cannot be written; the event in hand is then not done with.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self._opened is None:
                await stack.enter_async_context(self)
            opened = self._opened
            while opened is not None and opened is self._opened:
                yield await opened.following()


class _Opened:
    """A subscription at work: a thread reads the link's queue and wakes the loop, nobody polls."""

    def __init__(self, link: Link, position: Position, chosen: _Filter) -> None:
        self._link, self._position, self._filter = link, position, chosen
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Notice] = asyncio.Queue()
        self._in_hand: tuple[Event, Handle] | None = None
        self._welcome = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="subscription", daemon=True)
        link.start()
        self._thread.start()

    def _carry(self) -> None:
        while not self._ending.is_set():
            notice = self._link.notices.get()
            # A loop that was stopped in the middle of everything is closed, and nobody listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._arrived.put_nowait, notice)

    async def following(self) -> Event:
        """Be done with the event in hand, and wait for the next one that is wanted."""
        self._finish()
        while True:
            match await self._arrived.get():
                case Received() as message:
                    event = self._read(message)
                    if event is not None:
                        self._in_hand = event, message.handle
                        return event
                    self._link.acknowledge(message.handle)
                case Subscribed():
                    self._welcome = True
                case Refused(reason) if not self._welcome:
                    raise ServiceError(
                        f"Expected: a broker that lets this consumer in. Received: {reason}.",
                        hint="check user, password, certificates and the broker's access list",
                    )
                case Refused(reason) | Disconnected(reason):
                    log.warning("broker: %s", reason)
                case _:
                    pass

    def _read(self, message: Received) -> Event | None:
        """Return the event of a message where it is wanted and new."""
        place = parse(message.topic)
        if place is None:
            return None
        topics, _leaf = place
        try:
            event = events.decode(message.payload)
        except DataError as exc:
            log.warning("%s: passed over: %s", message.topic, exc)
            return None
        # A device may publish below its own topic alone, but write any source into what it says.
        if event.source != events.source(topics.store, topics.device):
            log.warning("%s: passed over: it speaks for %s", message.topic, event.source)
            return None
        if not self._filter.wants(topics, event) or self._position.has(event.source, event.id):
            return None
        return event

    def _finish(self) -> None:
        if self._in_hand is not None:
            event, handle = self._in_hand
            # First the disk, then the broker: a crash between the two repeats a message that is known.
            self._position.add(event.source, event.id)
            self._link.acknowledge(handle)
            self._in_hand = None

    async def close(self, *, done: bool) -> None:
        """Leave the broker; it keeps the session, and what was not done with."""
        try:
            if done:
                self._finish()
        finally:
            self._ending.set()
            self._link.notices.put(Disconnected("closed"))
            try:
                # It waits for the connection's thread: not in the loop.
                await asyncio.to_thread(self._link.close)
            finally:
                self._position.close()
