"""Drains the outbox so that no event is lost, whatever a broker does.

- Rows go out in order, at most a window of them unanswered.
- A PUBACK moves the window and nothing else: it means "the broker has it in memory".
- A failure code, or "no matching subscribers", rewinds to the last acknowledgement, with back-off.
- So does an acknowledgement that stands still while something is out: a broker may accept
  messages and deliver none of them without ever hanging up.
- A row goes on the recorder's acknowledgement alone (or, where a site has no recorder and says so,
  on the PUBACK of it and all before it). Where the disk will not forget, it is asked again later.
- What is unanswered counts against the window until it is answered or the connection ends, also
  behind a rewind: a broker that answers nothing is not fed for ever. Such a connection is given up.
- The queue may begin a new stream at any time; then everything begins anew with it.
"""

import logging
import random
from collections.abc import Callable
from typing import Protocol

from edge_agent.contracts import messages
from edge_agent.contracts.errors import DataError, DeviceError
from edge_agent.contracts.events import CONTENT_TYPE, EXPIRY_S
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.ledger import Row
from edge_agent.mqtt import Connected, Delivered, Disconnected, Notice, Publication, Received, Token

log = logging.getLogger(__name__)

WINDOW = 20
_BESIDE = 3
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.5, 60.0
_FORGET_AGAIN_S = 5.0
_SILENT_TIMEOUTS = 3


class Queue(Protocol):
    """What waits; the outbox is one."""

    @property
    def stream(self) -> str:
        """Id of the stream; another one after damage."""

    @property
    def last(self) -> int:
        """The latest sequence."""

    def after(self, sequence: int, limit: int) -> list[Row]:
        """Return waiting rows behind a place, oldest first."""

    def forget_up_to(self, sequence: int) -> None:
        """Delete rows that somebody else has."""

    def begin_stream(self) -> None:
        """Begin a new stream with what waits."""


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
        hang_up: Ends a connection on which nothing is answered; the link makes a new one.
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
        hang_up: Callable[[], None] | None = None,
    ) -> None:
        self._queue, self._wire, self._topics = queue, wire, topics
        self._ack_timeout_s, self._by_broker, self._rng = ack_timeout_s, by_broker, rng
        self._hang_up = hang_up
        self._connected = False
        self._window = WINDOW
        # The sequence of what is unanswered; None: sent again since, or of an earlier stream.
        self._waiting: dict[Token, int | None] = {}
        self._silent_since: float | None = None
        self._stream = queue.stream
        self._acked = self._forgotten = self._cursor = 0
        self._standing_since = self._not_before = self._forget_after = 0.0
        self._rewinds = 0

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._connected

    def on(self, notice: Notice, now: float) -> None:
        """Take a notice of the link into account."""
        self._follow()
        match notice:
            case Connected():
                self._connected = True
                self._forsake()
                # Snapshot and health go out beside the events, and count as well.
                self._window = max(1, min(WINDOW, notice.receive_maximum - _BESIDE))
                self._rewind_to_ack()
            case Disconnected():
                self._connected = False
                self._forsake()
            case Delivered():
                self._delivered(notice, now)
            case Received() if notice.topic == self._topics.ack:
                self._acknowledged(notice.payload, now)
            case _:
                pass

    def pump(self, now: float) -> None:
        """Send what may be sent now."""
        self._follow()
        self._forget(now)
        if not self._connected or self._gave_up(now) or now < self._not_before:
            return
        if self._cursor == self._acked:
            self._standing_since = now
        elif not self._by_broker and now - self._standing_since > self._ack_timeout_s:
            self._back_off(now)
            return
        room = self._window - len(self._waiting)
        for row in self._queue.after(self._cursor, room) if room > 0 else ():
            token = self._wire.publish(
                Publication(
                    self._topics.event(row.kind), row.body, content_type=CONTENT_TYPE, expiry_s=EXPIRY_S
                )
            )
            if token is None:
                return
            self._waiting[token] = row.sequence
            self._cursor = row.sequence
            if self._silent_since is None:
                self._silent_since = now

    def _follow(self) -> None:
        """Begin anew where the queue has: its numbers mean something else now."""
        if self._queue.stream != self._stream:
            self._stream = self._queue.stream
            self._acked = self._forgotten = 0
            self._rewind_to_ack()

    def _begin_stream(self) -> None:
        """Give none of the numbers again that somebody has seen and the queue does not know."""
        try:
            self._queue.begin_stream()
        except DeviceError as exc:
            # The acknowledgement is retained: it comes again with the next connection.
            log.warning("no new stream yet: %s", exc)
        self._follow()

    def _forsake(self) -> None:
        """Expect no answer any more: what was out on a connection ended with it."""
        self._waiting.clear()
        self._silent_since = None

    def _gave_up(self, now: float) -> bool:
        """End a connection that is alive and answers nothing; return whether it was done."""
        silent = 0.0 if self._silent_since is None else now - self._silent_since
        if self._hang_up is None or silent <= _SILENT_TIMEOUTS * self._ack_timeout_s:
            return False
        log.warning("the broker has not answered for %.0f s; beginning anew with it", silent)
        self._silent_since = None
        self._hang_up()
        return True

    def _delivered(self, notice: Delivered, now: float) -> None:
        if notice.token not in self._waiting:
            return
        sequence = self._waiting.pop(notice.token)
        self._silent_since = now if self._waiting else None
        if sequence is None:
            return
        if not notice.ok or notice.no_subscribers:
            self._back_off(now)
            return
        if self._by_broker:
            # Only what lies below everything that is still unanswered.
            out = [number for number in self._waiting.values() if number is not None]
            self._confirm(min(out, default=self._cursor + 1) - 1, now)

    def _acknowledged(self, payload: bytes, now: float) -> None:
        try:
            ack = messages.decode(messages.Ack, payload)
        except DataError:
            return
        # Of another life of this disk: not about us.
        if ack.stream != self._stream:
            return
        if ack.upto > self._queue.last:
            self._begin_stream()
            return
        if ack.upto > self._acked:
            self._standing_since, self._rewinds = now, 0
            self._not_before = min(self._not_before, now)
            self._confirm(ack.upto, now)

    def _confirm(self, sequence: int, now: float) -> None:
        if sequence > self._acked:
            self._acked = sequence
            self._cursor = max(self._cursor, sequence)
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Delete what is confirmed; later where the disk will not."""
        if self._forgotten == self._acked or now < self._forget_after:
            return
        try:
            self._queue.forget_up_to(self._acked)
        except DeviceError as exc:
            log.warning("events that were delivered cannot be deleted yet: %s", exc)
            self._forget_after = now + _FORGET_AGAIN_S
        else:
            self._forgotten = self._acked

    def _back_off(self, now: float) -> None:
        """Send again from the last acknowledgement, after a wait with full jitter."""
        self._rewind_to_ack()
        ceiling = min(_FIRST_BACK_OFF_S * 2**self._rewinds, _LONGEST_BACK_OFF_S)
        self._rewinds += 1
        self._not_before = now + self._rng.uniform(0, ceiling)

    def _rewind_to_ack(self) -> None:
        self._waiting = dict.fromkeys(self._waiting)
        self._cursor = self._acked
