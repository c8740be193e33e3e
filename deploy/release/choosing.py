"""Which release of a fleet a device gets that has none yet: in an image, or by a push."""

from deploy.fleet import Fleet
from deploy.release.repository import Keys, Repository
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.release import Release

_ARMHF = (
    "docs/guides/push.md says which wheels make a runtime for 32-bit ARM; then "
    "shelfkit deploy release create --arch armhf --bundle BUNDLE --runtime WHEELS"
)


def chosen(fleet: Fleet, number: int | None, arch: str) -> Release:
    """Return a release of a fleet for an architecture; without a number the latest.

    Raises:
        UsageError: There is none.
    """
    repository = Repository(fleet.repository, Keys(fleet.keys))
    numbers = repository.numbers() if repository.begun else {}
    fitting = [item for item, archs in numbers.items() if arch in archs]
    wanted = max(fitting, default=None) if number is None else number
    if wanted is None or wanted not in fitting:
        known = ", ".join(map(str, fitting)) or "none"
        make = f"make one: shelfkit deploy release create --arch {arch} --bundle BUNDLE --runtime WHEELS"
        raise UsageError(
            f"Expected: a release for {arch} ({known:.100}). Received: {wanted or 'none'}.",
            hint=_ARMHF if arch == "armhf" else make,
        )
    return repository.release(wanted, arch)
