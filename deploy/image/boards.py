"""The boards that images are made for, and the Debian packages that they need."""

from collections.abc import Mapping
from dataclasses import dataclass

RPI = "rpi"
SUITE = "bookworm"
"""Debian 12: its Python, 3.11, is the one that the runtimes of releases are made for."""

_PACKAGES = (
    "ca-certificates",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "fdisk",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "libglib2.0-0",
    "openssl",
    "python3",
    "systemd-boot",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "zstd",
)

EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/doc/*",
    # What a camera on a shelf has no use for; Wi-Fi would need firmware that is not free as well.
    "/lib/modules/*/kernel/sound/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/infiniband/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
)
INCLUDED = ("/usr/share/doc/*/copyright",)


@dataclass(frozen=True, slots=True)
class Board:
    """A kind of machine.

    Attributes:
        arch: Debian's name of the architecture.
        efi: How UEFI names it in the file that it starts; empty: it does not boot so.
        console: Where the kernel speaks on a serial line.
    """

    name: str
    arch: str
    efi: str
    console: str

    @property
    def packages(self) -> tuple[str, ...]:
        """What is installed beside Debian's essential packages."""
        return tuple(sorted((*_PACKAGES, f"linux-image-{self.arch}")))


BOARDS: Mapping[str, Board] = {
    board.name: board
    for board in (
        Board("uefi-amd64", "amd64", "x64", "ttyS0"),
        Board("uefi-arm64", "arm64", "aa64", "ttyAMA0"),
        # Not made but changed: the Raspberry Pi OS of its owner, which has a loader of its own.
        Board(RPI, "arm64", "", ""),
    )
}
