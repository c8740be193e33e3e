"""The fleet's authority in its folder: what it has issued to whom, and what it has taken back.

    ca/ca.pem, ca/ca.key, ca/crl.pem
    <services|devices>/<name>/issued/<serial>.pem        every certificate that was ever signed
    <services|devices>/<name>/issued/<serial>.revoked    when that one was taken back

Files are only ever added, so the service that renews certificates and the operator's commands may work
side by side. The list of what is revoked is made from them, and can be made again at any time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from deploy import pki
from deploy.fleet import Certificate, Fleet
from deploy.keys import key_pem, read_key, save_key
from deploy.pki import Authority, Kind, Revoked
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.times import moment, rfc3339


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, and when it was taken back."""

    certificate: x509.Certificate
    revoked: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Return whether it opens doors."""
        return self.revoked is None and now < self.certificate.not_valid_after_utc

    @property
    def told(self) -> Certificate:
        """What the inventory says of it."""
        return told(self.certificate)


def told(certificate: x509.Certificate) -> Certificate:
    """Return what the inventory says of a certificate."""
    return Certificate(
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def begin(fleet: Fleet, name: str, now: datetime, passphrase: bytes | None) -> Authority:
    """Make the authority of a fleet, and an empty list of what it has taken back.

    Raises:
        DataError: It cannot be written.
    """
    authority = pki.new_authority(name, now)
    save_key(fleet.ca / "ca.key", authority.key, passphrase)
    fleet.write(fleet.ca_certificate, pki.pem(authority.certificate))
    write_revocation_list(fleet, authority, now)
    return authority


def opened(fleet: Fleet, passphrase: bytes | None = None) -> Authority:
    """Return the authority of a fleet.

    Raises:
        ConfigError: It has none, or its key is kept elsewhere.
        UsageError: The passphrase does not open it.
    """
    certificate = read_certificate(fleet.ca_certificate)
    return Authority(certificate, _key(fleet, passphrase))


def _key(fleet: Fleet, passphrase: bytes | None) -> EllipticCurvePrivateKey:
    kind = EllipticCurvePrivateKey
    return read_key(fleet.ca / "ca.key", kind, passphrase)  # type: ignore[type-abstract]  # never made


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate.

    Raises:
        ConfigError: There is none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"Expected: the certificate {path}. Received: {exc}.",
            hint="`shelfkit deploy fleet init` makes a fleet with its certificates",
        ) from exc


def keep(fleet: Fleet, folder: Path, certificate: x509.Certificate) -> None:
    """Remember a certificate that was signed; before it is given away.

    Raises:
        DataError: It cannot be written.
    """
    fleet.write(folder / "issued" / f"{certificate.serial_number:x}.pem", pki.pem(certificate))


def issued(folder: Path) -> list[Issued]:
    """Return every certificate of a device or service, the newest last.

    Raises:
        ConfigError: One is damaged.
    """
    found = [
        Issued(read_certificate(path), _revoked(path.with_suffix(".revoked")))
        for path in (folder / "issued").glob("*.pem")
    ]
    return sorted(found, key=lambda item: item.certificate.not_valid_before_utc)


def _revoked(path: Path) -> datetime | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    at = moment(text)
    if at is None:
        raise ConfigError(f"Expected: when it was revoked. Received: {path}: {text!r:.40}.")
    return at


def revoke(fleet: Fleet, folder: Path, now: datetime) -> int:
    """Take back every certificate of a device or service; return how many that were.

    The list for the broker is another step: `write_revocation_list`.

    Raises:
        DataError: It cannot be written.
    """
    taken = [item.certificate for item in issued(folder) if item.holds(now)]
    for certificate in taken:
        path = folder / "issued" / f"{certificate.serial_number:x}.revoked"
        fleet.write(path, f"{rfc3339(now)}\n".encode())
    return len(taken)


def write_revocation_list(fleet: Fleet, authority: Authority, now: datetime) -> int:
    """Sign the list of what is taken back again, from the whole folder; return how many are on it.

    Raises:
        DataError: It cannot be written.
    """
    revoked = [
        Revoked(item.certificate.serial_number, item.revoked)
        for folder in _members(fleet)
        for item in issued(folder)
        if item.revoked is not None and now < item.certificate.not_valid_after_utc
    ]
    fleet.write(fleet.revocation_list, pki.pem(pki.revocation_list(authority, revoked, now)))
    return len(revoked)


def _members(fleet: Fleet) -> Iterator[Path]:
    for room in ("services", "devices"):
        yield from sorted(path for path in (fleet.folder / room).glob("*") if path.is_dir())


def give(  # noqa: PLR0913 - all that a certificate says
    fleet: Fleet,
    authority: Authority,
    folder: Path,
    name: str,
    *,
    kind: Kind,
    now: datetime,
    days: int | None = None,
    names: Sequence[str] = (),
    public: EllipticCurvePublicKey | None = None,
) -> x509.Certificate:
    """Give a device or service a certificate; and a key, unless it has one of its own.

    Args:
        fleet: The fleet.
        authority: Its own.
        folder: Of the device or service; `<file>.pem` and `<file>.key` are written there.
        name: The common name.
        kind: What it is for.
        now: When it begins.
        days: How long it holds.
        names: That a server is reached under.
        public: The key of whoever keeps it to himself.

    Raises:
        DataError: It cannot be written.
        UsageError: A name or a time that no certificate can have.
    """
    file = "device" if kind is Kind.DEVICE else name
    key = pki.new_key()
    given = key.public_key() if public is None else public
    made = pki.issue(authority, given, name, kind=kind, now=now, days=days, names=names)
    keep(fleet, folder, made)
    if public is None:
        fleet.write(folder / f"{file}.key", key_pem(key), secret=True)
    else:
        (folder / f"{file}.key").unlink(missing_ok=True)
    fleet.write(folder / f"{file}.pem", pki.pem(made))
    return made
