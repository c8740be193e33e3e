"""A device's certificate: which one holds, and how it asks for the next over the link that still does.

    broker.tls of device.yaml      what it was provisioned with; never written here
    <state_dir>/identity.pem       key and certificate that it was given since, in one file
    <state_dir>/identity-next.pem  the key that it has asked a certificate for

Key and certificate change in one rename: whenever the power goes, the pair that is found fits together.
Of what was provisioned and what was renewed the one that was signed later holds, if the authority of
`broker.tls.ca` has signed it: who provisions a device anew is heard.

After two thirds of its life a certificate is asked for again. The request's id is the hash of the new
public key, so that asking twice is asking once, also after a start in between.
"""

import hashlib
import logging
import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509.oid import NameOID

from edge_agent.contracts import messages
from edge_agent.contracts.address import Address, address_of
from edge_agent.contracts.certificates import UNREADABLE, common_names
from edge_agent.contracts.config import DeviceConfig, Tls
from edge_agent.contracts.errors import DataError, DeviceError
from edge_agent.contracts.files import flush, written_beside
from edge_agent.contracts.messages import CertificateRequest, CertificateResponse
from edge_agent.contracts.times import in_reach
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Publication

log = logging.getLogger(__name__)

HELD, NEXT = "identity.pem", "identity-next.pem"
AGAIN_S = 6 * 3600
"""How long a request may stay without an answer before it is made again."""
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class _Pair:
    """A certificate, and where it lies with its key."""

    certificate: x509.Certificate
    tls: Tls


def address_in_force(device: DeviceConfig) -> Address:
    """Return the broker's address with the certificate that holds now."""
    return replace(address_of(device.broker), tls=tls_in_force(device))


def tls_in_force(device: DeviceConfig) -> Tls | None:
    """Return where the certificate that holds now lies; None where the broker wants none."""
    pair = _in_force(device)
    return device.broker.tls if pair is None else pair.tls


def _in_force(device: DeviceConfig) -> _Pair | None:
    tls = device.broker.tls
    if tls is None:
        return None
    provisioned = _pair(tls)
    own = device.state_dir / HELD
    renewed = _pair(Tls(ca=tls.ca, certificate=own, key=own))
    if renewed is None or not _ours(renewed.certificate, device):
        return provisioned
    if provisioned is None or _begins(renewed) > _begins(provisioned):
        return renewed
    return provisioned


def _begins(pair: _Pair) -> datetime:
    return pair.certificate.not_valid_before_utc


def _pair(tls: Tls) -> _Pair | None:
    """Read a certificate that its key is there for."""
    try:
        certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
        key = serialization.load_pem_private_key(tls.key.read_bytes(), None)
        fits = key.public_key() == certificate.public_key()
    except (OSError, *UNREADABLE):
        return None
    return _Pair(certificate, tls) if fits else None


def _ours(certificate: x509.Certificate, device: DeviceConfig) -> bool:
    """Return whether a certificate is for this device, and of the authority that it was provisioned with."""
    try:
        ours = common_names(certificate) == [device.device]
    except UNREADABLE:
        return False
    return ours and device.broker.tls is not None and _signed(certificate, device.broker.tls)


def _signed(certificate: x509.Certificate, tls: Tls) -> bool:
    try:
        trusted = x509.load_pem_x509_certificates(tls.ca.read_bytes())
    except (OSError, *UNREADABLE):
        return False
    for authority in trusted:
        try:
            certificate.verify_directly_issued_by(authority)
        except UNREADABLE:
            continue
        return True
    return False


