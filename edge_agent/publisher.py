"""Drains the outbox so that no event is lost, whatever a broker does.

- Rows go out in order, at most a window of them unanswered.
- A PUBACK moves the window and nothing else: it means "the broker has it in memory".
- A failure code, or "no matching subscribers", rewinds to the last acknowledgement, with back-off.
- So does an acknowledgement that stands still while something is out: a broker may accept
  messages and deliver none of them without ever hanging up.
- A row goes on the recorder's acknowledgement alone (or, where a site has no recorder and says so,
  on the PUBACK of it and all before it).
"""

import random
from typing import Protocol

from edge_agent.contracts import messages
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.events import CONTENT_TYPE, EXPIRY_S
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Connected, Delivered, Disconnected, Notice, Publication, Received, Token
from edge_agent.outbox import Row

WINDOW = 20
_BESIDE = 3
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.5, 60.0


class Queue(Protocol):
    """What waits; the outbox is one."""

    stream: str

    @property
    def last(self) -> int:
        """The latest sequence."""

    def after(self, sequence: int, limit: int) -> list[Row]:
        """Return waiting rows behind a place, oldest first."""

    def forget_up_to(self, sequence: int) -> None:
        """Delete rows that somebody else has."""


class Wire(Protocol):
    """What sends; the link is one."""

    def publish(self, publication: Publication) -> Token | None:
        """Hand over a message; None while there is no connection."""


class Publisher:
    """Decides what goes out when. Belongs to the thread that owns the outbox; time comes in, seconds.

    Args:
        queue: The outbox.
        wire: The link.
        topics: Of the device.
        ack_timeout_s: How long an acknowledgement may stand still.
        by_broker: Forget on PUBACK, for sites without a recorder.
        rng: For back-off.
    """

    def __init__(
        self,
        queue: Queue,
        wire: Wire,
        *,
        topics: DeviceTopics,
        ack_timeout_s: float,
        by_broker: bool,
        rng: random.Random,
    ) -> None:
        self._queue, self._wire, self._topics = queue, wire, topics
        self._ack_timeout_s, self._by_broker, self._rng = ack_timeout_s, by_broker, rng
        self._connected = False
        self._window = WINDOW
        self._waiting: dict[Token, int] = {}
        self._acked = 0
        self._cursor = 0
        self._standing_since = 0.0
        self._not_before = 0.0
        self._rewinds = 0

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._connected

    def on(self, notice: Notice, now: float) -> None:
        """Take a notice of the link into account."""
        match notice:
            case Connected():
                self._connected = True
                # Snapshot and health go out beside the events, and count as well.
                self._window = max(1, min(WINDOW, notice.receive_maximum - _BESIDE))
                self._rewind_to_ack()
            case Disconnected():
                self._connected = False
                self._waiting.clear()
            case Delivered():
                self._delivered(notice, now)
            case Received() if notice.topic == self._topics.ack:
                self._acknowledged(notice.payload, now)
            case _:
                pass

    def pump(self, now: float) -> None:
        """Send what may be sent now."""
        if not self._connected or now < self._not_before:
            return
        if self._cursor == self._acked:
            self._standing_since = now
        elif not self._by_broker and now - self._standing_since > self._ack_timeout_s:
            self._back_off(now)
            return
        for row in self._queue.after(self._cursor, self._window - len(self._waiting)):
            token = self._wire.publish(
                Publication(
                    self._topics.event(row.kind), row.body, content_type=CONTENT_TYPE, expiry_s=EXPIRY_S
                )
            )
            if token is None:
                return
            self._waiting[token] = row.sequence
            self._cursor = row.sequence

    def _delivered(self, notice: Delivered, now: float) -> None:
        sequence = self._waiting.pop(notice.token, None)
        if sequence is None:
            return
        if not notice.ok or notice.no_subscribers:
            self._back_off(now)
            return
        if self._by_broker:
            # Only what lies below everything that is still unanswered.
            self._forget(min(self._waiting.values(), default=self._cursor + 1) - 1)

    def _acknowledged(self, payload: bytes, now: float) -> None:
        try:
            ack = messages.decode(messages.Ack, payload)
        except DataError:
            return
        # Of another life of this disk, or of events that were never written: not about us.
        if ack.stream != self._queue.stream or ack.upto > self._queue.last:
            return
        if ack.upto > self._acked:
            self._standing_since, self._rewinds = now, 0
            self._not_before = min(self._not_before, now)
            self._forget(ack.upto)

    def _forget(self, sequence: int) -> None:
        if sequence > self._acked:
            self._queue.forget_up_to(sequence)
            self._acked = sequence
            self._cursor = max(self._cursor, sequence)

    def _back_off(self, now: float) -> None:
        """Send again from the last acknowledgement, after a wait with full jitter."""
        self._rewind_to_ack()
        ceiling = min(_FIRST_BACK_OFF_S * 2**self._rewinds, _LONGEST_BACK_OFF_S)
        self._rewinds += 1
        self._not_before = now + self._rng.uniform(0, ceiling)

    def _rewind_to_ack(self) -> None:
        self._waiting.clear()
        self._cursor = self._acked
