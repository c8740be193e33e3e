"""Programs of the system that images are made with."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from edge_agent.contracts.errors import DataError

_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "mtype": "mtools",
    "mdir": "mtools",
    "sfdisk": "fdisk",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "tar": "tar",
    "zstd": "zstd",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-aarch64": "qemu-system-arm",
}
_LAST = 600


def program(name: str) -> str:
    """Return where a program is; Debian puts some where only root's PATH leads.

    Raises:
        DataError: It is missing.
    """
    path = shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    )
    if path is None:
        raise DataError(
            f"Expected: the program {name}. Received: none.",
            hint=f"install it, for example: apt install {_PACKAGES.get(name, name)}",
        )
    return path


def run(command: Sequence[str], *, text: str = "", environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its good end, and return what it printed.

    Args:
        command: Name of the program, then its arguments.
        text: What it reads.
        environment: What it sees beside this process' own.

    Raises:
        DataError: It is missing, or ends badly.
    """
    done = subprocess.run(
        [program(command[0]), *command[1:]],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-_LAST:]
        raise DataError(f"Expected: {command[0]} to do its work. Received: {said or done.returncode}")
    return done.stdout


def as_owner(command: Sequence[str]) -> list[str]:
    """Return a command that may own files as root does, in a user namespace where one is not root."""
    if os.geteuid() == 0:
        return list(command)
    return ["unshare", "--map-root-user", "--map-auto", "--", program(command[0]), *command[1:]]
