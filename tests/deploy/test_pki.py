"""Certificates say what they must, and a fleet's authority forgets nothing."""

import base64
import ipaddress
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

from deploy import pki
from deploy.pki import Kind, Revoked
from edge_agent.contracts.errors import DataError, UsageError

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
AUTHORITY = pki.new_authority("Corner shops", NOW)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
MOMENTS = st.datetimes(datetime(2026, 12, 1), datetime(2046, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def issued(name: str = "cam-12-01", kind: Kind = Kind.DEVICE, **more: object) -> x509.Certificate:
    options: dict[str, object] = {"now": NOW, "names": ("mqtt.example",) if kind is Kind.SERVER else ()}
    return pki.issue(AUTHORITY, pki.new_key().public_key(), name, kind=kind, **(options | more))  # type: ignore[arg-type]


@given(name=NAMES, now=MOMENTS, days=st.integers(1, pki.MOST_DAYS), kind=st.sampled_from(Kind))
def test_a_certificate_says_whose_it_is_and_until_when(
    name: str, now: datetime, days: int, kind: Kind
) -> None:
    made = issued(name, kind, now=now, days=days)
    made.verify_directly_issued_by(AUTHORITY.certificate)
    assert [item.value for item in made.subject] == [name]
    whole = now.replace(microsecond=0)
    ends = min(whole + timedelta(days=days), AUTHORITY.certificate.not_valid_after_utc)
    assert made.not_valid_after_utc == ends
    assert whole - timedelta(hours=1) < made.not_valid_before_utc < whole
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    server = kind is Kind.SERVER
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH]


@given(revoked=st.lists(st.tuples(st.integers(1, 2**159 - 1), MOMENTS), unique_by=lambda item: item[0]))
def test_the_list_names_what_is_revoked_and_nothing_else(revoked: list[tuple[int, datetime]]) -> None:
    made = pki.revocation_list(AUTHORITY, [Revoked(*item) for item in revoked], NOW)
    assert made.is_signature_valid(AUTHORITY.certificate.public_key())  # type: ignore[arg-type]
    assert {item.serial_number for item in made} == {serial for serial, _ in revoked}
    assert made.next_update_utc == AUTHORITY.certificate.not_valid_after_utc


def test_a_later_list_has_a_higher_number() -> None:
    numbers = [
        pki.revocation_list(AUTHORITY, [], NOW + timedelta(milliseconds=late))
        .extensions.get_extension_for_class(x509.CRLNumber)
        .value.crl_number
        for late in range(3)
    ]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("reached", ["mqtt.example", "192.168.1.10", "fd00::1"])
def test_a_server_is_believed_under_its_names_and_a_client_is_no_server(reached: str) -> None:
    made = issued("broker", Kind.SERVER, names=("mqtt.example", "192.168.1.10", "fd00::1"))
    try:
        subject: x509.DNSName | x509.IPAddress = x509.IPAddress(ipaddress.ip_address(reached))
    except ValueError:
        subject = x509.DNSName(reached)
    policy = PolicyBuilder().store(Store([AUTHORITY.certificate])).time(NOW + timedelta(days=1))
    assert policy.build_server_verifier(subject).verify(made, [])
    with pytest.raises(x509.verification.VerificationError):
        policy.build_server_verifier(subject).verify(issued("broker"), [])


def test_the_authority_signs_no_other_authority() -> None:
    constraints = AUTHORITY.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    stranger = pki.new_authority("Corner shops", NOW)
    with pytest.raises(InvalidSignature):
        issued().verify_directly_issued_by(stranger.certificate)


def request(name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def test_a_request_gives_its_key() -> None:
    key = pki.new_key()
    assert pki.read_request(request("cam-12-01", key), "cam-12-01") == key.public_key()


@given(st.binary(max_size=200))
def test_no_bytes_are_taken_for_a_request(text: bytes) -> None:
    with pytest.raises(DataError):
        pki.read_request(text, "cam-12-01")


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_no_changed_byte_of_a_request_is_more_than_a_refusal() -> None:
    """Another curve, another hash, another version: each has an error of its own in the library."""
    der = x509.load_pem_x509_csr(request("cam-12-01", pki.new_key())).public_bytes(serialization.Encoding.DER)
    for place, flipped in itertools.product(range(len(der)), (0x10, 0x40, 0xFF)):
        changed = der[:place] + bytes([der[place] ^ flipped]) + der[place + 1 :]
        text = f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.encodebytes(changed).decode()}"
        with pytest.raises(DataError):
            pki.read_request(f"{text}-----END CERTIFICATE REQUEST-----\n".encode(), "cam-12-01")


def altered(whole: bytes) -> bytes:
    """Change the last byte of the signature."""
    der = x509.load_pem_x509_csr(whole).public_bytes(serialization.Encoding.DER)
    broken = x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1]))
    return broken.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: request("svc-operator", pki.new_key()), "svc-operator"),
        (lambda: request("cam-12-01", rsa.generate_private_key(65537, 2048)), "key on one of"),
        (lambda: altered(request("cam-12-01", pki.new_key())), "signature"),
    ],
)
def test_a_request_for_another_or_with_another_key_is_refused(made: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        pki.read_request(made(), "cam-12-01")  # type: ignore[operator]


@pytest.mark.parametrize(
    "options",
    [
        {"days": 0},
        {"days": pki.MOST_DAYS + 1},
        {"name": ""},
        {"name": "x" * 65},
        {"kind": Kind.SERVER, "names": ()},
        {"kind": Kind.SERVER, "names": ("bücher.example",)},
        {"now": AUTHORITY.certificate.not_valid_after_utc},
    ],
)
def test_what_no_certificate_can_say(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        issued(**options)  # type: ignore[arg-type]
