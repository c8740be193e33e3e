"""The first release of a device: laid down where an image is made, or a machine is pushed to."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.contracts.errors import BundleError
from edge_agent.contracts.release import Component, Place, Release
from edge_agent.update import machine, slots, state
from edge_agent.update.fetch import Repository
from edge_agent.update.state import State


def download(
    place: Place,
    repository: Repository,
    release: Release,
    progress: Callable[[int], None] | None = None,
) -> Mapping[str, Path]:
    """Fetch what a device has not, and return the archives by kind.

    Raises:
        RefusedError: An archive is not what was signed.
        ServiceError: The repository cannot be reached.
        DeviceError: Less is free than twice of what comes, or the disk does not take it.
    """
    wanted: Mapping[str, Component] = slots.missing(place, release)
    slots.require_room(place, wanted, slots.free(place))
    return {kind: repository.download(part, place.downloads, progress) for kind, part in wanted.items()}


def install(
    place: Place,
    folder: str,
    arch: str,
    *,
    number: int | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Release:
    """Lay down a release that needs no trial, because there is none to go back to; again does no harm.

    Args:
        place: The device's releases; `metadata/root.json` is there.
        folder: The repository, as a folder or an address.
        arch: Of the device.
        number: Of the release; None: the newest.
        now: The clock.

    Raises:
        BundleError: The repository is refused; or there is another release already, which only an update
            may replace.
        ServiceError: The repository cannot be reached.
        DeviceError: The disk does not take it.
    """
    with slots.locked(place):
        known = state.load(place)
        repository = Repository(place, folder, now=now)
        repository.refresh()
        release = repository.release(number or repository.newest(arch), arch)
        if known.good is not None and known.good != release.number:
            raise BundleError(
                f"Expected: a device without a release, or with {release.number}. Received: {known.good}.",
                hint="update it: python3 -m edge_agent.update apply FOLDER",
            )
        reason = machine.refusal(State(), release, arch)
        if reason is not None:
            raise BundleError(reason)
        slots.stage(place, release, download(place, repository, release))
        made = State(good=release.number) if known.good is None else known
        state.save(place, made)
        slots.settle(place, made)
        slots.forget_downloads(place)
        return release
