"""One release and one device's files onto one machine; whatever was interrupted is gone on with."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files as resources
from pathlib import Path, PurePosixPath

from deploy import provision
from deploy.bars import Told, untold
from deploy.fleet import Fleet
from deploy.push import target as targets
from deploy.push.payload import Payload, payload
from deploy.push.target import Target
from deploy.release.choosing import chosen
from deploy.ssh import Ssh
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.release import Release
from edge_agent.update import units

_STAGED = ".shelfkit-push"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where things go on a machine.

    Attributes:
        data: What changes.
        program: Launcher and updater.
        python: That runs all of it.
        user: Who runs the agent.
        below: Everything goes below this folder, and nothing is started; empty: the machine itself.
    """

    data: str = "/data/shelf"
    program: str = "/opt/shelf"
    python: str = "/usr/bin/python3"
    user: str = "shelfkit"
    below: str = ""

    def __post_init__(self) -> None:
        for path in (self.data, self.program, self.python, *([self.below] if self.below else [])):
            if not PurePosixPath(path).is_absolute() or not path.isprintable() or ".." in path.split("/"):
                raise UsageError(f"Expected: an absolute path. Received: {path!r}.")

    def real(self, path: str) -> str:
        """Return where a path is on the machine."""
        return self.below.rstrip("/") + path

    @property
    def device(self) -> units.Device:
        """For the units; the machine's own watchdog is none of ours."""
        return units.Device(
            user=self.user,
            releases=self.real(self.data),
            program=self.real(self.program),
            python=self.python,
            watchdog_s=None,
        )


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was done.

    Attributes:
        moved: Bytes of components that went over the network this time.
        applied: Files of the device that were new.
        trial: The device had another release, which stays until this one has proven itself.
    """

    release: Release
    target: Target
    moved: int
    applied: tuple[str, ...]
    trial: bool


def probe(ssh: Ssh, layout: Layout) -> Target:
    """Ask a machine what it is.

    Raises:
        DeviceError: The kit cannot be put onto it.
    """
    root = not layout.below
    script = targets.PROBE.replace("/usr/bin/python3", layout.python)
    try_root = 'sudo -n true 2>/dev/null || [ "$(id -u)" = 0 ]'
    allowed = ssh.script(f"if {try_root}; then echo yes; fi", what="to ask the machine").strip() == "yes"
    text = ssh.script(script, layout.real(layout.data), what="to ask the machine", root=root and allowed)
    return targets.read(text, below=bool(layout.below))


def push(
    ssh: Ssh,
    fleet: Fleet,
    device: str,
    now: datetime,
    *,
    layout: Layout,
    number: int | None = None,
    progress: Told = untold,
) -> Pushed:
    """Bring a release and a device's files onto a machine.

    Args:
        ssh: Logged in.
        fleet: That the device is in.
        device: Its id.
        now: The clock.
        layout: Where things go.
        number: Of the release; None: the newest.
        progress: Told how far it is.

    Raises:
        KitError: The machine, the fleet's files or the network; what has arrived is gone on with.
    """
    data = layout.real(layout.data)
    there = probe(ssh, layout)
    files = provision.files(fleet, device, now, data=Path(data), had=there.files)
    release = chosen(fleet, number, there.arch)
    made = payload(fleet, release, layout.device)
    changed = _changed(files, there)
    staged = f"{layout.real('/')}{_STAGED}" if layout.below else f"/var/tmp/{_STAGED}-{device}"  # noqa: S108 - made for its owner alone
    moved = 0
    ssh.script(_ROOM, staged, what="a folder of our own to bring things to")
    for name, path in _missing(made, there).items():
        kind = next(kind for kind, part in release.components.items() if part.target == name)
        size = path.stat().st_size
        moved += ssh.upload(
            path,
            f"{staged}/repository/targets/{name}",
            lambda done, kind=kind, size=size: progress(kind, done, size),  # type: ignore[misc]  # bound at once
        )
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        (room / "small.tar").write_bytes(made.small)
        ssh.upload(room / "small.tar", f"{staged}/small.tar")
        ssh.script('rm -rf -- "$1/boot"', staged, what="to clear what was brought before")
        for file, content in changed.items():
            (room / file).touch(mode=0o600)
            (room / file).write_bytes(content)
            ssh.upload(room / file, f"{staged}/boot/{file}")
    said = ssh.script(
        resources("deploy.push").joinpath("install.sh").read_text(encoding="utf-8"),
        staged,
        data,
        layout.real(layout.program),
        layout.python,
        layout.below.rstrip("/"),
        layout.user,
        str(release.number),
        what=f"to install release {release.number}",
        root=not layout.below,
    )
    return Pushed(release, there, moved, tuple(changed), "on trial" in said.splitlines())


def _missing(made: Payload, there: Target) -> dict[str, Path]:
    """Return the archives that the machine has not unpacked already."""
    release = made.release
    found = dict(made.large)
    if f"runtimes/{release.runtime.sha256}" in there.have:
        del found[release.runtime.target]
    if f"releases/{release.number}" in there.have:
        found.pop(release.agent.target)
        found.pop(release.bundle.target)
    return found


def _changed(files: Mapping[str, bytes], there: Target) -> dict[str, bytes]:
    """Return what the machine has not; what a device renews by itself lies elsewhere, and is not touched."""
    return {
        name: content
        for name, content in files.items()
        if there.files.get(name) != hashlib.sha256(content).hexdigest()
    }


_ROOM = r"""
set -eu
umask 077
mkdir -p -- "$(dirname "$1")"
[ -e "$1" ] || mkdir -- "$1"
# Looked at once it is there: nobody else can take away or replace what is ours.
if [ -L "$1" ] || [ ! -d "$1" ] || [ ! -O "$1" ]; then echo "$1 belongs to somebody else" >&2; exit 1; fi
chmod 700 -- "$1"
"""
