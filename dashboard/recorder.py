"""The recorder of record: commit first, then tell the broker, then tell the device.

Events are inserted once by (source, id), committed, acknowledged to the broker, and then to the
device up to the highest sequence without a hole. What a device says it no longer has is recorded as
a gap and acknowledged past.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty
from typing import Annotated

import sqlalchemy as sa
from pydantic import BaseModel, Field

from dashboard.store import Arrival, Store
from edge_agent.contracts import events, messages
from edge_agent.contracts.errors import DataError, ServiceError
from edge_agent.contracts.messages import Ack, Health, State
from edge_agent.contracts.times import rfc3339
from edge_agent.contracts.topics import DeviceTopics, parse
from edge_agent.contracts.validation import strict_json
from edge_agent.mqtt import Disconnected, Handle, Link, Notice, Publication, Received, Refused, Subscribed

log = logging.getLogger(__name__)

_BATCH = 200
_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a batch came to: what to acknowledge to whom, once it is committed."""

    handles: list[Handle]
    acks: dict[DeviceTopics, Ack]


class Recorder:
    """Takes what comes over the link into the store. Runs in a thread of its own.

    Args:
        link: Subscribed to events, state and health, with manual acknowledgement.
        store: The database.
        changed: Called after each commit that changed something.
    """

    def __init__(self, link: Link, store: Store, changed: Callable[[], None]) -> None:
        self._link, self._store, self._changed = link, store, changed
        self._connected = threading.Event()
        self.error: Exception | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker is there, and sends what devices say."""
        return self._connected.is_set()

    def run(self, stopping: threading.Event) -> None:
        """Go on until told to stop; a broker that will not have us at the very first ends it."""
        welcome = False
        while not stopping.is_set():
            batch = self._batch()
            for notice in batch:
                match notice:
                    case Subscribed():
                        welcome = True
                        self._connected.set()
                    case Disconnected():
                        self._connected.clear()
                        log.warning("broker: %s", notice.reason)
                    case Refused() if not welcome:
                        self.error = ServiceError(
                            f"Expected: a broker that lets the recorder in. Received: {notice.reason}.",
                            hint="check user, password and access list; see `shelfkit deploy broker --help`",
                        )
                        return
                    case Refused():
                        log.warning("broker refuses: %s", notice.reason)
                    case _:
                        pass
            received = [notice for notice in batch if isinstance(notice, Received)]
            if received:
                self._take(received, stopping)

    def _batch(self) -> list[Notice]:
        """Wait a moment for a notice, and take what else is there."""
        batch: list[Notice] = []
        with contextlib.suppress(Empty):
            batch.append(self._link.notices.get(timeout=0.25))
            while len(batch) < _BATCH:
                batch.append(self._link.notices.get_nowait())
        return batch

    def _take(self, received: list[Received], stopping: threading.Event) -> None:
        """Commit a batch, again and again while the database is away; nothing is acknowledged before."""
        while not stopping.is_set():
            try:
                with self._store.engine.begin() as connection:
                    taken = self._record(connection, received)
            except sa.exc.DataError as exc:
                if len(received) == 1:
                    log.warning("%s: left out: %s", received[0].topic, exc.orig)
                    self._link.acknowledge(received[0].handle)
                    return
                # One of them is not for this database; the others must not wait for it.
                for item in received:
                    self._take([item], stopping)
                return
            except sa.exc.SQLAlchemyError as exc:
                log.warning("database: %s", str(exc).splitlines()[0])
                stopping.wait(_RETRY_S)
                continue
            for handle in taken.handles:
                self._link.acknowledge(handle)
            for topics, ack in taken.acks.items():
                said = messages.encode(ack.model_copy(update={"time": datetime.now(UTC)}))
                self._link.publish(Publication(topics.ack, said, retain=True))
            self._changed()
            return

    def _record(self, connection: sa.Connection, received: list[Received]) -> _Taken:
        arrivals: dict[DeviceTopics, list[Arrival]] = {}
        states: dict[DeviceTopics, State] = {}
        for item in received:
            place = parse(item.topic)
            if place is None:
                continue
            topics, leaf = place
            try:
                if leaf.startswith("event/"):
                    arrivals.setdefault(topics, []).append(_arrival(topics, item.payload))
                elif leaf == "state":
                    states[topics] = messages.decode(State, item.payload)
                    self._note(connection, topics, state=item.payload.decode())
                elif leaf == "health":
                    messages.decode(Health, item.payload)
                    self._note(connection, topics, health=item.payload.decode())
            except DataError as exc:
                log.warning("%s: left out: %s", item.topic, exc)
        acks = self._advance(connection, arrivals, states)
        return _Taken([item.handle for item in received], acks)

    def _note(self, connection: sa.Connection, topics: DeviceTopics, **latest: str) -> None:
        source = events.source(topics.store, topics.device)
        self._store.note(connection, source, topics.store, topics.device, **latest)

    def _advance(
        self,
        connection: sa.Connection,
        arrivals: dict[DeviceTopics, list[Arrival]],
        states: dict[DeviceTopics, State],
    ) -> dict[DeviceTopics, Ack]:
        acks = {}
        for topics, items in arrivals.items():
            self._store.add(connection, items)
            for stream in {item.stream for item in items}:
                upto = self._store.advance(connection, items[0].source, stream)
                acks[topics] = Ack(stream=stream, upto=upto)
        for topics, state in states.items():
            source = events.source(topics.store, topics.device)
            upto = self._store.skip_to(connection, source, state.stream, state.oldest, datetime.now(UTC))
            acks[topics] = Ack(stream=state.stream, upto=upto)
        return acks


def _arrival(topics: DeviceTopics, payload: bytes) -> Arrival:
    """Read an event; of one that is newer than this recorder the envelope is enough.

    Raises:
        DataError: It is none, or it speaks for another device.
    """
    try:
        event = events.decode(payload)
        found = Arrival(
            event.source,
            event.id,
            event.streamid,
            event.sequence,
            event.type,
            event.subject,
            rfc3339(datetime.now(UTC)),
            payload.decode(),
        )
    except DataError:
        found = _envelope(payload)
    expected = events.source(topics.store, topics.device)
    if found.source != expected:
        raise DataError(f"Expected: events of {expected}. Received: one of {found.source}.")
    return found


class _Envelope(BaseModel):
    """What any event of any version has."""

    source: str
    id: Annotated[str, Field(min_length=1, max_length=64)]
    streamid: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    sequence: events.Sequence
    type: str
    subject: str


def _envelope(payload: bytes) -> Arrival:
    try:
        value = _Envelope.model_validate(strict_json(payload))
    except (ValueError, RecursionError) as exc:
        raise DataError(f"Expected: a CloudEvent with a sequence. Received: {payload[:80]!r}.") from exc
    now = rfc3339(datetime.now(UTC))
    return Arrival(
        value.source,
        value.id,
        value.streamid,
        value.sequence,
        value.type,
        value.subject,
        now,
        payload.decode(),
    )
