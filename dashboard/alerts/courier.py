"""Takes what waits in the book to its channel: in order, again and again, until somebody has it."""

import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from dashboard.alerts.book import Book, Delivery
from dashboard.alerts.sending import AwayError, Channel, RefusedError, Send, back_off

log = logging.getLogger(__name__)

_AT_ONCE = 100
_LOOK_S = 5.0
_DATABASE_AGAIN_S = 10.0


class Courier:
    """Serves one channel, in a thread of its own: one that hangs holds up no other.

    Args:
        name: Of the channel.
        channel: Where to.
        book: What waits, and what became of it.
        give_up: How long something is tried.
        rng: For the waits between attempts.
        clock: The present moment.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        book: Book,
        give_up: timedelta,
        rng: random.Random,
        clock: Callable[[], datetime],
    ) -> None:
        self._name, self._channel, self._book = name, channel, book
        self._give_up, self._rng, self._clock = give_up, rng, clock
        self._failures = 0
        self.news = threading.Event()
        self._ended = threading.Event()
        # What is under way when the program ends is sent again by the next one, with the same key.
        self._thread = threading.Thread(target=self._run, name=f"courier-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Ask it to end."""
        self._ended.set()
        self.news.set()

    def join(self, patience_s: float) -> None:
        """Wait until it has ended, but not for ever."""
        self._thread.join(patience_s)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.news.clear()
            try:
                pause = self.serve()
            except sa.exc.SQLAlchemyError as exc:
                log.warning("alerts to %s: database: %s", self._name, str(exc).splitlines()[0])
                pause = timedelta(seconds=_DATABASE_AGAIN_S)
            if pause:
                self._ended.wait(pause.total_seconds())
            else:
                self.news.wait(_LOOK_S)

    def serve(self) -> timedelta:
        """Send what is due; return how long to leave the channel alone."""
        waiting = self._book.due(self._name, self._clock(), _AT_ONCE)
        if not waiting:
            return timedelta()
        try:
            with self._channel.session() as send:
                for each in waiting:
                    if self._ended.is_set():
                        break
                    self._deliver(send, each)
        except AwayError as exc:
            return self._left_alone(waiting, exc)
        if len(waiting) == _AT_ONCE:
            self.news.set()
        return timedelta()

    def _deliver(self, send: Send, each: Delivery) -> None:
        try:
            said = send(each.message, self._clock())
        except RefusedError as exc:
            now = self._clock()
            self._book.failed(each.message, str(exc), now + back_off(each.attempts, self._rng))
            log.warning("alerts to %s: %s", self._name, exc)
            self._book.give_up(self._name, now - self._give_up, now, each.message)
        else:
            self._book.sent(each.message, said, self._clock())
            self._failures = 0

    def _left_alone(self, waiting: list[Delivery], why: AwayError) -> timedelta:
        """Note the failure where it happened: at the first that is still waiting."""
        now, pause = self._clock(), back_off(self._failures, self._rng)
        self._failures += 1
        log.warning("alerts to %s: %s", self._name, why)
        gone = {each.message.key for each in self._book.due(self._name, now, _AT_ONCE)}
        first = next((each for each in waiting if each.message.key in gone), None)
        if first is not None:
            self._book.failed(first.message, str(why), now + pause)
        self._book.give_up(self._name, now - self._give_up, now)
        return pause
