"""The broker: whether it is reached, and whether it lets this device in.

A broker that is set up as `shelfkit deploy broker` does it gives every connection the name of its certificate
as client id: a login, under whatever id, ends the connection of the agent. So there is none while the agent
runs: whether it is connected, it says itself. Elsewhere an id of our own harms nobody.
"""

import socket
import ssl
import time
from contextlib import suppress
from queue import Empty

from edge_agent.contracts import messages
from edge_agent.contracts.config import DeviceConfig, Tls
from edge_agent.contracts.errors import ConfigError, ServiceError
from edge_agent.contracts.identifiers import uuid7
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import (
    Connected,
    Delivered,
    Disconnected,
    Link,
    Notice,
    Publication,
    Refused,
    Subscribed,
)
from edge_agent.renewal import address_in_force, tls_in_force
from edge_agent.selftest.finding import Check, Finding, Status
from edge_agent.selftest.parts import Parts
from edge_agent.selftest.running import Running

REACHED = Check("broker", ServiceError.exit_code, "a broker that answers at the address of device.yaml")
LET_IN = Check("login", ServiceError.exit_code, "a broker that lets this device in, to write and to read")

_TIMEOUT_S = 5.0
_ALERT_S = 0.5
_PATIENCE_S = 12.0
_ATTEMPTS = 2
"""One with MQTT 5, one with 3.1.1."""
_OWN_ID = "self-test"


def check_broker(parts: Parts, agent: Running | None) -> list[Finding]:
    """Reach the broker, then log in.

    Args:
        parts: Of the device.
        agent: Where it runs.
    """
    device = parts.device
    if device is None:
        return [check.skipped("device.yaml cannot be read") for check in (REACHED, LET_IN)]
    reached = _reached(device)
    if reached.status is not Status.PASS:
        return [reached, LET_IN.skipped("the broker is not reached")]
    return [reached, _let_in(device, agent)]


def _reached(device: DeviceConfig) -> Finding:
    """Connect, and shake hands where TLS is wanted; no word of MQTT."""
    broker, tls = device.broker, tls_in_force(device)
    address = f"{broker.host}:{broker.port}"
    try:
        context = None if tls is None else _context(tls)
    except (OSError, ValueError) as exc:
        return REACHED.failed(f"certificates that cannot be used: {exc}", "check the files of broker.tls")
    try:
        with socket.create_connection((broker.host, broker.port), timeout=_TIMEOUT_S) as plain:
            if context is None:
                return REACHED.passed(f"{address} answers, without TLS")
            with context.wrap_socket(plain, server_hostname=broker.host) as secret:
                _hear_no(secret)
                return REACHED.passed(f"{address} answers, {secret.version()}, its certificate is good")
    except OSError as exc:
        return REACHED.failed(f"{address}: {exc}", _todo(exc))


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(str(tls.certificate), str(tls.key))
    return context


def _hear_no(secret: ssl.SSLSocket) -> None:
    """Wait for the no of a broker that does not like our certificate: TLS 1.3 says it after the handshake."""
    secret.settimeout(_ALERT_S)
    # That nothing comes is good: it waits for us.
    with suppress(TimeoutError):
        if not secret.recv(1):
            raise ConnectionResetError("it hung up after it had seen our certificate")


def _todo(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return (
                "the broker's certificate must be of broker.tls.ca, for the name broker.host, and in its time"
            )
        case ssl.SSLError() | ConnectionResetError():
            return "the device's certificate must be of an authority that the broker knows, and in its time"
        case socket.gaierror():
            return "check broker.host and the network's name server"
        case ConnectionRefusedError():
            return "start the broker, or check broker.port"
    return "check network cable, broker.host, and the firewall between"


def _let_in(device: DeviceConfig, agent: Running | None) -> Finding:
    if agent is not None and agent.connected:
        return LET_IN.passed("the running agent is connected; another login could end that")
    if agent is not None and agent.connected is None:
        why = "an agent runs, and a login could end its connection"
        return LET_IN.skipped(why, "stop the agent, or set metrics.port, so that it can tell by itself")
    reason, refused = _tried(device, f"{device.device}-{_OWN_ID}")
    if refused and agent is None:
        # Some brokers let a certificate in under its own name alone.
        again, _ = _tried(device, device.device)
        reason = reason if again else ""
    if reason:
        todo = "the certificate's common name must be the device's name, and the broker must know it"
        return LET_IN.failed(reason, todo if device.broker.tls else "does this port want TLS? set broker.tls")
    return LET_IN.passed(f"{device.device} may write and read in store {device.store}")


def _tried(device: DeviceConfig, client_id: str) -> tuple[str, bool]:
    """Log in, subscribe, publish a word that changes nothing.

    Returns:
        Why it did not go, or nothing; and whether the broker itself said no.
    """
    topics = DeviceTopics(device.store, device.device)
    word = messages.Reply(request=uuid7(round(time.time() * 1000)), ok=True)
    publication = Publication(topics.reply(_OWN_ID), messages.encode(word))
    try:
        with Link(address_in_force(device), client_id=client_id, subscriptions=(topics.ack,)) as link:
            first = _waited(link, Subscribed)
            if not isinstance(first, Subscribed):
                return _reason(first), isinstance(first, Refused)
            token = link.publish(publication)
            answer = _waited(link, Delivered) if token else None
    except ConfigError as exc:
        return str(exc), False
    if isinstance(answer, Delivered) and answer.ok:
        return "", False
    return f"publishing on {publication.topic}: {_reason(answer)}", True


def _waited(link: Link, wanted: type[Notice]) -> Notice | None:
    """Return the first notice that decides."""
    end, lost, last = time.monotonic() + _PATIENCE_S, 0, None
    let_in = False
    while (left := end - time.monotonic()) > 0:
        try:
            last = link.notices.get(timeout=left)
        except Empty:
            break
        let_in = let_in or isinstance(last, Connected)
        lost += isinstance(last, Disconnected)
        if isinstance(last, wanted | Refused) or lost >= _ATTEMPTS or (lost and let_in):
            return last
    return last


def _reason(notice: Notice | None) -> str:
    return notice.reason if isinstance(notice, Refused | Disconnected | Delivered) else "no answer"
