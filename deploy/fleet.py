"""The fleet's folder: what an operator keeps, and who finds what where.

    fleet.json                   the fleet's name
    ca/                          ca.pem, ca.key, crl.pem
    services/<name>/             <name>.pem and <name>.key of broker, recorder, operator, consumers
                                 and all that it was ever given: issued/
    tuf/keys/                    root-1.pem, root-2.pem, targets.pem, snapshot.pem, timestamp.pem
    tuf/repository/              metadata/ and targets/: what `deploy release serve` serves
    devices/<id>/                device.json, device.pem, device.key, issued/ and what it is flashed with
    rollouts/                    one file for each rollout

Only this module knows these places. Nothing secret is ever printed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_agent.contracts.errors import ConfigError, DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.identifiers import DeviceId, ShelfId, StoreId
from edge_agent.contracts.times import Timestamp
from edge_agent.contracts.validation import explain

ENVIRONMENT = "SHELFKIT_FLEET"
DEFAULT = Path("fleet")
FORMAT = 1


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FleetInfo(_Kept):
    """`fleet.json`.

    Attributes:
        broker: Where devices find the broker, unless they are told otherwise: a host and perhaps a port.
        updates: Where they find releases, in the same way.
    """

    format: int = FORMAT
    name: str
    created: Timestamp
    broker: str | None = None
    updates: str | None = None


class Certificate(_Kept):
    """What the fleet knows of a certificate that it has given."""

    serial: str
    not_before: Timestamp
    not_after: Timestamp


class Device(_Kept):
    """`device.json`: one line of the inventory.

    Attributes:
        pinned: Rollouts leave it out while it is true.
        host: Where SSH finds it, if it is reached so.
        revoked: When its certificates were revoked.
    """

    device: DeviceId
    store: StoreId
    shelf: ShelfId
    added: Timestamp
    arch: str | None = None
    host: str | None = None
    pinned: bool = False
    certificate: Certificate | None = None
    revoked: Timestamp | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """Places in a fleet's folder, and its inventory."""

    folder: Path

    @property
    def info(self) -> Path:
        """The fleet's name."""
        return self.folder / "fleet.json"

    @property
    def ca(self) -> Path:
        """The fleet's certificate authority."""
        return self.folder / "ca"

    @property
    def ca_certificate(self) -> Path:
        """What everybody trusts."""
        return self.ca / "ca.pem"

    @property
    def revocation_list(self) -> Path:
        """What the authority has taken back."""
        return self.ca / "crl.pem"

    @property
    def keys(self) -> Path:
        """The keys that releases are signed with."""
        return self.folder / "tuf" / "keys"

    @property
    def repository(self) -> Path:
        """What devices fetch releases from."""
        return self.folder / "tuf" / "repository"

    @property
    def rollouts(self) -> Path:
        """A file for each rollout."""
        return self.folder / "rollouts"

    def service(self, name: str) -> Path:
        """Certificate and key of a service."""
        return self.folder / "services" / name

    def services(self) -> list[str]:
        """Return the names of all services."""
        return sorted(path.name for path in (self.folder / "services").glob("*") if path.is_dir())

    def device_folder(self, device: str) -> Path:
        """Everything of one device."""
        return self.folder / "devices" / device

    def device(self, device: str) -> Device:
        """Return one line of the inventory.

        Raises:
            ConfigError: There is no such device, or its file is damaged.
        """
        path = self.device_folder(device) / "device.json"
        try:
            return Device.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            known = ", ".join(sorted(item.device for item in self.devices())) or "none yet"
            raise ConfigError(
                f"Expected: a device of the fleet {self.folder} ({known:.200}). Received: {device!r}.",
                hint=f"add it: shelfkit deploy device add {device} --store STORE --shelf SHELF",
            ) from None
        except (OSError, ValidationError) as exc:
            raise ConfigError(f"Expected: a device's inventory. Received: {path}: {explain(exc)}.") from exc

    def devices(self) -> Iterator[Device]:
        """Yield the inventory, in order of names."""
        for path in sorted((self.folder / "devices").glob("*/device.json")):
            yield self.device(path.parent.name)

    def keep(self, device: Device) -> None:
        """Write a device's line.

        Raises:
            DataError: It cannot be written; the line before is still there.
        """
        self.write(
            self.device_folder(device.device) / "device.json", device.model_dump_json(indent=2).encode()
        )

    def write(self, path: Path, content: bytes, *, secret: bool = False) -> None:
        """Write a file whole or not at all; a secret one for its owner alone.

        Raises:
            DataError: It cannot be written.
        """
        try:
            with written_beside(path) as staged:
                mode = 0o600 if secret else 0o644
                handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
        except OSError as exc:
            raise DataError(
                f"Expected: a place that can be written. Received: {path}: {exc.strerror}."
            ) from exc


def opened(folder: Path) -> Fleet:
    """Return a fleet that is there.

    Raises:
        ConfigError: The folder is none.
    """
    info_of(Fleet(folder))
    return Fleet(folder)


def info_of(fleet: Fleet) -> FleetInfo:
    """Return what a fleet says of itself.

    Raises:
        ConfigError: Its folder is none.
    """
    folder = fleet.folder
    try:
        info = FleetInfo.model_validate_json(fleet.info.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"Expected: the folder of a fleet. Received: {folder}, without fleet.json.",
            hint=f"make one with `shelfkit deploy fleet init`, or name it: --fleet DIR or {ENVIRONMENT}=DIR",
        ) from None
    except (OSError, ValidationError) as exc:
        raise ConfigError(f"Expected: a fleet.json. Received: {fleet.info}: {explain(exc)}.") from exc
    if info.format != FORMAT:
        raise ConfigError(f"Expected: fleet format {FORMAT}. Received: {info.format} in {fleet.info}.")
    return info
