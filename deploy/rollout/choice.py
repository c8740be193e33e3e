"""Which devices take part in a rollout, and where their brokers are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploy import starting
from deploy.broker import OPERATOR
from deploy.fleet import Device, Fleet
from deploy.release.repository import Keys, Repository
from deploy.rollout.model import Rollout
from deploy.service import tls_of
from edge_agent.contracts import config
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import BundleError, ConfigError
from edge_agent.contracts.provisioning import DEVICE

LOOPBACK = "loopback"
_LOOPBACK_PORT = 1883


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who takes part.

    Attributes:
        stores: Of each device that does.
        left_out: Why others do not.
    """

    stores: Mapping[str, str]
    left_out: Mapping[str, str]


def repository(fleet: Fleet) -> Repository:
    """Return what the fleet offers."""
    return Repository(fleet.repository, Keys(fleet.keys))


def chosen(fleet: Fleet, release: int, *, stores: Sequence[str], devices: Sequence[str]) -> Chosen:
    """Choose devices for a release.

    Args:
        fleet: The fleet.
        release: Its number.
        stores: Those alone, if any.
        devices: Those alone, if any.

    Raises:
        BundleError: The fleet offers no such release.
        ConfigError: There is no such device.
    """
    offered = repository(fleet)
    archs = offered.numbers().get(release) if offered.begun else None
    if archs is None:
        raise BundleError(
            f"Expected: a release that is offered. Received: {release}.",
            hint="what there is: shelfkit deploy release list",
        )
    named = [fleet.device(name) for name in devices] if devices else fleet.devices()
    found: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for device in named:
        if stores and device.store not in stores:
            continue
        why = _why_not(device, archs)
        if why is None:
            found[device.device] = device.store
        else:
            left_out[device.device] = why
    return Chosen(found, left_out)


def _why_not(device: Device, archs: Sequence[str]) -> str | None:
    if device.revoked is not None:
        return "revoked"
    if device.pinned:
        return "pinned"
    if device.arch is not None and device.arch not in archs:
        return f"the release is not for {device.arch}"
    return None


def attempts(before: Iterable[Rollout], release: int) -> dict[str, int]:
    """Return the attempt of each device that was offered a release before: one more than the last."""
    found: dict[str, int] = {}
    for rollout in before:
        if rollout.release == release:
            for device, member in rollout.members.items():
                if member.wave is not None:
                    found[device] = max(found.get(device, 1), member.attempt + 1)
    return found


def addresses(
    fleet: Fleet, stores: Mapping[str, str], broker: str | None, operator: str = OPERATOR
) -> dict[str, tuple[str, Address]]:
    """Return store and broker of each device.

    Args:
        fleet: Whose operator asks.
        stores: Of each device.
        broker: For all of them: HOST[:PORT], or `loopback`; None: as each device.yaml says.
        operator: Whose certificate is shown.

    Raises:
        ConfigError: A device.yaml that cannot be read, or no certificate of the operator.
        UsageError: No such broker.
    """
    if broker is not None:
        one = _address(fleet, broker, operator)
        return {device: (store, one) for device, store in stores.items()}
    return {device: (store, _own(fleet, device, operator)) for device, store in stores.items()}


def _address(fleet: Fleet, broker: str, operator: str) -> Address:
    host, port = starting.address(f"{LOOPBACK}:{_LOOPBACK_PORT}" if broker == LOOPBACK else broker)
    if host == LOOPBACK:
        return Address("127.0.0.1", port)
    return Address(host, port, tls_of(fleet, operator), encrypted=True)


def _own(fleet: Fleet, device: str, operator: str) -> Address:
    path = fleet.device_folder(device) / DEVICE
    hint = "or name one broker for all: --broker HOST[:PORT], --loopback"
    if not path.is_file():
        raise ConfigError(f"Expected: the device.yaml of {device}. Received: no {path}.", hint=hint)
    value = config.read(path).value
    if value is None:
        raise ConfigError(f"Expected: a device.yaml without faults. Received: {path}.", hint=hint)
    if value.broker.tls is None:
        return Address(value.broker.host, value.broker.port)
    return Address(value.broker.host, value.broker.port, tls_of(fleet, operator), encrypted=True)
