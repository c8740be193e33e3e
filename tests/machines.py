"""A Debian machine of its own under test: systemd is its first process, its files lie over this machine's.

What it writes lies in a folder of the test; this machine's network is also its own. Nothing of this machine
is started there, and nothing of it can be changed from there.
"""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.conftest import find_program, missing

_SYSTEMD = Path("/lib/systemd/systemd")
_WANTS = ("sysinit", "sockets", "timers", "paths", "local-fs", "multi-user")
_OWN = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--ipc")
_LOST = "-sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog,-net_admin"

_ROOM = r"""
set -e
cd "$1"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/written,workdir=$1/work" root
"""
_BOOT = (
    _ROOM
    + r"""
root=$1/root
echo "$2" > "$root/etc/hostname"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
for folder in run tmp dev; do mount -t tmpfs tmpfs "$root/$folder"; done
for device in $3; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
touch "$root/dev/console"
mount --bind "$1/console" "$root/dev/console"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
if [ -d /sys/fs/cgroup/systemd ]; then
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
# What this machine starts is not started there.
for folder in $4; do
    [ ! -d "$root/lib/systemd/$folder" ] || mount --bind "$1/nothing" "$root/lib/systemd/$folder"
done
mount --bind "$1/units" "$root/etc/systemd/system"
: > "$root/etc/fstab"
mkdir -p "$root$1/shared"
mount --bind "$1/shared" "$root$1/shared"
mkdir -p "$root/before"
cd "$root"
pivot_root . before
umount -l /before
exec setpriv --bounding-set "$5" env -i container=shelfkit PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=0
"""
)
_ENTER = r"""
while [ "$1" != -- ]; do mkdir -p "$1"; echo $$ > "$1/cgroup.procs"; shift; done
shift
exec "$@"
"""


class Machine:
    """One machine. What it starts is in `units`; what it says to `journal`; power cuts are `cut`.

    Args:
        folder: For everything that it writes.
        units: Of systemd, by name; each is started with the machine.
        name: Of the host.
    """

    def __init__(self, folder: Path, units: dict[str, str], *, name: str = "shelf-12") -> None:
        self._programs()
        self.folder, self._name = folder, name
        self.shared, self.files = folder / "shared", folder / "written"
        for room in ("root", "written", "work", "shared", "nothing"):
            (folder / room).mkdir(parents=True, exist_ok=True)
        self._allowed()
        self._units(folder / "units", units)
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0

    def _programs(self) -> None:
        for program in ("unshare", "nsenter", "setpriv", "pivot_root"):
            find_program(program)
        if not _SYSTEMD.is_file():
            missing("systemd", "install it, for example: apt install systemd")

    def _allowed(self) -> None:
        """Skip where nobody may make namespaces, or lay files over others."""
        command = ["unshare", *_NAMESPACES, "sh", "-c", _ROOM, "sh", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if os.geteuid() != 0 or done.returncode:
            pytest.skip(f"a machine beside this one needs root and namespaces: {done.stderr.strip()}")

    @staticmethod
    def _units(folder: Path, units: dict[str, str]) -> None:
        wants = folder / "multi-user.target.wants"
        wants.mkdir(parents=True)
        for name, text in units.items():
            (folder / name).write_text(text)
            (wants / name).symlink_to(folder / name)
        (folder / "sysinit.target.wants").mkdir()
        for name in _OWN:
            (folder / "sysinit.target.wants" / name).symlink_to(f"/lib/systemd/system/{name}")

    def start(self, patience_s: float = 60) -> None:
        """Switch it on, and wait until everything that it starts has been started."""
        (self.folder / "console").write_bytes(b"")
        wants = " ".join(f"system/{name}.target.wants" for name in _WANTS)
        words = (self._name, " ".join(_DEVICES), f"{wants} system-generators", _LOST)
        inner = ["unshare", *_NAMESPACES, "sh", "-c", _BOOT, "sh", str(self.folder), *words]
        # In groups of its own: systemd rules those that it finds itself in.
        command = ["sh", "-c", _ENTER, "sh", *map(str, self._groups), "--", *inner]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + patience_s
        while self._state() not in {"running", "degraded"}:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, f"{self._state()}: {self.journal()}"
            time.sleep(0.1)

    @property
    def _groups(self) -> list[Path]:
        name, base = f"machine-{os.getpid()}-{id(self)}", Path("/sys/fs/cgroup")
        rooms = [base / "systemd", base / "unified"] if (base / "systemd").is_dir() else [base]
        return [room / name for room in rooms if room.is_dir()]

    def _state(self) -> str:
        return self.ask("systemctl", "is-system-running").stdout.strip() if self._leader() else "not yet"

    def _leader(self) -> int:
        """Return the first process of the machine, as this one knows it."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = children.read_text().split() if children.exists() else []
        # Before it is systemd, its files are still this machine's.
        ready = found and Path(f"/proc/{found[0]}/comm").read_text().strip() == "systemd"
        return int(found[0]) if ready else 0

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root."""
        inside = ["nsenter", "--target", str(self._leader()), "--all", "--wd=/", *command]
        return subprocess.run(inside, capture_output=True, text=True, check=False)

    def journal(self, unit: str = "") -> str:
        """Return what was said there since it was switched on."""
        which = ("--unit", unit) if unit else ()
        return self.ask("journalctl", "--no-pager", "--quiet", *which).stdout

    def cut(self) -> None:
        """Take its power away."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        end = time.monotonic() + 10
        for group in self._groups:
            # Processes take a moment to end, and a group is theirs until then.
            while group.exists():
                for inner in (*sorted(group.rglob("*/"), reverse=True), group):
                    with suppress(OSError):
                        inner.rmdir()
                assert time.monotonic() < end, f"{group} is still in use"
                time.sleep(0.02)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
