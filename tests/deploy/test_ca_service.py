"""The authority as a service: whom it gives a certificate, and whom not."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509.oid import NameOID

from deploy import authority as authorities
from deploy import inventory, pki
from deploy.beginning import begin
from deploy.ca_service import MOST_A_DAY, answer
from deploy.fleet import Fleet
from deploy.starting import Wanted
from edge_agent.contracts import messages
from edge_agent.contracts.messages import CertificateRequest, CertificateResponse
from edge_agent.contracts.topics import DeviceTopics

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=260)
OWN = DeviceTopics("0417", "cam-12-01")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    fleet = begin(tmp_path_factory.mktemp("ca") / "fleet", "test", NOW)
    wanted = Wanted(device="cam-12-01", store="0417", shelf="12", broker="localhost")
    inventory.add(fleet, authorities.opened(fleet), wanted, NOW)
    return fleet


@pytest.fixture
def fleet(origin: Fleet, tmp_path: Path) -> Fleet:
    shutil.copytree(origin.folder, tmp_path / "fleet")
    return Fleet(tmp_path / "fleet")


def request(name: str = "cam-12-01", key: EllipticCurvePrivateKey | None = None) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    csr = made.sign(key or pki.new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return messages.encode(CertificateRequest(request="1", csr=csr.decode()))


def asked(
    fleet: Fleet, payload: bytes, device: DeviceTopics = OWN, now: datetime = LATER
) -> CertificateResponse:
    found = answer(fleet, authorities.opened(fleet), device, payload, now)
    assert found is not None
    return found


def files(fleet: Fleet) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file()}


def test_a_device_is_given_another_certificate_and_the_fleet_gets_a_file_more(fleet: Fleet) -> None:
    key, before = pki.new_key(), files(fleet)
    given = asked(fleet, request(key=key))
    assert given.ok
    assert given.certificate is not None
    certificate = x509.load_pem_x509_certificate(given.certificate.encode())
    certificate.verify_directly_issued_by(authorities.opened(fleet).certificate)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=cam-12-01"
    assert certificate.not_valid_after_utc == LATER + timedelta(days=365)
    after = files(fleet)
    assert before.items() <= after.items()
    [more] = after.keys() - before.keys()
    assert more.parent == fleet.device_folder("cam-12-01") / "issued"


def test_asking_twice_is_asking_once(fleet: Fleet) -> None:
    payload = request()
    first = asked(fleet, payload)
    assert asked(fleet, payload, now=LATER + timedelta(hours=6)).certificate == first.certificate
    assert len(authorities.issued(fleet.device_folder("cam-12-01"))) == 2


@pytest.mark.parametrize(
    ("payload", "device", "said"),
    [
        (request("svc-operator"), OWN, "svc-operator"),
        (request("cam-12-02"), OWN, "cam-12-02"),
        (request("cam-12-99"), DeviceTopics("0417", "cam-12-99"), "device of the fleet"),
        (request("svc-ca"), DeviceTopics("0417", "svc-ca"), "device of the fleet"),
        (request(".."), DeviceTopics("0417", ".."), "device of the fleet"),
        (request(), DeviceTopics("0999", "cam-12-01"), "store 0417"),
        (messages.encode(CertificateRequest(request="1", csr="x")), OWN, "request in PEM"),
    ],
)
def test_who_is_given_none(fleet: Fleet, payload: bytes, device: DeviceTopics, said: str) -> None:
    before = files(fleet)
    refused = asked(fleet, payload, device)
    assert not refused.ok
    assert refused.error is not None
    assert said in refused.error
    assert refused.certificate is None
    assert files(fleet) == before


def test_a_device_that_was_revoked_is_given_none_nor_is_a_key_that_was(fleet: Fleet) -> None:
    authority, key = authorities.opened(fleet), pki.new_key()
    assert asked(fleet, request(key=key)).ok
    assert inventory.revoke(fleet, authority, "cam-12-01", LATER) == 2, "also what it had asked for itself"
    assert not asked(fleet, request()).ok
    inventory.renew(fleet, authority, "cam-12-01", LATER, reinstate=True)
    assert not asked(fleet, request(key=key)).ok
    assert asked(fleet, request()).ok


def test_nobody_fills_the_disk_with_certificates(fleet: Fleet) -> None:
    given = [asked(fleet, request()).ok for _ in range(MOST_A_DAY + 2)]
    assert given == [True] * MOST_A_DAY + [False] * 2
    assert asked(fleet, request(), now=LATER + timedelta(days=1)).ok


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b"[" * 10_000])
def test_what_is_no_request_has_no_answer(fleet: Fleet, payload: bytes) -> None:
    assert answer(fleet, authorities.opened(fleet), OWN, payload, LATER) is None
