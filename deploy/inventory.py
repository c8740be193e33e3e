"""Devices of a fleet: added, given certificates, taken back. Time comes in."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from pydantic import ValidationError

from deploy import authority as authorities
from deploy import pki, starting
from deploy.beginning import SERVICES
from deploy.fleet import Device, Fleet
from deploy.pki import Authority, Kind
from deploy.starting import Wanted
from edge_agent.contracts.errors import ConfigError, DataError, UsageError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.validation import explain

_OF_SERVICES = "svc-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """How a device's certificate is wanted.

    Attributes:
        request: File with a request, for a key that stays where it is.
        days: How long it holds.
    """

    request: Path | None = None
    days: int | None = None


def add(
    fleet: Fleet,
    authority: Authority,
    wanted: Wanted,
    now: datetime,
    *,
    asked: Asked | None = None,
    arch: str | None = None,
    host: str | None = None,
) -> Device:
    """Add a device: its line, its key and certificate, and what it is flashed with. All of it, or nothing.

    Args:
        fleet: The fleet.
        authority: Its own.
        wanted: What the device's files say.
        now: When it is added.
        asked: How its certificate is wanted.
        arch: Debian's name of its architecture.
        host: Where SSH finds it.

    Raises:
        ConfigError: There is one of this name, or its files would say what no device can use.
        DataError: It cannot be written, or the request is none.
        UsageError: A name that no device can have.
    """
    name, asked = wanted.device, asked or Asked()
    _checked(fleet, name)
    try:
        line = Device(device=name, store=wanted.store, shelf=wanted.shelf, added=now, arch=arch, host=host)
    except ValidationError as exc:
        raise UsageError(
            f"Expected: names of letters, digits, '.', '_' and '-'. Received: {explain(exc)}."
        ) from exc
    try:
        with written_beside(fleet.device_folder(name)) as staged:
            staged.mkdir()
            starting.write(staged, wanted)
            made = _given(fleet, authority, staged, name, asked, now)
            line = line.model_copy(update={"certificate": authorities.told(made)})
            fleet.write(staged / "device.json", line.model_dump_json(indent=2).encode())
    except OSError as exc:
        raise DataError(f"Expected: a place for {name}. Received: {exc}.") from exc
    return line


def renew(
    fleet: Fleet,
    authority: Authority,
    name: str,
    now: datetime,
    *,
    asked: Asked | None = None,
    reinstate: bool = False,
) -> Device:
    """Give a device another key and certificate, to be brought onto it; those before hold until they end.

    Args:
        fleet: The fleet.
        authority: Its own.
        name: Of the device.
        now: When the certificate begins.
        asked: How it is wanted.
        reinstate: Also where it was revoked; what was taken back stays taken back.

    Raises:
        ConfigError: There is no such device, or it was revoked.
        DataError: It cannot be written, or the request is none.
    """
    line = fleet.device(name)
    if line.revoked is not None and not reinstate:
        raise ConfigError(
            f"Expected: a device that is not revoked. Received: {name}, revoked {line.revoked:%Y-%m-%d}.",
            hint="--reinstate lets it in again, with a new key",
        )
    made = _given(fleet, authority, fleet.device_folder(name), name, asked or Asked(), now)
    line = line.model_copy(update={"certificate": authorities.told(made), "revoked": None})
    fleet.keep(line)
    return line


def revoke(fleet: Fleet, authority: Authority, name: str, now: datetime) -> int:
    """Take back every certificate of a device, and sign the list; return how many that were.

    Raises:
        ConfigError: There is no such device.
        DataError: It cannot be written.
    """
    line = fleet.device(name)
    # First of all: from now on nobody renews it.
    fleet.keep(line.model_copy(update={"revoked": line.revoked or now}))
    count = authorities.revoke(fleet, fleet.device_folder(name), now)
    authorities.write_revocation_list(fleet, authority, now)
    return count


def latest(fleet: Fleet, name: str) -> x509.Certificate | None:
    """Return the newest certificate of a device; also one that it has asked for itself."""
    found = authorities.issued(fleet.device_folder(name))
    return found[-1].certificate if found else None


def _checked(fleet: Fleet, name: str) -> None:
    if name in SERVICES or name.startswith(_OF_SERVICES) or name in fleet.services():
        # The access list knows everybody by name: this one would have the rights of a service.
        raise UsageError(
            f"Expected: a name that no service has, and without {_OF_SERVICES}. Received: {name!r}."
        )
    if fleet.device_folder(name).exists():
        raise ConfigError(
            f"Expected: a new device. Received: {name}, which the fleet has already.",
            hint=f"another certificate for it: shelfkit deploy device renew {name}",
        )


def _given(
    fleet: Fleet, authority: Authority, folder: Path, name: str, asked: Asked, now: datetime
) -> x509.Certificate:
    public = None
    if asked.request is not None:
        try:
            public = pki.read_request(asked.request.read_bytes(), name)
        except OSError as exc:
            raise DataError(
                f"Expected: a certificate request. Received: {asked.request}: {exc.strerror}."
            ) from exc
    made = authorities.give(
        fleet, authority, folder, name, kind=Kind.DEVICE, now=now, days=asked.days, public=public
    )
    fleet.write(folder / "ca.pem", pki.pem(authority.certificate))
    return made
