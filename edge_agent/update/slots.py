"""Releases on the disk: each appears whole, and goes whole; what is there already is linked, not copied."""

import fcntl
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge_agent.contracts import release as releases
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.files import flush
from edge_agent.contracts.release import Component, Place, Release
from edge_agent.update.disk import point, sweep
from edge_agent.update.state import State, on_disk, whole
from edge_agent.update.unpack import unpack

PARTS = ("agent", "bundle")
_HIDDEN = "."
_SPARE = 2


def missing(place: Place, release: Release) -> dict[str, Component]:
    """Return the components that are not on the disk yet, by kind."""
    found = {}
    if not place.runtime(release).is_dir():
        found["runtime"] = release.runtime
    for kind in PARTS:
        if _twin(place, release, kind) is None:
            found[kind] = release.components[kind]
    return found


def require_room(place: Place, wanted: Mapping[str, Component], free: int) -> None:
    """Refuse to begin what may not end.

    Raises:
        DeviceError: Less is free than twice of what comes.
    """
    need = _SPARE * sum(max(part.size, part.unpacked) for part in wanted.values())
    if free < need:
        raise DeviceError(
            f"Expected: {need / 1e6:.1f} MB free in {place.root}. Received: {free / 1e6:.1f} MB.",
            hint="free or replace the device's disk",
        )


def free(place: Place) -> int:
    """Return how many bytes the disk still takes."""
    found = os.statvfs(place.root)
    return found.f_bavail * found.f_frsize


def stage(place: Place, release: Release, archives: Mapping[str, Path]) -> None:
    """Lay a release down; afterwards it is there as a whole.

    Args:
        place: The device's releases.
        release: To be laid down.
        archives: Of the components that are missing, by kind.

    Raises:
        RefusedError: An archive is none that the kit has packed.
        DeviceError: The disk does not take it.
    """
    try:
        if "runtime" in archives and not place.runtime(release).is_dir():
            _runtime(place, release, archives["runtime"])
        if whole(place, release.number) != release:
            _release(place, release, archives)
    except OSError as exc:
        raise DeviceError(f"Expected: room for a release. Received: {exc.strerror or exc}.") from exc


def _runtime(place: Place, release: Release, archive: Path) -> None:
    staged = _fresh(place.runtimes, release.runtime.sha256)
    unpack(archive, staged, most=release.runtime.unpacked)
    staged.rename(place.runtime(release))
    flush(place.runtimes)


def _release(place: Place, release: Release, archives: Mapping[str, Path]) -> None:
    staged = _fresh(place.releases, str(release.number))
    staged.mkdir()
    for kind in PARTS:
        twin = _twin(place, release, kind)
        if twin is not None:
            _link(twin, staged / kind)
        else:
            unpack(archives[kind], staged / kind, most=release.components[kind].unpacked)
    with (staged / "release.json").open("wb") as file:
        file.write(releases.encode(release))
        file.flush()
        os.fsync(file.fileno())
    flush(staged)
    target = place.release(release.number)
    if target.exists():
        _remove(target)  # the same number, and not the same release: of another fleet, or damaged
    staged.rename(target)
    flush(place.releases)


def _fresh(folder: Path, name: str) -> Path:
    """Return a hidden name that nothing has; what an interruption left there is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".new-{name}"
    if staged.exists():
        shutil.rmtree(staged)
    return staged


def _twin(place: Place, release: Release, kind: str) -> Path | None:
    """Return the same component in another release, or in this one where it is there already."""
    for number in reversed(on_disk(place)):
        other = whole(place, number)
        if other is not None and other.components[kind].sha256 == release.components[kind].sha256:
            return place.release(number) / kind
    return None


def _link(source: Path, target: Path) -> None:
    """Make a tree of hard links."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        linked = target / path.relative_to(source)
        if path.is_dir():
            linked.mkdir()
        else:
            os.link(path, linked)
    for folder in sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True):
        flush(folder)
    flush(target)


def settle(place: Place, state: State) -> None:
    """Let `current` lead to the release that should run.

    Raises:
        DeviceError: The disk does not take it.
    """
    if state.wanted is not None and place.release(state.wanted).is_dir():
        point(place.current, f"releases/{state.wanted}")


def collect(place: Place, state: State) -> None:
    """Remove what nothing needs any more: other releases, their runtimes, and leftovers.

    What cannot be removed now is left for the next time.
    """
    kept = {str(number) for number in state.kept}
    if not kept:
        return
    found = [whole(place, number) for number in state.kept]
    runtimes = {release.runtime.sha256 for release in found if release is not None}
    # Where a release that must stay cannot be read, nobody knows which runtime it needs.
    for folder, names in ((place.releases, kept), (place.runtimes, runtimes if all(found) else None)):
        for path in folder.iterdir() if folder.is_dir() and names is not None else ():
            if names is not None and path.name not in names:
                _remove(path)
    for folder in (place.root, place.reported.parent):
        sweep(folder)


def forget_downloads(place: Place) -> None:
    """Remove what has come of releases: they are staged, or not wanted any more."""
    for path in (place.downloads, _hidden(place.downloads)):
        if path.is_dir():
            _remove(path)


def _hidden(path: Path) -> Path:
    return path.with_name(f".old-{path.name}")


def _remove(path: Path) -> None:
    """Remove a folder: it is gone as a whole before its files go."""
    try:
        if not path.name.startswith(_HIDDEN):
            hidden = _hidden(path)
            if hidden.exists():
                shutil.rmtree(hidden)
            path.rename(hidden)
            flush(path.parent)
            path = hidden
        shutil.rmtree(path)
    except OSError as exc:
        raise DeviceError(f"Expected: a folder that can be removed. Received: {exc}.") from exc


@contextmanager
def locked(place: Place, *, wait: bool = True) -> Generator[bool, None, None]:
    """Hold the lock of those who change releases; gives False where another has it and nobody waits.

    Raises:
        DeviceError: The disk does not take the lock's file.
    """
    try:
        place.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise DeviceError(f"Expected: {place.root} to be writable. Received: {exc.strerror}.") from exc
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
