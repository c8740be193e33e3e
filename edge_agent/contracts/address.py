"""Where a broker is, as a `device.yaml` or a URL says it."""

import contextlib
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from edge_agent.contracts import config
from edge_agent.contracts.errors import UsageError

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is, and how to be let in."""

    host: str
    port: int
    tls: config.Tls | None = None
    encrypted: bool = False
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def address_of(broker: config.Broker) -> Address:
    """Return the address that a `device.yaml` names."""
    return Address(broker.host, broker.port, broker.tls, broker.tls is not None)


def address_from_url(url: str) -> Address:
    """Return the address of `mqtt://[user:password@]host[:port]`, or mqtts for TLS.

    Raises:
        UsageError: It is none.
    """
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in _PORTS and parts.hostname and parts.path in {"", "/"}:
            return Address(
                parts.hostname,
                parts.port or _PORTS[parts.scheme],
                None,
                parts.scheme == "mqtts",
                unquote(parts.username) if parts.username else None,
                unquote(parts.password) if parts.password else None,
            )
    raise UsageError(
        f"Expected: a broker as mqtt://host:port. Received: {url!r}.",
        hint="mqtts:// for TLS, mqtt://user:password@host where the broker wants a name",
    )
