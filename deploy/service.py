"""Services of a store: who has a certificate besides devices."""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from pydantic import TypeAdapter, ValidationError

from deploy import authority as authorities
from deploy.fleet import Fleet
from deploy.pki import Authority, Kind
from edge_agent.contracts import config
from edge_agent.contracts.errors import ConfigError, UsageError
from edge_agent.contracts.identifiers import DeviceId
from edge_agent.contracts.validation import explain


def add(
    fleet: Fleet,
    authority: Authority,
    name: str,
    now: datetime,
    *,
    names: Sequence[str] = (),
    days: int | None = None,
) -> x509.Certificate:
    """Give a service its first key and certificate.

    Args:
        fleet: The fleet.
        authority: Its own.
        name: Of the service.
        now: When the certificate begins.
        names: Under which it is reached, if it is a server.
        days: How long it holds.

    Raises:
        ConfigError: Somebody has this name already.
        UsageError: It is no name.
    """
    _checked(name)
    if fleet.service(name).exists():
        raise ConfigError(
            f"Expected: a new name. Received: {name}, which is a service already.",
            hint=f"another certificate for it: shelfkit deploy fleet service {name} --renew",
        )
    if fleet.device_folder(name).exists():
        raise ConfigError(f"Expected: a name that no device has. Received: {name}.")
    kind = Kind.SERVER if names else Kind.SERVICE
    return authorities.give(
        fleet, authority, fleet.service(name), name, kind=kind, now=now, names=names, days=days
    )


def renew(
    fleet: Fleet,
    authority: Authority,
    name: str,
    now: datetime,
    *,
    names: Sequence[str] = (),
    days: int | None = None,
) -> x509.Certificate:
    """Give a service another key and certificate; a server keeps its names unless there are others.

    Args:
        fleet: The fleet.
        authority: Its own.
        name: Of the service.
        now: When the certificate begins.
        names: Under which it is reached from now on.
        days: How long it holds.

    Raises:
        ConfigError: There is no such service.
    """
    before = _known(fleet, name)[-1].certificate
    names = names or _names(before)
    kind = Kind.SERVER if names else Kind.SERVICE
    return authorities.give(
        fleet, authority, fleet.service(name), name, kind=kind, now=now, names=names, days=days
    )


def revoke(fleet: Fleet, authority: Authority, name: str, now: datetime) -> int:
    """Take back every certificate of a service, and sign the list; return how many that were.

    Raises:
        ConfigError: There is no such service.
    """
    _known(fleet, name)
    count = authorities.revoke(fleet, fleet.service(name), now)
    authorities.write_revocation_list(fleet, authority, now)
    return count


def tls_of(fleet: Fleet, name: str) -> config.Tls:
    """Return what a service shows to a broker.

    Raises:
        ConfigError: It has no certificate.
    """
    folder = fleet.service(name)
    tls = config.Tls(ca=fleet.ca_certificate, certificate=folder / f"{name}.pem", key=folder / f"{name}.key")
    missing = next((path for path in (tls.ca, tls.certificate, tls.key) if not path.is_file()), None)
    if missing is not None:
        raise ConfigError(
            f"Expected: the certificate of {name}. Received: no {missing}.",
            hint=f"`shelfkit deploy fleet service {name}` makes it; then the broker must know the name: "
            "shelfkit deploy broker --update --out FOLDER",
        )
    return tls


def _known(fleet: Fleet, name: str) -> list[authorities.Issued]:
    _checked(name)
    found = authorities.issued(fleet.service(name))
    if not found:
        raise ConfigError(
            f"Expected: a service of the fleet ({', '.join(fleet.services())}). Received: {name!r}.",
            hint=f"add it: shelfkit deploy fleet service {name}",
        )
    return found


def _checked(name: str) -> None:
    try:
        TypeAdapter(DeviceId).validate_python(name)
    except ValidationError as exc:
        raise UsageError(
            f"Expected: a name of letters, digits, '.', '_' and '-'. Received: {name!r}: {explain(exc)}."
        ) from exc


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(item.value) for item in listed]
