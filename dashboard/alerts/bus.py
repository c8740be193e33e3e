"""MQTT: an alert is published below its device, for programs that listen to the broker anyway."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty

from dashboard.alerts.channels import Mqtt
from dashboard.alerts.sending import AwayError, RefusedError, Send
from dashboard.alerts.telling import Message
from dashboard.alerts.wire import encode
from edge_agent.contracts.address import address_from_url
from edge_agent.contracts.config import Tls
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.events import CONTENT_TYPE, EXPIRY_S
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Connected, Delivered, Disconnected, Link, Notice, Publication, Refused


class BusChannel:
    """Publishes to one broker.

    Args:
        settings: Of `alerts.yaml`.
        password: To log in with; None: without.
        folder: What files are relative to.
    """

    def __init__(self, settings: Mqtt, password: str | None, folder: Path) -> None:
        self._settings = settings
        address = address_from_url(settings.broker)
        if settings.username is not None:
            address = replace(address, username=settings.username, password=password)
        if settings.ca and settings.certificate and settings.key:
            files = (settings.ca, settings.certificate, settings.key)
            ca, certificate, key = (folder / file for file in files)
            address = replace(address, tls=Tls(ca=ca, certificate=certificate, key=key))
        self._address = address

    @contextlib.contextmanager
    def session(self) -> Iterator[Send]:
        """Give what sends over one connection.

        Raises:
            AwayError: The broker is not there, or does not let us in.
        """
        name = self._settings.client_id or f"svc-alerts-{uuid.uuid4().hex[:8]}"
        link = Link(self._address, client_id=name)
        try:
            link.check()
        except ConfigError as exc:
            raise AwayError(str(exc)) from exc
        link.start()
        try:
            _wait(link, Connected, self._settings.timeout_s)
            yield lambda message, _now: self._send(link, message)
        finally:
            link.close()

    def _send(self, link: Link, message: Message) -> str:
        item = message.items[0]
        body = encode(item)
        topic = DeviceTopics(item["store"], item["device"]).alert(item["kind"])
        token = link.publish(Publication(topic, body, content_type=CONTENT_TYPE, expiry_s=EXPIRY_S))
        if token is None:
            raise AwayError(f"Expected: the broker at {self._address}. Received: no connection.")
        while True:
            answer = _wait(link, Delivered, self._settings.timeout_s)
            if isinstance(answer, Delivered) and answer.token == token:
                break
        if not answer.ok:
            raise RefusedError(f"Expected: the broker lets us publish {topic}. Received: {answer.reason}.")
        return "nobody listens now" if answer.no_subscribers else "taken"


def _wait(link: Link, wanted: type[Notice], patience_s: float) -> Notice:
    end = time.monotonic() + patience_s
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(Empty):
            notice = link.notices.get(timeout=left)
            if isinstance(notice, wanted):
                return notice
            if isinstance(notice, Disconnected | Refused):
                raise AwayError(f"Expected: the broker lets us in. Received: {notice.reason}.")
    raise AwayError(f"Expected: an answer of the broker. Received: none in {patience_s:g} s.")
