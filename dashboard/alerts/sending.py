"""What all channels share: how a sending fails, when it is tried again, and that it ends."""

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from dashboard.alerts.telling import Message
from edge_agent.contracts.errors import ServiceError

_FIRST_S, _LONGEST_S = 5.0, 3600.0
_DOUBLINGS = 20

Send = Callable[[Message, datetime], str]
"""Sends one message at a moment; returns what the other side said to it. Raises AwayError, RefusedError."""


class AwayError(ServiceError):
    """Nobody is there, or says to come later: other messages need not be tried now."""


class RefusedError(ServiceError):
    """This message is not taken; others may be."""


class Channel(Protocol):
    """A way to somebody."""

    def session(self) -> AbstractContextManager[Send]:
        """Give what sends some messages, one after the other.

        Raises:
            AwayError: Nobody is there.
        """


def back_off(attempts: int, rng: random.Random) -> timedelta:
    """Return how long to wait after so many attempts: twice as long each time, at most an hour, jittered."""
    longest = min(_FIRST_S * 2 ** min(attempts, _DOUBLINGS), _LONGEST_S)
    return timedelta(seconds=rng.uniform(longest / 2, longest))


@contextlib.contextmanager
def within(seconds: float, channel: Callable[[], socket.socket | None]) -> Iterator[threading.Event]:
    """End a connection that takes too long in all, however it dawdles; the event says whether that happened.

    Timeouts of sockets are about one step: whoever sends a byte now and then is never late.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        found = channel()
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
