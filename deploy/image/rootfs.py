"""Debian in a tar, made once for each list of packages."""

import hashlib
import json
import os
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from deploy.image.boards import EXCLUDED, INCLUDED, SUITE, Board
from deploy.image.tools import run
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.files import written_beside

FORMAT = 1
_INITRAMFS = {
    "conf.d/shelfkit": "MODULES=list\n",
    "hooks/shelfkit": """\
#!/bin/sh
# What a drive can hang on. The usual choice, every driver that a machine may start with, is half as much
# again for networks and screens, which can wait for the system; where another processor is imitated, each
# driver takes a quarter of a second to be looked at.
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
auto_add_modules base block ata scsi mmc usb_storage
""",
}
"""Below /etc/initramfs-tools: what the kernel is given before it has found its drive."""
_NO_INITRAMFS_YET = {"INITRD": "No"}
"""For the kernel's package, which makes one, and then initramfs-tools, again: the one at the end will do."""
_SUITES = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")


def cache_folder() -> Path:
    """Return where what takes long is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shelfkit"


def key(board: Board) -> str:
    """Return what names a root file system: everything that was asked for, and not from where it came."""
    asked = [FORMAT, SUITE, board.arch, board.packages, EXCLUDED, INCLUDED, _INITRAMFS]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def rootfs(
    board: Board, cache: Path, *, mirrors: tuple[str, ...] = (), epoch: int, fresh: bool = False
) -> Path:
    """Return the tar of a board's root file system, which is made where it is not there.

    Args:
        board: For which.
        cache: Folder for it.
        mirrors: Lines of a sources.list, or addresses; without any those of this machine's own apt.
        epoch: Time of its files, seconds since 1970, where it is made now.
        fresh: Make it again, with the packages of today.

    Raises:
        DataError: mmdebstrap is missing, or cannot make it.
    """
    path = cache / f"rootfs-{board.arch}-{key(board)}.tar"
    if path.is_file() and not fresh:
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DataError(f"Expected: a cache. Received: {cache}: {exc.strerror}.") from exc
    # mmdebstrap gives up its rights where it is not root: the folder must be open to it.
    with tempfile.TemporaryDirectory(prefix="shelfkit-rootfs-") as room:
        made = Path(room) / "rootfs.tar"
        run(
            [*command(board), SUITE, str(made), *(mirrors or own_mirrors())],
            environment={"SOURCE_DATE_EPOCH": str(epoch), **_NO_INITRAMFS_YET},
        )
        with written_beside(path) as staged:
            shutil.move(made, staged)
    return path


def parts(tar: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    """Return files of a root file system, by the pattern that asked for each; in one walk through its tar.

    Args:
        tar: Of a root file system.
        wanted: Patterns of names, as of a shell.

    Raises:
        DataError: There is none of a pattern.
    """
    missing, found = {f"./{pattern}" for pattern in wanted}, dict[str, bytes]()
    with tarfile.open(tar) as opened:
        for member in opened:
            pattern = next((one for one in missing if fnmatchcase(member.name, one)), None)
            file = opened.extractfile(member) if pattern is not None and member.isfile() else None
            if pattern is not None and file is not None:
                found[pattern.removeprefix("./")] = file.read()
                missing.remove(pattern)
            if not missing:
                return found
    raise DataError(
        f"Expected: {', '.join(sorted(missing))} in {tar}. Received: none.",
        hint="make it again: --fresh-rootfs",
    )


def command(board: Board) -> list[str]:
    """Return what makes a root file system, but for its name and where packages come from."""
    options = [f"path-exclude={pattern}" for pattern in EXCLUDED]
    options += [f"path-include={pattern}" for pattern in INCLUDED]
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--architectures={board.arch}",
        f"--include={','.join(board.packages)}",
        *(f"--dpkgopt={option}" for option in options),
        f"--essential-hook={_initramfs()}",
        '--customize-hook=chroot "$1" update-initramfs -c -k all',
    ]


def _initramfs() -> str:
    """Return the shell commands that say what is wanted of the initramfs before it is made."""
    words = ['cd "$1"', "mkdir -p etc/initramfs-tools/conf.d etc/initramfs-tools/hooks"]
    for name, text in _INITRAMFS.items():
        words.append(f"printf %s {shlex.quote(text)} > etc/initramfs-tools/{name}")
    return " && ".join([*words, "chmod 755 etc/initramfs-tools/hooks/shelfkit"])


def own_mirrors() -> tuple[str, ...]:
    """Return the Debian sources of this machine, as lines of a sources.list.

    Raises:
        UsageError: It has none of this Debian.
    """
    fields = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
    found = []
    for line in run(["apt-get", "indextargets", "--format", fields]).splitlines():
        by, uri, suite, component, origin = line.split("|")
        entry = f"deb {uri} {suite} {component}"
        if by == "Packages" and origin == "Debian" and suite in _SUITES and entry not in found:
            found.append(entry)
    if not any(f" {SUITE} main" in entry for entry in found):
        raise UsageError(
            f"Expected: a source of Debian {SUITE} in this machine's apt. Received: none.",
            hint="name one: --mirror http://MIRROR/debian",
        )
    return tuple(found)
