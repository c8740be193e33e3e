"""Back to the release before: what signed metadata allows, and what it does not forbid.

A device never goes below the number that it runs unless the signed release says that it may. Where it does
not, what the older release holds is offered again under the next number: the same archives by hash, so that
nothing is fetched that the device still has, and no rule is bent.
"""

from dataclasses import replace
from datetime import datetime

from deploy.release.repository import Repository
from edge_agent.contracts.errors import ConfigError, UsageError
from edge_agent.contracts.release import Release
from edge_agent.contracts.times import rfc3339


def before(repository: Repository, arch: str, running: int) -> int:
    """Return the newest release below one, of another content.

    Raises:
        UsageError: There is none.
    """
    now = repository.release(running, arch)
    for number, archs in reversed(repository.numbers().items()):
        if number < running and arch in archs and not _same(repository.release(number, arch), now):
            return number
    raise UsageError(
        f"Expected: a release before {running} for {arch}. Received: none.",
        hint="what there is: shelfkit deploy release list",
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
