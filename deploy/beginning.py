"""How a fleet begins: whole, or not at all."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from deploy import authority as authorities
from deploy.broker import ALERTS, BROKER, CA, OPERATORS, RECORDER
from deploy.fleet import Fleet, FleetInfo
from deploy.pki import Kind
from deploy.release.keys import NAMES, write_key
from deploy.release.repository import Keys, Repository
from edge_agent.contracts.errors import ConfigError, DataError
from edge_agent.contracts.files import written_beside

RELEASES = "svc-releases"
SERVICES = {
    BROKER: Kind.SERVER,
    RELEASES: Kind.SERVER,
    RECORDER: Kind.SERVICE,
    **dict.fromkeys(OPERATORS, Kind.SERVICE),
    CA: Kind.SERVICE,
    ALERTS: Kind.SERVICE,
}
"""What every fleet has."""


def begin(
    folder: Path,
    name: str,
    now: datetime,
    passphrase: bytes | None = None,
    *,
    broker_names: Sequence[str] = ("localhost", "127.0.0.1"),
    release_names: Sequence[str] = ("localhost", "127.0.0.1"),
    updates: str | None = None,
) -> Fleet:
    """Make a fleet; it appears whole or not at all.

    Args:
        folder: New.
        name: What people call it.
        now: When it begins.
        passphrase: That the keys of its authority and releases are encrypted with.
        broker_names: Hosts and addresses that the broker is reached under; devices are told the first.
        release_names: The same of the server of releases.
        updates: Where devices fetch releases.

    Raises:
        ConfigError: The folder is there already.
        DataError: It cannot be written.
        UsageError: A name that no certificate can have.
    """
    if folder.exists():
        raise ConfigError(
            f"Expected: no {folder} yet. Received: one that is there.", hint="name another one with --fleet"
        )
    try:
        with written_beside(folder) as staged:
            made = Fleet(staged)
            info = FleetInfo(name=name, created=now, broker=broker_names[0], updates=updates)
            made.write(made.info, info.model_dump_json(indent=2).encode())
            authority = authorities.begin(made, name, now, passphrase)
            reached = {BROKER: broker_names, RELEASES: release_names}
            for service, kind in SERVICES.items():
                place, names = made.service(service), reached.get(service, ())
                authorities.give(made, authority, place, service, kind=kind, now=now, names=names)
            for key in NAMES:
                write_key(made.keys / f"{key}.pem", passphrase)
            Repository(made.repository, Keys(made.keys, passphrase)).begin(now)
    except OSError as exc:
        raise DataError(
            f"Expected: a place for a fleet. Received: {folder}: {exc.strerror}.",
            hint="name another: --fleet",
        ) from exc
    return Fleet(folder)
