"""Where the boot partition of an image or drive begins: found by looking, never by a number."""

import json
from pathlib import Path

from deploy.image.tools import run
from edge_agent.contracts.errors import DataError

_FAT_TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "basic data",
    "b": "FAT32",
    "c": "FAT32, LBA",
    "e": "FAT16, LBA",
    "6": "FAT16",
}
_SIGNATURE = b"\x55\xaa"


def boot_partition(image: Path) -> int:
    """Return where the boot partition begins, in bytes.

    Of several that may hold FAT the first one that does is taken.

    Raises:
        DataError: There is no partition table, or none with a FAT file system in it.
    """
    found = json.loads(run(["sfdisk", "--json", str(image)]))["partitiontable"]
    sector = int(found.get("sectorsize", 512))
    seen = []
    for part in found.get("partitions", ()):
        kind = str(part["type"]).lower()
        seen.append(kind)
        offset = int(part["start"]) * sector
        if kind in _FAT_TYPES and _is_fat(image, offset):
            return offset
    raise DataError(
        f"Expected: a partition with a FAT file system. Received: {image}, with {', '.join(seen) or 'none'}."
    )


def _is_fat(image: Path, offset: int) -> bool:
    with image.open("rb") as file:
        file.seek(offset)
        block = file.read(512)
    # The name of the kind stands at another place in FAT32 than in its forerunners.
    return block[510:] == _SIGNATURE and (block[82:87] == b"FAT32" or block[54:57] == b"FAT")
