"""Where the boot partition of an image begins."""

from pathlib import Path

from deploy.flash.image import table_of


def boot_partition(image: Path) -> int:
    """Return where the boot partition begins, in bytes, found as flashing finds it.

    Raises:
        DataError: There is no partition table, or none with a FAT file system in it.
    """
    return table_of(image).fat
