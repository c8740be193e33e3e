"""Back to the release before: what signed metadata allows, and what it does not forbid.

A device never goes below the number that it runs unless the signed release says that it may. Where it does
not, what the older release holds is offered again under the next number: the same archives by hash, so that
nothing is fetched that the device still has, and no rule is bent.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from deploy.fleet import Device
from deploy.release.repository import Repository
from deploy.rollout.model import Rollout
from edge_agent.contracts.errors import ConfigError, UsageError
from edge_agent.contracts.messages import UpdatePhase
from edge_agent.contracts.release import Release
from edge_agent.contracts.times import rfc3339


def failed(rollouts: Iterable[Rollout], device: str) -> frozenset[int]:
    """Return the releases that a device has rolled back or refused, and has not committed after all."""
    seen: dict[UpdatePhase | None, set[int]] = {}
    for rollout in rollouts:
        if device in rollout.members:
            seen.setdefault(rollout.members[device].phase, set()).add(rollout.release)
    bad = seen.get(UpdatePhase.ROLLED_BACK, set()) | seen.get(UpdatePhase.REFUSED, set())
    return frozenset(bad - seen.get(UpdatePhase.COMMITTED, set()))


def architecture(repository: Repository, device: Device, running: int) -> str:
    """Return a device's architecture; where nobody has written it down, the one that its release is for.

    Raises:
        ConfigError: It is for several.
    """
    archs = repository.numbers().get(running, [])
    if device.arch is None and len(archs) != 1:
        raise ConfigError(
            f"Expected: the architecture of {device.device}. Received: none in the inventory, and release "
            f"{running} is for {', '.join(archs) or 'none that is offered'}.",
            hint="name it: --arch",
        )
    return device.arch or archs[0]


def before(
    repository: Repository,
    arch: str,
    running: int,
    *,
    previous: int | None = None,
    bad: Collection[int] = (),
) -> int:
    """Return the release before one, of another content.

    Args:
        repository: What the fleet offers.
        arch: Of the device.
        running: What it runs.
        previous: What it ran before, as it says itself; else it is the newest below.
        bad: What it has rolled back.

    Raises:
        UsageError: There is none.
    """
    now = repository.release(running, arch)
    numbers = repository.numbers()
    below = [number for number in reversed(numbers) if number < running and number not in bad]
    if previous is not None and previous not in bad:
        below.insert(0, previous)
    for number in below:
        if arch in numbers.get(number, ()) and not _same(repository.release(number, arch), now):
            return number
    raise UsageError(
        f"Expected: a release before {running} for {arch}, that the device has not rolled back. "
        "Received: none.",
        hint="what there is: shelfkit deploy release list; name one with --to",
    )


def way_back(repository: Repository, arch: str, running: int, to: int, now: datetime) -> int:
    """Return the number under which a device that runs one release gets to an older one.

    Args:
        repository: What the fleet offers.
        arch: Of the device.
        running: What it runs.
        to: What it is to run.
        now: When a new number is made, if one has to be.

    Raises:
        BundleError: There is no such release.
        ConfigError: A new number waits for the targets key, which is not here.
    """
    wanted = repository.release(to, arch)
    if _same(repository.release(running, arch), wanted):
        return running
    if to >= running or wanted.downgrade:
        return to
    numbers = repository.numbers()
    for number, archs in numbers.items():
        if number > running and arch in archs and _same(repository.release(number, arch), wanted):
            return number
    again = max(numbers) + 1
    made = [replace(repository.release(to, item), number=again, created=rfc3339(now)) for item in numbers[to]]
    if not repository.offer(made, now):
        raise ConfigError(
            f"Expected: the targets key, to offer release {to} again as {again}. Received: none here.",
            hint="shelfkit deploy release sign --key targets.pem; then this command once more",
        )
    return again


def _same(one: Release, other: Release) -> bool:
    return one.components == other.components
