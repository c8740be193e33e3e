"""What is in an image, as a CycloneDX bill of materials: Debian's packages, wheels, the kit and its model."""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot5
from packageurl import PackageURL

from edge_agent.contracts.release import Component as Part
from edge_agent.contracts.release import Release

STATUS = "var/lib/dpkg/status"
"""Which packages are installed, in a Debian."""


def bill(
    name: str, *, status: str | None, site: Path, release: Release, serial: uuid.UUID, epoch: int
) -> str:
    """Return the bill of materials of an image; the same for the same image.

    Args:
        name: Of the board.
        status: What dpkg says of the packages; None: the system is somebody else's.
        site: site-packages of the runtime.
        release: The first one.
        serial: Of the bill.
        epoch: When it was made, seconds since 1970.
    """
    bom = Bom(serial_number=serial)
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    bom.metadata.component = Component(
        name=f"shelfkit-image-{name}",
        version=str(release.number),
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref=f"image-{name}",
    )
    parts = [*(_debs(status) if status else ()), *_wheels(site), *_ours(release)]
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(bom.metadata.component, parts)
    return JsonV1Dot5(bom).output_as_string(indent=1) + "\n"


def _debs(text: str) -> Iterator[Component]:
    for block in text.strip().split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Architecture): (.*)$", block, re.MULTILINE))
        url = PackageURL(
            "deb", "debian", fields["Package"], fields["Version"], {"arch": fields["Architecture"]}
        )
        yield _component(fields["Package"], fields["Version"], url)


def _wheels(site: Path) -> Iterator[Component]:
    for path in sorted(site.glob("*.dist-info/METADATA")):
        fields = HeaderParser().parsestr(path.read_text(encoding="utf-8"), headersonly=True)
        name, version = str(fields["Name"]), str(fields["Version"])
        yield _component(name, version, PackageURL("pypi", None, name.lower().replace("_", "-"), version))


def _ours(release: Release) -> Iterator[Component]:
    kinds = (
        ("shelfkit", release.agent, ComponentType.APPLICATION),
        (release.bundle.name, release.bundle, ComponentType.MACHINE_LEARNING_MODEL),
    )
    for name, part, kind in kinds:
        yield Component(
            name=name,
            version=part.version,
            type=kind,
            hashes=[_hash(part)],
            bom_ref=f"{kind.value}/{name}@{part.version}",
        )


def _hash(part: Part) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)


def _component(name: str, version: str, url: PackageURL) -> Component:
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=url.to_string()
    )
