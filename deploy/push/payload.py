"""What a machine needs of a release, packed for the way: the small in one archive, the large one by one."""

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.fleet import Fleet
from deploy.release.repository import Keys, Repository
from edge_agent.contracts import release as releases
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.release import Release
from edge_agent.update import shipped, units

_NEEDED = (*shipped.DISTRIBUTIONS, "_cffi_backend")
"""How everything begins that these distributions put into site-packages."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What goes there.

    Attributes:
        release: The release.
        small: An uncompressed tar: program, units, metadata.
        large: Archives of components by their names in the repository.
    """

    release: Release
    small: bytes
    large: Mapping[str, Path]


def payload(fleet: Fleet, release: Release, device: units.Device) -> Payload:
    """Pack what a machine needs.

    Args:
        fleet: Whose release it is.
        release: For the machine's architecture.
        device: How it is laid out there.

    Raises:
        BundleError: An archive of it is damaged.
        DataError: The fleet's repository is not whole.
    """
    repository = Repository(fleet.repository, Keys(fleet.keys))
    large = {part.target: repository.archive(part) for part in release.components.values()}
    name = releases.target(release.number, release.arch)
    try:
        files: dict[str, bytes] = {
            f"program/{inner}": path.read_bytes() for inner, path in shipped.kit_files().items()
        }
        files |= {f"program/{inner}": content for inner, content in _libraries(large[release.runtime.target])}
        files |= {
            f"repository/metadata/{path.name}": path.read_bytes()
            for path in sorted((fleet.repository / "metadata").iterdir())
            if path.suffix == ".json"
        }
        files[f"repository/targets/{name}"] = (fleet.repository / "targets" / name).read_bytes()
    except OSError as exc:
        raise DataError(f"Expected: a whole repository. Received: {exc.filename}: {exc.strerror}.") from exc
    files["root.json"] = repository.root.read_bytes()
    for inner, text in units.texts(device).items():
        # Provisioning is the push's own work here: there is no boot partition to look at.
        if not inner.endswith(units.PROVISION):
            files[f"system/{inner}"] = text.encode()
    return Payload(release, _packed(files), large)


def _libraries(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what launcher and updater need of a runtime, which is of the machine's own architecture."""
    with tarfile.open(archive) as tar:
        for member in tar:
            inner = member.name.removeprefix("site-packages/")
            content = tar.extractfile(member) if inner.startswith(_NEEDED) else None
            if content is not None:
                yield inner, content.read()


def _packed(files: Mapping[str, bytes]) -> bytes:
    """Return a tar that is the same for the same files, so that a short one can be gone on with."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(files[name]), 0o644
            tar.addfile(info, io.BytesIO(files[name]))
    return out.getvalue()
