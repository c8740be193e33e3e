"""Asks devices for things on behalf of the pages: one link to the broker, many requests at once."""

import base64
import binascii
import json
import threading
import uuid
from dataclasses import dataclass, field
from queue import Empty
from types import TracebackType
from typing import Self

from edge_agent.contracts import messages
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import DataError, DeviceError, ServiceError
from edge_agent.contracts.messages import Reply
from edge_agent.contracts.topics import DeviceTopics, parse
from edge_agent.mqtt import Disconnected, Link, Publication, Received, Refused, Subscribed

_EXPIRY_S = 60
_PATIENCE_S = 20.0
_STOP_S = 0.25
_MOST_WAITING = 100


@dataclass(slots=True)
class _Asked:
    """A request that waits for its reply."""

    there: threading.Event = field(default_factory=threading.Event)
    reply: Reply | None = None


class Operator:
    """Sends commands and waits for their replies; a context manager, to be used from any thread.

    Args:
        address: Of the broker, as somebody who may write `cmd/...` there.
        patience_s: How long a reply may take.
    """

    def __init__(self, address: Address, *, patience_s: float = _PATIENCE_S) -> None:
        # A name of its own: another program that is logged in as the operator keeps its connection.
        name = f"svc-operator-{uuid.uuid4().hex[:8]}"
        self._link = Link(address, client_id=name, subscriptions=(DeviceTopics("+", "+").reply("+"),))
        self._patience_s = patience_s
        self._waiting: dict[tuple[DeviceTopics, str], _Asked] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._reason = "the broker has not answered yet"
        self._thread = threading.Thread(target=self._listen, name="operator")

    def ask(self, device: DeviceTopics, name: str, **more: object) -> Reply:
        """Send a command and return what the device says to it, be it yes or no.

        Args:
            device: Which device.
            name: Of the command.
            more: What belongs to it.

        Raises:
            ServiceError: The broker is not there, or does not let us ask.
            DeviceError: The device does not answer.
        """
        request = str(uuid.uuid4())
        payload = json.dumps({"request": request, **more}).encode()
        asked, key = _Asked(), (device, request)
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING:
                raise ServiceError("Expected: a broker with time for this. Received: too many requests.")
            self._waiting[key] = asked
        try:
            # Not before replies would be heard.
            ready = self._ready.wait(self._patience_s)
            sent = self._link.publish(Publication(device.command(name), payload, expiry_s=_EXPIRY_S))
            if not ready or sent is None:
                raise ServiceError(f"Expected: a broker that takes commands. Received: {self._reason}.")
            if not asked.there.wait(self._patience_s) or asked.reply is None:
                raise DeviceError(
                    f"Expected: an answer of {device.device}. Received: none in {self._patience_s:g} s.",
                    hint="is it online? The broker must also let the operator write commands",
                )
        finally:
            with self._lock:
                del self._waiting[key]
        return asked.reply

    def __enter__(self) -> Self:
        self._link.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._link.close()
        self._thread.join()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                notice = self._link.notices.get(timeout=_STOP_S)
            except Empty:
                continue
            match notice:
                case Subscribed():
                    self._ready.set()
                case Disconnected() | Refused():
                    self._ready.clear()
                    self._reason = notice.reason
                case Received():
                    self._take(notice)
                case _:
                    pass

    def _take(self, received: Received) -> None:
        place = parse(received.topic)
        if place is None:
            return
        try:
            reply = messages.decode(Reply, received.payload)
        except DataError:
            return
        # Only the device that was asked can answer: others are let write elsewhere alone.
        asked = self._waiting.get((place[0], reply.request))
        if asked is not None:
            asked.reply = reply
            asked.there.set()


def picture_of(reply: Reply) -> bytes:
    """Return the picture in a reply to `cmd/snapshot`.

    Raises:
        DataError: There is none.
    """
    if not reply.ok:
        raise DataError(reply.error or "Expected: a picture. Received: none.")
    try:
        return base64.b64decode(str((reply.model_extra or {}).get("picture", "")), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise DataError("Expected: a picture. Received: something else.") from exc
