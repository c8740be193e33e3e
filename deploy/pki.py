"""Certificates: the fleet's authority, what it signs, and what it takes back. Pure: time comes in.

ECDSA P-256 throughout. A certificate's common name is the name that the broker's access list speaks of.
Everything begins ten minutes before it is made: clocks of devices are a little behind.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_agent.contracts.certificates import UNREADABLE, common_names
from edge_agent.contracts.errors import DataError, UsageError

BACK_DATED = timedelta(minutes=10)
AUTHORITY_DAYS = 7300
DEVICE_DAYS = 365
SERVICE_DAYS = 730
MOST_DAYS = 730
_MOST_NAME = 64
_CURVES = ("secp256r1", "secp384r1")


class Kind(StrEnum):
    """What a certificate is for."""

    DEVICE = "device"
    SERVICE = "service"
    SERVER = "server"


_USES = {
    Kind.DEVICE: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Kind.SERVICE: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Kind.SERVER: (ExtendedKeyUsageOID.SERVER_AUTH,),
}


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that is taken back."""

    serial: int
    at: datetime


def new_key() -> EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_authority(name: str, now: datetime) -> Authority:
    """Make an authority of one level: it signs certificates, and no other authority.

    Args:
        name: Of the fleet.
        now: When it begins.
    """
    key = new_key()
    subject = _name(f"{name[:40]} fleet CA")
    made = (
        _begun(subject, subject, key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=False, authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(made, key)


def issue(
    authority: Authority,
    public: EllipticCurvePublicKey,
    common_name: str,
    *,
    kind: Kind,
    now: datetime,
    days: int | None = None,
    names: Sequence[str] = (),
) -> x509.Certificate:
    """Sign a certificate.

    Args:
        authority: Who signs; nothing that it signs outlives it.
        public: The key that it is for.
        common_name: Whose it is.
        kind: What it is for.
        now: When it begins.
        days: How long it holds.
        names: Under which a server is reached: host names and addresses.

    Raises:
        UsageError: A name or a time that no certificate can have.
    """
    if days is None:
        days = DEVICE_DAYS if kind is Kind.DEVICE else SERVICE_DAYS
    if not 0 < days <= MOST_DAYS:
        raise UsageError(f"Expected: a certificate of 1 to {MOST_DAYS} days. Received: {days}.")
    if kind is Kind.SERVER and not names:
        raise UsageError("Expected: the names that a server is reached under. Received: none.")
    end = min(now + timedelta(days=days), authority.certificate.not_valid_after_utc)
    if end <= now:
        raise UsageError(
            f"Expected: a fleet CA that still holds. Received: one until {end:%Y-%m-%d}.",
            hint="begin a new fleet, and provision its devices again",
        )
    builder = (
        _begun(_name(common_name), authority.certificate.subject, public, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True, authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USES[kind]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_signed_by(authority), critical=False)
    )
    if names:
        listed = x509.SubjectAlternativeName([_reached_under(name) for name in names])
        builder = builder.add_extension(listed, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def revocation_list(
    authority: Authority, revoked: Iterable[Revoked], now: datetime
) -> x509.CertificateRevocationList:
    """Sign the list of what is taken back.

    It holds as long as the authority does: a broker whose list has expired would let nobody in, and what
    was revoked is safer in an old list than a whole store without a broker.

    Args:
        authority: Who signs.
        revoked: All of it.
        now: When the list is made; a later list has a higher number.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - BACK_DATED)
        .next_update(authority.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        .add_extension(_signed_by(authority), critical=False)
    )
    for item in sorted(revoked, key=lambda item: item.serial):
        entry = x509.RevokedCertificateBuilder().serial_number(item.serial).revocation_date(item.at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256())


def read_request(pem: bytes, common_name: str) -> EllipticCurvePublicKey:
    """Return the key of a request (PKCS #10) that was made for a name; nothing else in it counts.

    Raises:
        DataError: It is none, was not signed with its own key, or is for somebody else.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        signed, public, said = request.is_signature_valid, request.public_key(), common_names(request)
    except UNREADABLE as exc:
        raise DataError(f"Expected: a certificate request in PEM. Received: {pem[:60]!r}.") from exc
    if not signed:
        raise DataError("Expected: a request signed with its own key. Received: another signature.")
    if said != [common_name]:
        raise DataError(f"Expected: a request for {common_name!r}. Received: one for {said!r:.80}.")
    if not isinstance(public, EllipticCurvePublicKey) or public.curve.name not in _CURVES:
        raise DataError(
            f"Expected: a key on one of {', '.join(_CURVES)}. Received: another.",
            hint="openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
            f"-keyout device.key -subj /CN={common_name}",
        )
    return public


def pem(made: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """Return PEM."""
    return made.public_bytes(serialization.Encoding.PEM)


def _begun(
    subject: x509.Name, issuer: x509.Name, public: EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    if not 0 < len(text) <= _MOST_NAME:
        raise UsageError(f"Expected: a name of 1 to {_MOST_NAME} characters. Received: {text!r:.80}.")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed_by(authority: Authority) -> x509.AuthorityKeyIdentifier:
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _usage(*, sign: bool, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _reached_under(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as exc:
        raise UsageError(
            f"Expected: a host name in ASCII, or an address. Received: {name!r}.",
            hint="write a name of other letters in its xn-- form",
        ) from exc
