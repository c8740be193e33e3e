"""The recorder of record: commit first, then tell the broker, then tell the device.

Events are inserted once by (source, id), committed, acknowledged to the broker, and then to the
device up to the highest sequence without a hole. What a device says it no longer has is recorded as
a gap and acknowledged past.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from queue import Empty

import sqlalchemy as sa

from dashboard.batch import Refusal
from dashboard.inbox import Inbox
from dashboard.store import Store
from edge_agent.contracts import messages
from edge_agent.contracts.errors import ServiceError
from edge_agent.contracts.messages import Ack
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Disconnected, Link, Notice, Publication, Received, Refused, Subscribed

log = logging.getLogger(__name__)

BATCH = 1000
_MUCH, _GATHER_S = 20, 0.02
_TELL_S = 0.5
_RETRY_S = 2.0
_COMPLAIN_S = 30.0


class Recorder:
    """Takes what comes over the link into the store. Runs in a thread of its own.

    Args:
        link: Subscribed to events, state and health, with manual acknowledgement.
        store: The database.
        changed: Called after each commit with the sources of which it has something new.
        batch: Most messages of one commit.
    """

    def __init__(
        self, link: Link, store: Store, changed: Callable[[Collection[str]], object], batch: int = BATCH
    ) -> None:
        self._link, self._store, self._changed, self._most = link, store, changed, batch
        self._due: dict[DeviceTopics, tuple[str, int]] = {}
        self._told = self._complained = float("-inf")
        self._busy = False
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
            self._busy = len(received) >= _MUCH
            if received:
                self._take(received, stopping)
            self._tell(at_once=not self._busy)
        self._tell(at_once=True)

    def _batch(self) -> list[Notice]:
        """Wait a moment for a notice, and take what else is there."""
        batch: list[Notice] = []
        with contextlib.suppress(Empty):
            batch.append(self._link.notices.get(timeout=0.25))
            if self._busy:
                # More will come, and one commit for all of it costs less than several.
                time.sleep(_GATHER_S)
            while len(batch) < self._most:
                batch.append(self._link.notices.get_nowait())
        return batch

    def _take(self, received: list[Received], stopping: threading.Event) -> None:
        """Commit a batch, again and again while the database is away; nothing is acknowledged before."""
        inbox = Inbox(datetime.now(UTC))
        for item in received:
            inbox.put(item.topic, item.payload, retained=item.retain)
        while not stopping.is_set():
            try:
                with self._store.writing() as connection:
                    reached = self._store.take(connection, inbox.batch, datetime.now(UTC))
            except sa.exc.DataError as exc:
                # One of them is not for this database; the others must not wait for it.
                if len(received) > 1:
                    half = len(received) // 2
                    for part in (received[:half], received[half:]):
                        self._take(part, stopping)
                    return
                inbox.refuse(f"The database does not take it: {exc.orig}")
            except sa.exc.SQLAlchemyError as exc:
                log.warning("database: %s", str(exc).splitlines()[0])
                stopping.wait(_RETRY_S)
            else:
                self._acknowledge(received, inbox, reached)
                return

    def _acknowledge(
        self, received: list[Received], inbox: Inbox, reached: dict[tuple[str, str], int]
    ) -> None:
        """Tell the broker what is on the disk now, and note what to tell devices."""
        for item in received:
            self._link.acknowledge(item.handle)
        for topics, key in inbox.streams.items():
            self._due[topics] = (key[1], reached[key])
        for refusal in inbox.batch.refusals:
            self._complain(refusal)
        self._changed(inbox.batch.sources)

    def _tell(self, *, at_once: bool) -> None:
        """Tell each device up to where its stream is on the disk; while much comes twice a second is enough.

        What cannot be told because the broker is away stays, and is told when it is there again.
        """
        if not self._due or not (at_once or time.monotonic() - self._told >= _TELL_S):
            return
        self._told = time.monotonic()
        now = datetime.now(UTC)
        for topics, (stream, upto) in list(self._due.items()):
            ack = messages.encode(Ack(stream=stream, upto=upto, time=now))
            if self._link.publish(Publication(topics.ack, ack, retain=True)) is None:
                return
            del self._due[topics]

    def _complain(self, refusal: Refusal) -> None:
        """Say that something is in quarantine, not more than twice a minute: the log has an end, too."""
        if time.monotonic() - self._complained > _COMPLAIN_S:
            self._complained = time.monotonic()
            log.warning("%s: in quarantine: %s", refusal.topic, refusal.reason)
