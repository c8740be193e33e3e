"""What a device is given before its first start: seven files, and what they must be together.

    device.yaml      names the three certificates, the planogram, its state and its bundle
    planogram.yaml   with reference.jpg
    ca.pem           the fleet's authority
    device.pem       the device's certificate; its common name is the device
    device.key       what belongs to it
    root.json        whom releases are trusted from

They are put onto the boot partition, where a laptop reads them, and checked as a whole on both sides:
by the machine that flashes, and by the device before it takes anything over.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # as documented

from edge_agent.contracts import config, planogram
from edge_agent.contracts.certificates import UNREADABLE, common_names
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.yamlfile import Document, Problem, ProblemsError

DEVICE, PLANOGRAM, REFERENCE = "device.yaml", "planogram.yaml", "reference.jpg"
CA, CERTIFICATE, KEY, ROOT = "ca.pem", "device.pem", "device.key", "root.json"
FILES = (DEVICE, PLANOGRAM, REFERENCE, CA, CERTIFICATE, KEY, ROOT)
MOST_BYTES = 16 * 1024 * 1024
"""No file is larger: the picture is what takes room."""
DATA = Path("/data/shelf")
"""Where a device keeps everything."""
FOLDER = "device"
"""Below it: what a device was provisioned with."""
REPORT = "provisioned.txt"
"""On the boot partition: how it went, for a person with a laptop."""
_CLOCK_AHEAD = timedelta(days=3650)
_MOST_LINKS = 8
_HINT = "flash or push the device again, or mend the files on its boot partition"


@dataclass(frozen=True, slots=True)
class Checked:
    """Files that fit each other.

    Attributes:
        config: Of the device.
        shelf: That the planogram is of.
        not_after: When the certificate ends.
        notes: What a person should know, though nothing is wrong.
    """

    config: DeviceConfig
    shelf: str
    not_after: datetime
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    """Problems so far, by the names that a person knows the files by."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        self.problems.append(Problem(Path(name), None, "", text))

    def take(self, document: Document[Any]) -> None:
        name = Path(document.path.name)
        self.problems += [Problem(name, item.line, item.key, item.text) for item in document.problems]

    def at(self, document: Document[DeviceConfig], key: tuple[str, ...], text: str) -> None:
        item = document.problem(key, text)
        self.problems.append(Problem(Path(DEVICE), item.line, item.key, item.text))


def check(
    folder: Path,
    *,
    now: datetime,
    data: Path = DATA,
    labels: list[str] | None = None,
    device: str = "",
    known: bool = False,
) -> Checked:
    """Check the files in a folder as a whole.

    Args:
        folder: Holds all of them.
        now: The clock, which may be wrong where nothing has set it yet.
        data: Where the device keeps everything.
        labels: Of the bundle that is there, if it is.
        device: Whom they must be for; whoever they are for, if it is empty.
        known: The device has had this certificate before, and may have renewed it since: its end is a note.

    Raises:
        ProblemsError: Everything that is wrong, in all files.
    """
    found = _Found(folder)
    for name in FILES:
        _readable(folder / name, found)
    settings = _settings(folder, data, found)
    if settings and device and settings.device != device:
        found.add(DEVICE, f"expected the device {device}; received {settings.device}")
    shelf = None
    if (folder / PLANOGRAM).is_file():
        document = planogram.read(folder / PLANOGRAM, known_labels=labels)
        found.take(document)
        shelf = document.value
        if shelf is not None and shelf.reference != folder.resolve() / REFERENCE:
            found.add(PLANOGRAM, f"expected `reference: {REFERENCE}`; received {shelf.reference.name!r}")
    leaf = _identity(folder, settings.device if settings else "", found)
    notes = () if leaf is None else tuple(_validity(leaf, now, found, known=known))
    _root(folder, found)
    if found.problems or settings is None or shelf is None or leaf is None:
        raise ProblemsError(list(dict.fromkeys(found.problems)), hint=_HINT)
    return Checked(settings, shelf.shelf, leaf.not_valid_after_utc, notes)


def _readable(path: Path, found: _Found) -> None:
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError:
        size = None
    if size is None:
        found.add(path.name, "missing")
    elif not 0 < size <= MOST_BYTES:
        found.add(path.name, f"expected 1 to {MOST_BYTES} bytes; received {size}")