class Renewal:
    """Asks for the next certificate of a device, and takes it. Time comes in; nothing is sent here.

    Args:
        device: Its configuration.
    """

    def __init__(self, device: DeviceConfig) -> None:
        self._device = device
        self._topics = DeviceTopics(device.store, device.device)
        pair = _in_force(device)
        self._certificate = None if pair is None else pair.certificate
        self._not_before = 0.0

    @property
    def expires(self) -> datetime | None:
        """When the certificate that holds now ends; None where there is none, or where it never does.

        The last second of the year 9999 stands for never (RFC 5280, 4.1.2.5).
        """
        end = None if self._certificate is None else self._certificate.not_valid_after_utc
        return end if end is not None and in_reach(end) else None

    def due(self, now: datetime) -> bool:
        """Return whether it is time to ask."""
        if self._certificate is None:
            return False
        begin, end = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        return now >= begin + (end - begin) * 2 / 3

    def wanted(self, at: float, now: datetime) -> Publication | None:
        """Return the request that is to be sent now, if it is time, or time again.

        Args:
            at: Seconds of the steady clock.
            now: The time.

        Raises:
            DeviceError: The disk is full or broken.
        """
        return self.request() if at >= self._not_before and self.due(now) else None

    def asked(self, at: float) -> None:
        """Know that it was sent, at a moment of the steady clock."""
        self._not_before = at + AGAIN_S

    def request(self) -> Publication:
        """Return the request for another certificate; its key is on the disk before.

        Raises:
            DeviceError: The disk is full or broken.
        """
        key = self._next_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._device.device)])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        message = CertificateRequest(request=_id(key), csr=made.public_bytes(_PEM).decode())
        return Publication(self._topics.certificate_request, messages.encode(message), expiry_s=AGAIN_S)

    def take(self, payload: bytes) -> bool:
        """Take an answer; return whether another certificate holds from now on.

        What is not for the key that was asked with is left alone: the broker may repeat an old answer.

        Raises:
            DeviceError: The disk is full or broken; the certificate before still holds.
        """
        try:
            answer = messages.decode(CertificateResponse, payload)
        except DataError as exc:
            log.warning("an answer about certificates was left out: %s", exc)
            return False
        key = self._read_next()
        if key is None or answer.request != _id(key):
            return False
        if not answer.ok or answer.certificate is None:
            log.warning("no new certificate: %s", answer.error)
            return False
        certificate = self._checked(answer.certificate, key)
        if certificate is None:
            log.warning("no new certificate: the answer is not for this device, or not of its authority")
            return False
        self._write(HELD, certificate.public_bytes(_PEM) + _key_pem(key))
        self._certificate = certificate
        self._forget_next()
        log.info("another certificate holds, until %s", certificate.not_valid_after_utc)
        return True

    def _checked(self, pem: str, key: EllipticCurvePrivateKey) -> x509.Certificate | None:
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            fits = certificate.public_key() == key.public_key()
        except UNREADABLE:
            return None
        return certificate if fits and self._later(certificate) and _ours(certificate, self._device) else None

    def _later(self, certificate: x509.Certificate) -> bool:
        """Return whether it would be found to hold, and longer than what there is."""
        before = self._certificate
        return before is None or (
            certificate.not_valid_before_utc > before.not_valid_before_utc
            and certificate.not_valid_after_utc > before.not_valid_after_utc
        )

    def _next_key(self) -> EllipticCurvePrivateKey:
        key = self._read_next()
        # The power went between the answer's rename and the end of this file: it has been used.
        if key is not None and (
            self._certificate is None or self._certificate.public_key() != key.public_key()
        ):
            return key
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(NEXT, _key_pem(key))
        return key

    def _read_next(self) -> EllipticCurvePrivateKey | None:
        try:
            key = serialization.load_pem_private_key((self._device.state_dir / NEXT).read_bytes(), None)
        except (OSError, *UNREADABLE):
            return None
        return key if isinstance(key, EllipticCurvePrivateKey) else None

    def _forget_next(self) -> None:
        try:
            (self._device.state_dir / NEXT).unlink(missing_ok=True)
            flush(self._device.state_dir)
        except OSError as exc:
            raise _disk(self._device.state_dir / NEXT, exc) from exc

    def _write(self, name: str, content: bytes) -> None:
        target = self._device.state_dir / name
        try:
            with written_beside(target) as staged:
                handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
        except OSError as exc:
            raise _disk(target, exc) from exc


def _disk(path: Path, exc: OSError) -> DeviceError:
    return DeviceError(
        f"Expected: room for {path}. Received: {exc.strerror}.", hint="free or replace the device's disk"
    )


def _id(key: EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(public).hexdigest()


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
