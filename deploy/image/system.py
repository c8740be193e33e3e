"""What the kit adds to a Debian: mounts, network, units, and /opt/shelf."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.image.archive import Entry
from deploy.image.boards import Board
from deploy.image.disk import identity
from deploy.release.bytecode import cached, with_bytecode
from edge_agent.contracts.errors import BundleError
from edge_agent.update import units
from edge_agent.update.shipped import DISTRIBUTIONS, kit_files

BOOT = "SHELFBOOT"
USER_ID = 990
DEVICE = units.Device(console=True)
GROW = "shelfkit-grow.service"
LOADER_ENTRY = "loader/entries/shelf.conf"
"""On the boot partition: what is started; its last line is what the kernel is told."""
ENABLED = (units.LAUNCHED, units.UPDATER, units.PROVISION)
LEFT_OUT = (
    "./boot/*",
    "./dev/*",
    "./var/log/*",
    "./var/cache/*",
    "./etc/apt/sources.list*",
)
"""Of Debian's tar: kernel and loader lie on the boot partition, and the device never runs apt."""

_MASKED = (
    # Nobody logs in, and nothing installs packages.
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty.target",
    "systemd-logind.service",
)

_FSTAB = """\
# The system is only read; what changes lies on the data partition, or is gone with the power.
PARTUUID={root} / ext4 ro,noatime 0 0
PARTUUID={data} /data ext4 rw,noatime,nosuid,nodev,errors=remount-ro,x-systemd.growfs,{wait} 0 2
PARTUUID={boot} /boot vfat rw,noatime,sync,nosuid,nodev,noexec,fmask=0177,dmask=0077,{wait} 0 2
tmpfs /tmp tmpfs mode=1777,nosuid,nodev,size=64M 0 0
tmpfs /var tmpfs mode=0755,nosuid,nodev,size=64M 0 0
# The clock of the last time that it was known, and the seed of chance.
/data/system /var/lib/systemd none bind,{after} 0 0
"""
_WAIT = "x-systemd.device-timeout=300"
_AFTER = "x-systemd.requires-mounts-for=/data,x-systemd.requires-mounts-for=/var"
_NETWORK = """\
# Any cable: an address by DHCP, always the same for the same plug.
[Match]
Type=ether

[Network]
DHCP=yes
LinkLocalAddressing=ipv6

[DHCPv4]
ClientIdentifier=mac
"""
_GROW = """\
# The data partition reaches to the end of the drive, however large it is; then its file system follows
# (x-systemd.growfs). Nothing to do at most boots.

[Unit]
Description=shelfkit: the whole drive for data
DefaultDependencies=no
After={root}
Before=systemd-fsck@{device} data.mount
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/shelfkit/grow /dev/disk/by-partuuid/{data}

[Install]
# Wanted and not required: on a smaller partition the device works as well, and the next boot tries again.
WantedBy=data.mount
"""
_GROW_SCRIPT = """\
#!/bin/sh
# Lets the last partition of a drive reach to its end. The table is written only where that gains something:
# a power cut must not meet it at every boot.
#
# udev looks at a partition that was written, and would look at a table that is half written: for a moment
# there were no partition of this name, and systemd gives up what waits for it. So the drive is locked
# (https://systemd.io/BLOCK_DEVICE_LOCKING/), and this ends when systemd has the partition again.
set -eu
udevadm wait --timeout=180 "$1"
part=$(readlink -f "$1")
sys=/sys/class/block/${part##*/}
disk=/dev/$(basename "$(dirname "$(readlink -f "$sys")")")
number=$(cat "$sys/partition")
end=$(($(cat "$sys/start") + $(cat "$sys/size")))
total=$(cat "/sys/class/block/${disk##*/}/size")
# What is kept free for the second copy of the table, and for rounding: 4 MiB.
[ $((total - end)) -gt 8192 ] || exit 0
exec 9<"$disk"
flock 9
echo ", +" | sfdisk --quiet --force --no-reread --no-tell-kernel -N "$number" "$disk"
partx --update --nr "$number" "$disk"
exec 9<&-
udevadm settle --timeout=180
unit=$(systemd-escape --path --suffix=device "$1")
for _ in $(seq 180); do
    ! systemctl is-active --quiet "$unit" || exit 0
    sleep 1
done
"""
_EMERGENCY = """\
# Where the data partition cannot be had, systemd waits for somebody who mends that. Nobody comes to a shelf.

[Unit]
Description=shelfkit: begin once more
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
# systemd's own doing: no other program has to be there for it.
SuccessAction=reboot-force
FailureAction=reboot-force

[Service]
Type=oneshot
ExecStart=/bin/sleep 60
"""
_MANAGER = """\
# What is slow is not broken: an old card, a processor that a program imitates.
[Manager]
DefaultTimeoutStartSec=300
DefaultDeviceTimeoutSec=300
"""
_JOURNAL = "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n"
_FOLDERS = "d /data/system 0755 root root\nL+ /var/lib/dbus/machine-id - - - - /etc/machine-id\n"


def command_line(board: Board, seed: str) -> str:
    """Return what the kernel is told."""
    return (
        f"root=PARTUUID={identity(seed, 'root-a')} ro rootwait panic=10 console=tty0 "
        f"console={board.console},115200 systemd.show_status=true systemd.status_unit_format=name quiet"
    )


