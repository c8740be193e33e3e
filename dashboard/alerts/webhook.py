"""Webhooks as Standard Webhooks 1.0 has them: signed with HMAC-SHA256, known by an id that stays.

`webhook-id` is the same however often something is sent: a receiver that has it already says yes and does
nothing. The signature is about id, time of sending and body; with several keys there are several.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from dashboard.alerts.channels import Webhook
from dashboard.alerts.sending import AwayError, RefusedError, Send, within
from dashboard.alerts.telling import Message
from dashboard.alerts.wire import encode
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.events import CONTENT_TYPE

_MOST_ANSWER = 64 * 1024
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


def signature(keys: Sequence[bytes], identity: str, seconds: int, body: bytes) -> str:
    """Return what `webhook-signature` says."""
    signed = f"{identity}.{seconds}.".encode() + body
    made = (hmac.digest(key, signed, hashlib.sha256) for key in keys)
    return " ".join(f"v1,{base64.b64encode(each).decode()}" for each in made)


class WebhookChannel:
    """Sends to one address; follows nobody elsewhere.

    Args:
        settings: Of `alerts.yaml`.
        keys: What to sign with.
        folder: What files are relative to.
    """

    def __init__(self, settings: Webhook, keys: Sequence[bytes], folder: Path) -> None:
        self._settings, self._keys = settings, keys
        self._parts = urlsplit(settings.url)
        self._context: ssl.SSLContext | None = None
        if self._parts.scheme == "https":
            self._context = trusting(settings.ca, folder)

    @contextlib.contextmanager
    def session(self) -> Iterator[Send]:
        """Give what sends; each message has a connection of its own."""
        yield self._send

    def _send(self, message: Message, now: datetime) -> str:
        body = encode(message.items[0])
        seconds = int(now.timestamp())
        headers = {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": "shelfkit",
            "webhook-id": message.key,
            "webhook-timestamp": str(seconds),
            "webhook-signature": signature(self._keys, message.key, seconds, body),
        }
        status = self._posted(body, headers)
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return f"HTTP {status}"
        told = f"Expected: HTTP 200 to 299. Received: {status}."
        if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise AwayError(told)
        raise RefusedError(told)

    def _posted(self, body: bytes, headers: dict[str, str]) -> int:
        connection = self._connection()
        try:
            with within(self._settings.timeout_s, lambda: connection.sock) as late:
                path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                # Whoever says more than that need not be listened to.
                answer.read(_MOST_ANSWER)
            if late.is_set():
                # What ends in the middle looks like an end.
                raise TimeoutError
        except (OSError, ValueError, http.client.HTTPException) as exc:
            told = f"no answer in {self._settings.timeout_s:g} s" if late.is_set() else why(exc)
            raise AwayError(f"Expected: an answer of {self._parts.hostname}. Received: {told}.") from exc
        finally:
            connection.close()
        return answer.status

    def _connection(self) -> http.client.HTTPConnection:
        host, port, patience = self._parts.hostname or "", self._parts.port, self._settings.timeout_s
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=patience)
        return http.client.HTTPSConnection(host, port, timeout=patience, context=self._context)


def trusting(authority: Path | None, folder: Path) -> ssl.SSLContext:
    """Return what checks certificates.

    Args:
        authority: Whom to trust instead of the machine's authorities.
        folder: What that file is relative to.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=None if authority is None else str(folder / authority))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"Expected: a certificate in {authority}. Received: {why(exc)}.") from exc


def why(exc: Exception) -> str:
    """Return in a few words why something failed."""
    told = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return " ".join(str(told).split())[:200]
