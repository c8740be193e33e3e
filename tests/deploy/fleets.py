"""A fleet with one device under test: real keys and certificates, a rendered picture."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from deploy import beginning
from deploy.fleet import Device, Fleet

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
DEVICE_ID = "cam-12-01"
_YAML = """\
# above the cheese
device: {device}
store: "0417"
state_dir: {data}/state
bundle: {data}/current/bundle
camera: {{source: "shelf:seed=7", fps: 2}}
planogram: planogram.yaml
broker: {{host: {host}, port: {port}, tls: {{ca: ca.pem, certificate: device.pem, key: device.key}}}}
metrics: {{port: 0}}
"""
_PLANOGRAM = """\
shelf: "12"
reference: reference.jpg
products: [{label: milk-1l, name: Milk 1 l}]
slots: [{id: A1, quad: [[10, 10], [60, 10], [60, 90], [10, 90]], product: milk-1l}]
"""


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "a fleet") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key.public_key(), NOW, 3650, ca=True)

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, days: float, *, ca: bool
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(self.name, name, key, x509.random_serial_number())
        builder = builder.not_valid_before(begin - timedelta(days=1)).not_valid_after(
            begin + timedelta(days=days)
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str, *, begin: datetime = NOW, days: float = 365) -> tuple[bytes, bytes]:
        """Return certificate and key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._signed(subject, key.public_key(), begin, days, ca=False)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return made.public_bytes(Encoding.PEM), private

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def device_yaml(data: Path | str = "/data/shelf", *, device: str = DEVICE_ID, port: int = 8883) -> str:
    """A device.yaml that fits the rest."""
    return _YAML.format(device=device, data=data, host="broker.example", port=port)


def fleet_with_device(
    folder: Path,
    *,
    device: str = DEVICE_ID,
    data: Path | str = "/data/shelf",
    authority: Authority | None = None,
) -> Fleet:
    """Begin a fleet and put a device into it."""
    authority = authority or Authority()
    fleet = beginning.begin(folder, "shops", NOW)
    fleet.write(fleet.ca / "ca.pem", authority.pem)
    add_device(fleet, authority, device, data)
    return fleet


def add_device(
    fleet: Fleet,
    authority: Authority,
    device: str,
    data: Path | str = "/data/shelf",
    *,
    begin: datetime = NOW,
) -> None:
    """Put a device into a fleet, with everything that it is flashed with."""
    certificate, key = authority.issue(device, begin=begin)
    home = fleet.device_folder(device)
    for name, content in {
        "device.yaml": device_yaml(data, device=device).encode(),
        "planogram.yaml": _PLANOGRAM.encode(),
        "reference.jpg": picture(),
        "device.pem": certificate,
    }.items():
        fleet.write(home / name, content)
    fleet.write(home / "device.key", key, secret=True)
    fleet.keep(Device(device=device, store="0417", shelf="12", added=NOW))


def picture() -> bytes:
    """A small picture."""
    done, data = cv2.imencode(".jpg", np.full((100, 100, 3), 90, np.uint8))
    assert done
    return bytes(data.tobytes())
