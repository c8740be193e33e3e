"""The data partition of a new device: its first release, good from the beginning."""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy.fleet import Fleet
from deploy.image.archive import Entry
from deploy.release.repository import Keys, Repository
from edge_agent.contracts import release as releases
from edge_agent.contracts.errors import BundleError, DataError
from edge_agent.contracts.release import Component, Place, Release
from edge_agent.update import state
from edge_agent.update.state import State

ROOT = "shelf"
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class First:
    """The first release of a device, laid down.

    Attributes:
        place: Where it lies now.
        root: Whom the device trusts.
    """

    release: Release
    place: Place
    root: bytes

    @property
    def site(self) -> Path:
        """Its libraries."""
        return self.place.runtime(self.release) / "site-packages"

    @property
    def bytes(self) -> int:
        """What it takes on a disk."""
        sizes = (path.stat().st_size for path in self.place.root.rglob("*") if path.is_file())
        return sum(-(-size // _BLOCK) * _BLOCK for size in sizes)


def epoch(release: Release) -> int:
    """Return every time that is in an image of a release, seconds since 1970: the release's own."""
    return int(datetime.fromisoformat(release.created).timestamp())


def laid_down(fleet: Fleet, release: Release, into: Path) -> First:
    """Lay a release down as a device has it, hashes checked; every time is that of the release.

    Raises:
        BundleError: An archive of the fleet's repository is damaged.
        DataError: There is no room.
    """
    repository = Repository(fleet.repository, Keys(fleet.keys))
    place = Place(into)
    folder = place.release(release.number)
    for kind, part in release.components.items():
        archive = repository.folder / "targets" / part.target
        _unpacked(archive, part, place.runtime(release) if kind == "runtime" else folder / kind)
    (folder / "release.json").write_bytes(releases.encode(release))
    for path in (into, *into.rglob("*")):
        path.chmod(0o755 if path.is_dir() else _mode(path))
        os.utime(path, (epoch(release), epoch(release)))
    return First(release, place, repository.root.read_bytes())


def _unpacked(archive: Path, part: Component, into: Path) -> None:
    """Unpack an archive; not as the device does, which must be sure of each file before it goes on."""
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != part.sha256:
            raise BundleError(f"Expected: {archive} as its name says. Received: the hash {found}.")
        into.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            tar.extractall(into, filter="data")
    except (OSError, tarfile.TarError) as exc:
        raise DataError(f"Expected: an archive of a release. Received: {archive}: {exc}.") from exc


def released(first: First) -> Iterator[Entry]:
    """Yield the release itself, as a part of the data partition."""
    for path in sorted(first.place.root.rglob("*")):
        if path.is_file():
            name = path.relative_to(first.place.root).as_posix()
            yield Entry(f"{ROOT}/{name}", path, mode=_mode(path))


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def around(first: First, user: int) -> Iterator[Entry]:
    """Yield everything of the data partition but the release itself.

    Args:
        first: The release.
        user: Number of the agent's user.
    """
    held = state.encode(State(good=first.release.number))
    yield Entry("system", mode=0o755)
    for name in (first.place.state.name, first.place.spare.name):
        yield Entry(f"{ROOT}/{name}", held)
    yield Entry(f"{ROOT}/current", link=f"releases/{first.release.number}")
    yield Entry(f"{ROOT}/metadata/root.json", first.root)
    yield Entry(f"{ROOT}/exchange", mode=0o1775)
    for name, mode in (("launcher", 0o755), ("state", 0o700), ("device", 0o700)):
        yield Entry(f"{ROOT}/{name}", mode=mode, owner=user)