def loader(board: Board, seed: str, title: str) -> dict[str, bytes]:
    """Return the files that systemd-boot reads."""
    entry = [f"title {title}", "linux /vmlinuz", "initrd /initrd.img", f"options {command_line(board, seed)}"]
    return {
        "loader/loader.conf": b"timeout 0\ndefault shelf.conf\neditor no\n",
        LOADER_ENTRY: ("\n".join(entry) + "\n").encode(),
    }


def started(board: Board) -> dict[str, str]:
    """Return what the boot partition needs of a root file system: the pattern of each file's name there."""
    return {
        "vmlinuz": "boot/vmlinuz-*",
        "initrd.img": "boot/initrd.img-*",
        f"EFI/BOOT/BOOT{board.efi.upper()}.EFI": f"usr/lib/systemd/boot/efi/systemd-boot{board.efi}.efi",
    }


def entries(debian: Mapping[str, bytes], site: Path, seed: str, room: Path) -> Iterator[Entry]:
    """Yield everything of the kit that lies on the root file system.

    Args:
        debian: Its files by name: its users are taken over.
        site: site-packages of the device's runtime.
        seed: Of the image's identity.
        room: For work in between.

    Raises:
        BundleError: The runtime has no updater in it.
    """
    names = {part: str(identity(seed, name)) for part, name in _PARTS.items()}
    # systemd names units of paths with these characters escaped.
    device = f"dev-disk-by\\x2dpartuuid-{names['data'].replace('-', chr(92) + 'x2d')}"
    grow = _GROW.format(root="systemd-udevd.service", device=f"{device}.service", data=names["data"])
    texts = {
        "etc/fstab": _FSTAB.format(**names, wait=_WAIT, after=_AFTER),
        "etc/hostname": "shelf\n",
        "etc/machine-id": "",
        "etc/systemd/network/20-wired.network": _NETWORK,
        "etc/systemd/journald.conf.d/shelfkit.conf": _JOURNAL,
        "etc/systemd/system.conf.d/shelfkit-image.conf": _MANAGER,
        "etc/systemd/system/emergency.service": _EMERGENCY,
        "usr/lib/tmpfiles.d/shelfkit-image.conf": _FOLDERS,
        f"etc/systemd/system/{GROW}": grow,
        **units.texts(DEVICE),
        **_users(debian),
    }
    for name, text in texts.items():
        yield Entry(name, text.encode(), mode=0o640 if "shadow" in name else 0o644)
    yield Entry("usr/lib/shelfkit/grow", _GROW_SCRIPT.encode(), mode=0o755)
    for unit in _MASKED:
        yield Entry(f"etc/systemd/system/{unit}", link="/dev/null")
    for unit in ENABLED:
        yield Entry(f"etc/systemd/system/multi-user.target.wants/{unit}", link=f"/etc/systemd/system/{unit}")
    yield Entry(f"etc/systemd/system/data.mount.wants/{GROW}", link=f"/etc/systemd/system/{GROW}")
    yield Entry(
        "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
        link="/usr/lib/systemd/system/systemd-networkd.service",
    )
    yield Entry("etc/resolv.conf", link="../run/systemd/resolve/stub-resolv.conf")
    yield Entry("data", mode=0o755)
    yield from program(site, room)


_PARTS = {"root": "root-a", "data": "data", "boot": "boot"}


def program(site: Path, room: Path) -> Iterator[Entry]:
    """Yield launcher and updater, which no release replaces.

    Args:
        site: site-packages of the device's runtime.
        room: For work in between.

    Raises:
        BundleError: The runtime has not what they need.
    """
    for name, path in {**with_bytecode(kit_files(), room / "compiled"), **libraries(site)}.items():
        yield Entry(f"opt/shelf/{name}", path)


def libraries(site: Path) -> dict[str, Path]:
    """Return what launcher and updater need of a runtime's site-packages, by name.

    Raises:
        BundleError: It is not there.
    """
    found: dict[str, Path] = {}
    for name in DISTRIBUTIONS:
        record = next(iter(site.glob(f"{name}-*.dist-info/RECORD")), None)
        if record is None:
            raise BundleError(
                f"Expected: {name} in the runtime of the release. Received: none.",
                hint="make its runtime of the wheels that `shelfkit deploy image wheels` fetches",
            )
        names = [line.partition(",")[0] for line in record.read_text(encoding="utf-8").splitlines()]
        names += [cached(name) for name in names if name.endswith(".py")]
        found |= {name: site / name for name in names if (site / name).is_file()}
    return found


USERS = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
"""Debian's lists of users and groups."""


def _users(debian: Mapping[str, bytes]) -> Mapping[str, str]:
    """Return Debian's lists of users and groups, and the agent's in them."""
    name = DEVICE.user
    added = (
        f"{name}:x:{USER_ID}:{USER_ID}:shelfkit agent:{DEVICE.releases}:/usr/sbin/nologin\n",
        f"{name}:x:{USER_ID}:\n",
        f"{name}:!:1::::::\n",
        f"{name}:!::\n",
    )
    found = {path: debian[path].decode() + line for path, line in zip(USERS, added, strict=True)}
    return found | {path: _video(found[path]) for path in ("etc/group", "etc/gshadow")}


def _video(text: str) -> str:
    """Return a list of groups in which the agent may use cameras."""
    lines = text.splitlines(keepends=True)
    return "".join(f"{line.rstrip()}{DEVICE.user}\n" if line.startswith("video:") else line for line in lines)
