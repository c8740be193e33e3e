"""The data partition of a new device: its first release, good from the beginning."""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
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


def laid_down(fleet: Fleet, release: Release, into: Path) -> First:
    """Lay a release down as a device has it, hashes checked.

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


def entries(first: First, user: int) -> Iterator[Entry]:
    """Yield everything of the data partition.

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
    for path in sorted(first.place.root.rglob("*")):
        if path.is_file() and path != first.place.lock:
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            yield Entry(f"{ROOT}/{path.relative_to(first.place.root).as_posix()}", path, mode=mode)
