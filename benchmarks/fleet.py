"""Simulated devices: each with a connection and an outbox of its own, which forgets on the recorder's word.

A device is a few hundred lines of the agent in thirty: events in order, a window, rewinds where the
acknowledgement stands still, everything again after each reconnect. MQTT 3.1.1 by hand, because ten
thousand clients of a library are ten thousand threads.
"""

import asyncio
import contextlib
import json
import random
import struct
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from edge_agent.contracts import events
from edge_agent.contracts.times import rfc3339
from edge_agent.contracts.topics import DeviceTopics

_WINDOW = 20
_PUBLISH, _PUBACK = 3, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What a device does. Events come at random moments, so many a minute in the mean."""

    events_per_minute: float = 2.0
    snapshot_s: float = 60.0
    ack_timeout_s: float = 10.0
    longest_wait_s: float = 10.0


@dataclass(slots=True)
class Figures:
    """What a fleet has done."""

    events: int = 0
    sent: int = 0
    connections: int = 0
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))


class Device:
    """One of them.

    Args:
        topics: Its own.
        port: Of the broker on 127.0.0.1.
        traffic: What it does.
        figures: Counted here.
        rng: For moments and waits.
    """

    def __init__(
        self, topics: DeviceTopics, port: int, traffic: Traffic, figures: Figures, rng: random.Random
    ) -> None:
        self.topics, self.stream, self.last, self.acked = (
            topics,
            uuid.UUID(int=rng.getrandbits(128)).hex,
            0,
            0,
        )
        self._port, self._traffic, self._figures, self._rng = port, traffic, figures, rng
        self._outbox: dict[int, bytes] = {}
        self._made: dict[int, float] = {}
        self._waiting: dict[int, int] = {}
        self._cursor, self._number = 0, 0
        self._standing_since = 0.0
        self._writer: asyncio.StreamWriter | None = None
        self._wake = asyncio.Event()

    def add(self) -> None:
        """Let something happen on the shelf."""
        self.last += 1
        self._outbox[self.last] = event(self.topics, self.stream, self.last)
        self._made[self.last] = time.monotonic()
        self._figures.events += 1
        self._wake.set()

    def leave(self) -> None:
        """Look whether it is the end."""
        self._wake.set()

    async def live(self, ending: asyncio.Event) -> None:
        """Go on until the end, whatever happens to the line."""
        failures = 0
        while not ending.is_set():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._connection(ending)
                failures = 0
            failures += 1
            self._writer = None
            ceiling = min(0.5 * 2**failures, self._traffic.longest_wait_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), self._rng.uniform(0, ceiling))

    async def _connection(self, ending: asyncio.Event) -> None:
        reader, self._writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", self._port), timeout=10
        )
        try:
            name = self.topics.device.encode()
            self._send(0x10, b"\0\4MQTT\4\2\0\x3c" + _text(name))
            kind, body = await asyncio.wait_for(_packet(reader), timeout=30)
            if kind != 0x20 or body[1]:  # noqa: PLR2004 - CONNACK
                return
            self._figures.connections += 1
            self._waiting.clear()
            self._cursor = self.acked
            self._send(0x82, b"\0\1" + _text(self.topics.ack.encode()) + b"\1")
            self._snapshot()
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(reader))
                tasks.create_task(self._talk(ending, listening))
        except* (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            self._writer.transport.abort()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, body = await _packet(reader)
            if kind >> 4 == _PUBACK:
                self._waiting.pop(struct.unpack(">H", body[:2])[0], None)
                if self._cursor < self.last:
                    self._wake.set()
            elif kind >> 4 == _PUBLISH:
                self._heard(kind, body)

    def _heard(self, kind: int, body: bytes) -> None:
        (size,) = struct.unpack(">H", body[:2])
        rest = body[2 + size :]
        if kind & 6:
            self._send(0x40, rest[:2])
            rest = rest[2:]
        ack = json.loads(rest)
        if ack["stream"] == self.stream and ack["upto"] > self.acked:
            now = time.monotonic()
            for sequence in range(self.acked + 1, ack["upto"] + 1):
                self._outbox.pop(sequence)
                self._figures.delays_s.append(now - self._made.pop(sequence))
            self.acked = ack["upto"]
            self._cursor = max(self._cursor, self.acked)
            self._standing_since = now

    async def _talk(self, ending: asyncio.Event, listening: asyncio.Task[None]) -> None:
        told = pinged = time.monotonic()
        # The end of the line is looked for, too: Python 3.11 may lose a cancellation in `wait_for`.
        while not ending.is_set() and not listening.done():
            now = time.monotonic()
            if self._cursor == self.acked:
                self._standing_since = now
            elif now - self._standing_since > self._traffic.ack_timeout_s:
                self._cursor, self._standing_since = self.acked, now
            while self._cursor < self.last and len(self._waiting) < _WINDOW:
                self._cursor += 1
                self._publish(self.topics.event("restocked"), self._outbox[self._cursor], retain=False)
                self._figures.sent += 1
            if now - told > self._traffic.snapshot_s:
                self._snapshot()
                told = now
            if now - pinged > 20:  # noqa: PLR2004 - seconds; keep-alive is 60
                self._send(0xC0, b"")
                pinged = now
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(5.0, self._traffic.ack_timeout_s / 2))
        listening.cancel()

    def _snapshot(self) -> None:
        self._publish(
            self.topics.state, snapshot(self.topics, self.stream, self.acked, self.last), retain=True
        )

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self._number = self._number % 65535 + 1
        self._waiting[self._number] = 0
        head = _text(topic.encode()) + struct.pack(">H", self._number)
        self._send(0x32 | int(retain), head + payload)

    def _send(self, kind: int, body: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(bytes([kind]) + _length(len(body)) + body)


async def happen(devices: list[Device], traffic: Traffic, until: float, rng: random.Random) -> None:
    """Let things happen before all shelves, at random, until a moment."""
    rate = len(devices) * traffic.events_per_minute / 60
    due, before = 0.0, time.monotonic()
    while before < until:
        # A simulator that is late makes up for it.
        now = time.monotonic()
        due, before = due + rate * (now - before), now
        while due >= 1:
            # A hand in the shelf makes several events.
            burst = min(rng.randint(1, 4), int(due))
            device = rng.choice(devices)
            for _ in range(burst):
                device.add()
            due -= burst
        await asyncio.sleep(0.1)


def event(topics: DeviceTopics, stream: str, sequence: int) -> bytes:
    """Return an event as an agent makes it."""
    now = datetime.now(UTC)
    bits = (int(now.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | (uuid.uuid4().int & (2**62 - 1))
    value: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(uuid.UUID(int=bits)),
        "source": events.source(topics.store, topics.device),
        "type": events.Kind.RESTOCKED.type,
        "subject": "shelf/12/product/milk-1l",
        "time": rfc3339(now),
        "datacontenttype": "application/json",
        "sequence": f"{sequence:016d}",
        "streamid": stream,
        "data": {
            "store": topics.store,
            "shelf": "12",
            "slot": "A3",
            "state": "present",
            "previous": "empty",
            "label": "milk-1l",
            "since": rfc3339(now),
            "product": {"label": "milk-1l", "name": "Milk 1 l", "gtin": "09506000134352"},
            "confidence": 0.93,
            "model": {"name": "dairy", "version": "1.4.2"},
            "facings": 4,
            "filled": 4,
        },
    }
    return json.dumps(value, separators=(",", ":")).encode()


def snapshot(topics: DeviceTopics, stream: str, acked: int, last: int) -> bytes:
    """Return a snapshot with one product and one slot."""
    now = rfc3339(datetime.now(UTC))
    value = {
        "device": topics.device,
        "store": topics.store,
        "shelf": "12",
        "time": now,
        "stream": stream,
        "oldest": acked + 1,
        "last": last,
        "model": {"name": "dairy", "version": "1.4.2", "sha256": "0" * 64},
        "planogram": {"sha256": "0" * 64, "width": 1920, "height": 1080, "slots": {}},
        "camera": {"faults": []},
        "products": [{"label": "milk-1l", "name": "Milk 1 l", "facings": 4, "filled": 4, "state": "ok"}],
        "slots": {"A3": {"state": "present", "label": "milk-1l", "confidence": 0.93, "since": now}},
    }
    return json.dumps(value, separators=(",", ":")).encode()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    (kind,) = await reader.readexactly(1)
    size = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        size |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return kind, await reader.readexactly(size)


def _length(size: int) -> bytes:
    found = bytearray()
    while True:
        size, low = divmod(size, 128)
        found.append(low | (128 if size else 0))
        if not size:
            return bytes(found)


def _text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value
