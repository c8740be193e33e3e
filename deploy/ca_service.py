"""Answers devices that ask for another certificate, over the link that still holds.

A device is known by the topic that it asks on: the broker lets it write below its own name alone. What is
signed is for that name, and for nothing else, whatever the request says. A request for a key that has a
certificate already gets that one again: asking twice is asking once. Nothing but a new file in the
device's `issued/` changes in the fleet.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from queue import Empty
from threading import Event

from cryptography import x509

from deploy import authority as authorities
from deploy import pki
from deploy.authority import Issued
from deploy.broker import CA
from deploy.fleet import Fleet
from deploy.pki import Authority, Kind
from edge_agent.contracts import messages
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import DataError, KitError
from edge_agent.contracts.messages import CertificateRequest, CertificateResponse
from edge_agent.contracts.topics import DeviceTopics, parse
from edge_agent.mqtt import Connected, Disconnected, Link, Publication, Received, Refused

log = logging.getLogger(__name__)

MOST_A_DAY = 5
"""A device that asks for more has lost its mind, or its key."""
_SESSION_S = 7 * 24 * 3600
_WAIT_S = 0.5

Said = Callable[[str], None]


def answer(
    fleet: Fleet, authority: Authority, device: DeviceTopics, payload: bytes, now: datetime
) -> CertificateResponse | None:
    """Decide about a request; None where nobody could be answered.

    Args:
        fleet: The fleet.
        authority: Its own.
        device: Whose topic it came on.
        payload: What came.
        now: The time.
    """
    try:
        request = messages.decode(CertificateRequest, payload)
    except DataError:
        return None
    try:
        certificate = _certificate(fleet, authority, device, request.csr.encode(), now)
    except KitError as exc:
        return CertificateResponse(request=request.request, ok=False, error=str(exc)[:500])
    return CertificateResponse(
        request=request.request,
        ok=True,
        certificate=pki.pem(certificate).decode(),
        ca=pki.pem(authority.certificate).decode(),
    )


def _certificate(
    fleet: Fleet, authority: Authority, device: DeviceTopics, request: bytes, now: datetime
) -> x509.Certificate:
    public = pki.read_request(request, device.device)
    line = fleet.device(device.device)
    if line.store != device.store:
        raise DataError(f"Expected: a device of store {line.store}. Received: a request from {device.store}.")
    if line.revoked is not None:
        raise DataError(f"Expected: a device of the fleet. Received: one that was revoked {line.revoked}.")
    folder = fleet.device_folder(device.device)
    before = authorities.issued(folder)
    given = [item.certificate for item in before if item.certificate.public_key() == public]
    if any(item.revoked for item in before if item.certificate in given):
        raise DataError("Expected: a new key. Received: one that was revoked.")
    if given and now < given[-1].not_valid_after_utc:
        return given[-1]
    if len(_of_today(before, now)) >= MOST_A_DAY:
        raise DataError(f"Expected: at most {MOST_A_DAY} certificates a day. Received: one more.")
    made = pki.issue(authority, public, device.device, kind=Kind.DEVICE, now=now)
    authorities.keep(fleet, folder, made)
    return made


def _of_today(before: list[Issued], now: datetime) -> list[Issued]:
    return [item for item in before if now - item.certificate.not_valid_before_utc < timedelta(days=1)]


def serve(
    fleet: Fleet,
    authority: Authority,
    broker: Address,
    *,
    stopping: Event,
    clock: Callable[[], datetime],
    said: Said,
) -> None:
    """Answer until told to stop. While this is away the broker keeps requests until they are made again.

    Args:
        fleet: The fleet.
        authority: Its own.
        broker: Where devices ask.
        stopping: Set to end it.
        clock: Tells the time.
        said: Is told what happens, a line each.
    """
    every = DeviceTopics("+", "+").certificate_request
    with Link(
        broker,
        client_id=CA,
        subscriptions=(every,),
        session_expiry_s=_SESSION_S,
        manual_ack=True,
    ) as link:
        while not stopping.is_set():
            try:
                notice = link.notices.get(timeout=_WAIT_S)
            except Empty:
                continue
            match notice:
                case Received():
                    _take(fleet, authority, link, notice, clock(), said)
                case Connected():
                    said(f"{broker}: connected")
                case Refused() | Disconnected():
                    said(f"{broker}: {notice.reason}")
                case _:
                    pass


def _take(
    fleet: Fleet, authority: Authority, link: Link, notice: Received, now: datetime, said: Said
) -> None:
    found = parse(notice.topic)
    response = None if found is None else answer(fleet, authority, found[0], notice.payload, now)
    if found is None or response is None:
        said(f"{notice.topic}: no request")
        link.acknowledge(notice.handle)
        return
    topic = found[0].certificate_response
    if link.publish(Publication(topic, messages.encode(response))) is None:
        # Not acknowledged: the broker brings it again with the next connection.
        return
    link.acknowledge(notice.handle)
    said(f"{found[0].device}: {'given a certificate' if response.ok else response.error}")