def _settings(folder: Path, data: Path, found: _Found) -> DeviceConfig | None:
    if not (folder / DEVICE).is_file():
        return None
    document = config.read(folder / DEVICE)
    found.take(document)
    settings = document.value
    if settings is None:
        return None
    here = folder.resolve()
    places: list[tuple[tuple[str, ...], Path | None, Path]] = [
        (("planogram",), settings.planogram, here / PLANOGRAM),
        (("state_dir",), settings.state_dir, data / "state"),
        (("bundle",), settings.bundle, data / "current" / "bundle"),
    ]
    tls = settings.broker.tls
    if tls is None:
        found.at(document, ("broker",), f"expected tls: {{ca: {CA}, certificate: {CERTIFICATE}, key: {KEY}}}")
    else:
        places += [
            (("broker", "tls", "ca"), tls.ca, here / CA),
            (("broker", "tls", "certificate"), tls.certificate, here / CERTIFICATE),
            (("broker", "tls", "key"), tls.key, here / KEY),
        ]
    for key, given, wanted in places:
        if given != wanted:
            expected = wanted.name if wanted.parent == here else wanted
            found.at(document, key, f"expected {expected}; received {given}")
    return settings


def _identity(folder: Path, device: str, found: _Found) -> x509.Certificate | None:
    """Check that key, certificate and authority belong together, and to the device."""
    roots = _certificates(folder / CA, found)
    chain = _certificates(folder / CERTIFICATE, found)
    key = _private(folder / KEY, found)
    if not chain:
        return None
    leaf = chain[0]
    if key is not None and _public(key.public_key()) != _public(leaf.public_key()):
        found.add(KEY, f"expected the key of {CERTIFICATE}; received another")
    names = common_names(leaf)
    if device and names != [device]:
        found.add(CERTIFICATE, f"expected the common name {device!r}; received {', '.join(names)!r:.80}")
    if roots and not leads_to(chain, roots):
        found.add(CERTIFICATE, f"expected a certificate that {CA} has signed; received another's")
    return leaf


def _certificates(path: Path, found: _Found) -> list[x509.Certificate]:
    if not path.is_file() or not path.stat().st_size:
        return []
    try:
        read = x509.load_pem_x509_certificates(path.read_bytes())
        for item in read:
            item.public_key()
            common_names(item)
    except (OSError, *UNREADABLE):
        found.add(path.name, "expected a certificate in PEM; received something else")
        return []
    return read


def _private(path: Path, found: _Found) -> PrivateKeyTypes | None:
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, *UNREADABLE):
        found.add(path.name, "expected a private key in PEM, without a passphrase; received something else")
        return None


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]  # every kind of public key has it


def leads_to(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> bool:
    """Tell whether the first certificate of a chain leads to one of the roots, each signed by the next."""
    current = chain[0]
    for _ in range(_MOST_LINKS):
        if any(_signed(current, root) for root in roots):
            return True
        above = next((item for item in chain[1:] if item != current and _signed(current, item)), None)
        if above is None:
            return False
        current = above
    return False


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        certificate.verify_directly_issued_by(issuer)
    except UNREADABLE:
        return False
    return True


def _validity(leaf: x509.Certificate, now: datetime, found: _Found, *, known: bool) -> Iterator[str]:
    """Refuse an expired certificate that is new; a clock that cannot be right is no reason to."""
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now < begin or now > end + _CLOCK_AHEAD:
        yield (
            f"the clock says {now:%Y-%m-%d}, which cannot be right: the certificate is good from "
            f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}; the broker is reached once the clock is set"
        )
    elif now > end and known:
        yield (
            f"{CERTIFICATE} was good until {end:%Y-%m-%d}: what the device has renewed since decides; "
            "without that give it another: shelfkit deploy device renew, then flash or push"
        )
    elif now > end:
        found.add(CERTIFICATE, f"expected a certificate that is good now; received one until {end:%Y-%m-%d}")


def _root(folder: Path, found: _Found) -> None:
    path = folder / ROOT
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        root = Metadata[Root].from_bytes(path.read_bytes())
        if root.signed.type != Root.type:
            found.add(ROOT, f"expected the root of releases; received {root.signed.type}")
            return
        root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    except (OSError, RepositoryError, ValueError, KeyError, json.JSONDecodeError) as exc:
        text = str(exc).splitlines()[0][:120] if str(exc) else type(exc).__name__
        found.add(ROOT, f"expected the root of releases, signed by its own keys; received: {text}")
