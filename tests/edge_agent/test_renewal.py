"""A device's next certificate: asked for in time, taken whole, and found again after any power cut."""

import base64
import itertools
import os
import shutil
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from deploy import pki
from deploy.pki import Authority, Kind
from edge_agent import renewal
from edge_agent.contracts import messages
from edge_agent.contracts.config import Broker, Camera, DeviceConfig, Tls
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.messages import CertificateRequest, CertificateResponse
from edge_agent.renewal import HELD, NEXT, Renewal, tls_in_force

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=260)
AUTHORITY = pki.new_authority("test", NOW)


def pem(key: object) -> bytes:
    secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *secret)  # type: ignore[attr-defined, no-any-return]


def provision(folder: Path, *, now: datetime = NOW, authority: Authority = AUTHORITY) -> DeviceConfig:
    """Write what a device is provisioned with."""
    folder.mkdir(exist_ok=True)
    key = pki.new_key()
    made = pki.issue(authority, key.public_key(), "cam-12-01", kind=Kind.DEVICE, now=now)
    tls = Tls(ca=folder / "ca.pem", certificate=folder / "device.pem", key=folder / "device.key")
    tls.ca.write_bytes(pki.pem(authority.certificate))
    tls.certificate.write_bytes(pki.pem(made))
    tls.key.write_bytes(pem(key))
    (folder / "state").mkdir(exist_ok=True)
    return DeviceConfig(
        device="cam-12-01",
        store="0417",
        state_dir=folder / "state",
        bundle=folder,
        camera=Camera(source="shelf:seed=7"),
        planogram=folder / "planogram.yaml",
        broker=Broker(host="localhost", tls=tls),
    )


@pytest.fixture
def device(tmp_path: Path) -> DeviceConfig:
    return provision(tmp_path / "device")


def asked(renewing: Renewal) -> CertificateRequest:
    return messages.decode(CertificateRequest, renewing.request().payload)


def answered(
    request: CertificateRequest, *, name: str = "cam-12-01", authority: Authority = AUTHORITY
) -> bytes:
    public = pki.read_request(request.csr.encode(), "cam-12-01")
    made = pki.issue(authority, public, name, kind=Kind.DEVICE, now=LATER)
    answer = CertificateResponse(request=request.request, ok=True, certificate=pki.pem(made).decode())
    return messages.encode(answer)


def usable(tls: Tls | None) -> x509.Certificate:
    """Load a pair as a connection does."""
    assert tls is not None
    ssl.create_default_context(cafile=str(tls.ca)).load_cert_chain(str(tls.certificate), str(tls.key))
    return x509.load_pem_x509_certificate(tls.certificate.read_bytes())


def test_it_is_asked_after_two_thirds_of_a_life_and_again_without_an_answer(device: DeviceConfig) -> None:
    renewing = Renewal(device)
    assert renewing.expires == NOW + timedelta(days=365)
    third = timedelta(days=365) / 3
    assert renewing.wanted(0.0, NOW + 2 * third - timedelta(hours=1)) is None
    first = renewing.wanted(0.0, NOW + 2 * third + timedelta(hours=1))
    assert first is not None
    renewing.asked(0.0)
    assert renewing.wanted(renewal.AGAIN_S - 1, LATER) is None
    again = renewing.wanted(renewal.AGAIN_S, LATER)
    assert again is not None
    request = messages.decode(CertificateRequest, again.payload)
    assert request.request == messages.decode(CertificateRequest, first.payload).request
    assert asked(Renewal(device)).request == request.request, "also after a start in between"


def test_an_answer_is_in_force_at_once_and_after_a_start(device: DeviceConfig) -> None:
    renewing = Renewal(device)
    assert renewing.take(answered(asked(renewing)))
    assert renewing.expires == LATER + timedelta(days=365)
    found = tls_in_force(device)
    assert usable(found).not_valid_after_utc == renewing.expires == Renewal(device).expires
    own = device.state_dir / HELD
    assert own.stat().st_mode & 0o777 == 0o600
    assert not (device.state_dir / NEXT).exists()
    assert not renewing.due(LATER + timedelta(days=1))


def test_what_was_provisioned_later_holds(tmp_path: Path, device: DeviceConfig) -> None:
    renewing = Renewal(device)
    assert renewing.take(answered(asked(renewing)))
    provision(tmp_path / "device", now=LATER + timedelta(days=1))
    assert tls_in_force(device) == device.broker.tls


def test_a_device_of_another_fleet_now_shows_not_what_it_had(tmp_path: Path, device: DeviceConfig) -> None:
    renewing = Renewal(device)
    assert renewing.take(answered(asked(renewing)))
    provision(tmp_path / "device", authority=pki.new_authority("another", NOW))
    assert tls_in_force(device) == device.broker.tls


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN", bytes(100)])
def test_a_damaged_file_is_left_alone(device: DeviceConfig, damage: bytes) -> None:
    renewing = Renewal(device)
    assert renewing.take(answered(asked(renewing)))
    (device.state_dir / HELD).write_bytes(damage)
    assert tls_in_force(device) == device.broker.tls


def test_an_answer_that_is_not_for_this_device_changes_nothing(device: DeviceConfig) -> None:
    renewing = Renewal(device)
    assert not renewing.take(b"{}")
    request = asked(renewing)
    refused = CertificateResponse(request=request.request, ok=False, error="revoked")
    other = request.model_copy(update={"request": "another"})
    stranger = asked(Renewal(provision(device.bundle.parent / "stranger")))
    wrong_key = answered(stranger).replace(stranger.request.encode(), request.request.encode())
    for payload in (
        messages.encode(refused),
        answered(other),
        answered(request, name="cam-12-02"),
        answered(request, authority=pki.new_authority("test", NOW)),
        wrong_key,
        messages.encode(CertificateResponse(request=request.request, ok=True, certificate="none")),
    ):
        assert not renewing.take(payload)
        assert tls_in_force(device) == device.broker.tls
    assert renewing.take(answered(request))
    assert not renewing.take(answered(request)), "an answer that comes twice"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_no_changed_byte_of_an_answer_is_more_than_a_refusal(device: DeviceConfig) -> None:
    renewing = Renewal(device)
    request = asked(renewing)
    given = messages.decode(CertificateResponse, answered(request)).certificate
    assert given is not None
    der = x509.load_pem_x509_certificate(given.encode()).public_bytes(serialization.Encoding.DER)
    for place, flipped in itertools.product(range(len(der)), (0x10, 0x40, 0xFF)):
        changed = der[:place] + bytes([der[place] ^ flipped]) + der[place + 1 :]
        body = base64.encodebytes(changed).decode()
        text = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
        answer = CertificateResponse(request=request.request, ok=True, certificate=text)
        assert not renewing.take(messages.encode(answer))
    assert tls_in_force(device) == device.broker.tls


OPERATIONS = ("open", "fsync", "replace", "unlink", "mkdir")


class PowerCutError(BaseException):
    """Nothing that is written after it is there."""


class Power:
    """Ends the process, as far as this one can, at a certain operation on the disk."""

    def __init__(self, patch: pytest.MonkeyPatch, until: int) -> None:
        self.count, self._until = 0, until
        for name in OPERATIONS:
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the real one takes
            self.count += 1
            if self.count > self._until:
                raise PowerCutError
            return real(*arguments, **options)

        return operation


def test_whenever_the_power_goes_a_pair_that_fits_is_found_and_the_way_goes_on(tmp_path: Path) -> None:
    """Cut at every operation on the disk, from the question to the end of the swap."""
    origin = tmp_path / "origin"
    provision(origin)
    outcomes, cut, until = set(), True, 0
    while cut:
        here = tmp_path / "device"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(origin, here)
        device = moved(here)
        with pytest.MonkeyPatch.context() as patch:
            Power(patch, until)
            try:
                renewing = Renewal(device)
                renewing.take(answered(asked(renewing)))
                cut = False
            except PowerCutError:
                cut = True
        until += 1
        found = usable(tls_in_force(device))
        outcomes.add(found.not_valid_after_utc)
        after = Renewal(device)
        assert after.expires == found.not_valid_after_utc
        if after.due(LATER):
            assert after.take(answered(asked(after)))
        assert usable(tls_in_force(device)).not_valid_after_utc == LATER + timedelta(days=365)
        request = pki.read_request(asked(Renewal(device)).csr.encode(), "cam-12-01")
        assert request != usable(tls_in_force(device)).public_key(), "another key for another certificate"
    assert len(outcomes) == 2
    assert until > 8


def moved(folder: Path) -> DeviceConfig:
    tls = Tls(ca=folder / "ca.pem", certificate=folder / "device.pem", key=folder / "device.key")
    return DeviceConfig(
        device="cam-12-01",
        store="0417",
        state_dir=folder / "state",
        bundle=folder,
        camera=Camera(source="shelf:seed=7"),
        planogram=folder / "planogram.yaml",
        broker=Broker(host="localhost", tls=tls),
    )


def test_a_disk_that_will_not_is_an_error_of_the_device_and_the_certificate_goes_on(
    device: DeviceConfig,
) -> None:
    renewing = Renewal(device)
    request = asked(renewing)
    (device.state_dir / HELD).mkdir()
    (device.state_dir / HELD / "full").touch()
    with pytest.raises(DeviceError):
        renewing.take(answered(request))
    assert tls_in_force(device) == device.broker.tls
    assert renewing.expires == NOW + timedelta(days=365)


def test_a_certificate_that_never_ends_has_no_end_to_tell(device: DeviceConfig) -> None:
    assert device.broker.tls is not None
    key = pki.new_key()
    builder = x509.CertificateBuilder().subject_name(AUTHORITY.certificate.subject)
    builder = builder.issuer_name(AUTHORITY.certificate.subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW)
    made = builder.not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)).sign(key, hashes.SHA256())
    device.broker.tls.certificate.write_bytes(pki.pem(made))
    device.broker.tls.key.write_bytes(pem(key))
    assert Renewal(device).expires is None
