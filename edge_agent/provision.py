"""`shelfkit agent provision`: what lies on the boot partition becomes the device's own, whole or not at all.

Runs before the agent, at every start. Files that are there are a wish: the whole that they make with
what the device has already is checked, then takes its place, then they are taken off the boot
partition, secrets overwritten first. Any moment may be the last: what was not finished is done again.

    device/          what the device was provisioned with
    .device-new/     the next, until it is whole
    .device-before/  the one before, for the moment between two renames
"""

import os
import pwd
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.contracts import bundle, provisioning
from edge_agent.contracts.command import print_json
from edge_agent.contracts.errors import BundleError, ConfigError, DeviceError, KitError, UsageError
from edge_agent.contracts.files import flush, written_beside
from edge_agent.contracts.provisioning import (
    CERTIFICATE,
    DATA,
    FILES,
    FOLDER,
    MOST_BYTES,
    REPORT,
    ROOT,
    Checked,
)
from edge_agent.contracts.release import Place
from edge_agent.contracts.times import rfc3339
from edge_agent.contracts.yamlfile import Problem, ProblemsError
from edge_agent.renewal import Renewal

_NEW, _BEFORE = ".device-new", ".device-before"
_APPLIED = ".applied"
"""Ends the name of a file on the boot partition that the device has taken over."""
_GOOD = "shelfkit: this device is provisioned."
_BAD = "shelfkit: NOT provisioned. Nothing of it was applied, and the device publishes nothing."
_BAD_NEXT = "shelfkit: NOT changed. Nothing of it was applied, and the device goes on with what it had."


def provision(
    boot: Annotated[Path, typer.Option(help="The boot partition, mounted.")],
    data: Annotated[Path, typer.Option(help="Where the device keeps everything.")] = DATA,
    user: Annotated[str, typer.Option(help="Who runs the agent: its files are given to this user.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Take over what was put onto the boot partition: checked as a whole, or refused as a whole.

    device.yaml, planogram.yaml, reference.jpg, ca.pem, device.pem, device.key and root.json move to
    DATA/device, for their owner alone; on a device that has them, those that are there replace its own.
    How it went stands in provisioned.txt on the boot partition. Runs at every start, before the agent.

    \b
    Examples:
      shelfkit agent provision --boot /boot/firmware
      shelfkit agent provision --boot /boot --data /data/shelf --user shelfkit
    """  # noqa: D301 - click needs the character itself to keep the lines
    done = provisioned(boot, data, datetime.now(UTC), owner=_owner(user) if user else None)
    checked = done.checked
    if as_json:
        print_json(
            {
                "device": checked.config.device,
                "store": checked.config.store,
                "shelf": checked.shelf,
                "applied": list(done.applied),
                "notes": list(checked.notes),
            }
        )
        return
    what = f"took over {', '.join(done.applied)}" if done.applied else "nothing new on the boot partition"
    typer.echo(f"{checked.config.device}: provisioned; {what}")
    for note in checked.notes:
        typer.echo(f"note: {note}")


@dataclass(frozen=True, slots=True)
class Done:
    """What a device has now, and which files of it came from the boot partition this time."""

    checked: Checked
    applied: tuple[str, ...]


def provisioned(
    boot: Path,
    data: Path,
    now: datetime,
    *,
    owner: tuple[int, int] | None = None,
    before: Callable[[], None] = lambda: None,
) -> Done:
    """Take over what lies on the boot partition.

    Args:
        boot: Folder that it is mounted at.
        data: Where the device keeps everything.
        now: The clock, which may be wrong.
        owner: User and group that the files are given to.
        before: Called before everything that changes a disk.

    Raises:
        ProblemsError: Something is wrong with what lies there; the device is as it was.
        ConfigError: Nothing lies there, and the device has nothing.
        DeviceError: A disk cannot be read or written.
    """
    work = _Work(boot, data, owner, before)
    try:
        work.recover()
        done = work.apply(now)
        work.say(_told(done.checked, now), again=bool(done.applied))
    except OSError as exc:
        raise DeviceError(
            f"Expected: disks that can be read and written. Received: {exc.filename}: {exc.strerror}.",
            hint="nothing is published until the device is provisioned; it tries again at its next start",
        ) from exc
    except ConfigError as exc:
        _refusal_told(work, exc, now)
        raise
    return done


def _refusal_told(work: "_Work", error: ConfigError, now: datetime) -> None:
    try:
        had = (work.device / provisioning.DEVICE).is_file()
        work.say(_text(_BAD_NEXT if had else _BAD, {}, now, _refused(error)))
    except OSError as exc:
        raise DeviceError(f"{error}\n(and {REPORT} cannot be written: {exc.strerror})") from exc


@dataclass(frozen=True, slots=True)
class _Work:
    boot: Path
    data: Path
    owner: tuple[int, int] | None
    before: Callable[[], None]

    @property
    def device(self) -> Path:
        return self.data / FOLDER

    def recover(self) -> None:
        """Finish, or take back, what an earlier run was interrupted in."""
        new, old = self.data / _NEW, self.data / _BEFORE
        if old.is_dir() and not self.device.exists():
            self.before()
            old.rename(self.device)
        for leftover in (new, old):
            if leftover.exists():
                self.before()
                shutil.rmtree(leftover)
        for path in self.boot.glob(f"*{_APPLIED}"):
            self._wipe(path)
        for room in self.boot.glob(".tmp-*"):
            # A report that was being written; there is room for few of them.
            if {path.name for path in room.iterdir()} <= {REPORT}:
                self.before()
                shutil.rmtree(room)

    def apply(self, now: datetime) -> Done:
        """Check and take over."""
        found = self._offered()
        if not found and self.device.is_dir():
            return Done(self._check(self.device, now, known=True), ())
        self.before()
        new = self.data / _NEW
        new.mkdir(parents=True, mode=0o700)
        for name in FILES:
            self._copy(found.get(name, self.device / name), new / name)
        try:
            checked = self._check(new, now, known=self._has(new / CERTIFICATE))
        except ConfigError:
            shutil.rmtree(new)
            raise
        self._trust(new)
        self._own(new)
        self._swap(new)
        self._state()
        for name in FILES:
            if name in found:
                self._take_off(found[name])
        return Done(checked, tuple(name for name in FILES if name in found))

    def _check(self, folder: Path, now: datetime, *, known: bool) -> Checked:
        checked = provisioning.check(folder, now=now, data=self.data, labels=_labels(self.data), known=known)
        return replace(checked, not_after=Renewal(checked.config).expires or checked.not_after)

    def _has(self, path: Path) -> bool:
        """Return whether the device has had this very file before."""
        own = self.device / path.name
        return own.is_file() and path.is_file() and own.read_bytes() == path.read_bytes()

    def _offered(self) -> dict[str, Path]:
        """Return the files on the boot partition by their names; a name that is nearly one is refused.

        Whoever saved `device.yaml.txt` must not be left to wonder why nothing happens.
        """
        found, strange = {}, []
        for path in sorted(self.boot.iterdir()):
            name = path.name.casefold()
            if name in FILES:
                found[name] = path
            elif name != REPORT and name.split(".")[0] in _STEMS:
                text = f"expected one of {', '.join(FILES)}; received another name that is much like it"
                strange.append(Problem(Path(path.name), None, "", text))
        if strange:
            raise ProblemsError(strange, hint="rename or remove it on the boot partition")
        return found

    def _copy(self, source: Path, target: Path) -> None:
        """Copy what is there; what is missing or too long is told by the check."""
        if not source.is_file():
            return
        with source.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        self.before()
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _trust(self, new: Path) -> None:
        """Begin to trust a root that is another than before; of the same one more may be known by now."""
        wanted, metadata = (new / ROOT).read_bytes(), Place(self.data).metadata
        kept = self.device / ROOT
        if kept.is_file() and kept.read_bytes() == wanted and (metadata / ROOT).is_file():
            return
        metadata.mkdir(parents=True, exist_ok=True)
        for name in ("timestamp.json", "snapshot.json", "targets.json"):
            self.before()
            (metadata / name).unlink(missing_ok=True)
        self.before()
        with written_beside(metadata / ROOT) as staged:
            staged.write_bytes(wanted)
            staged.chmod(0o644)

    def _own(self, new: Path) -> None:
        for path in (*new.iterdir(), new):
            if self.owner:
                os.chown(path, *self.owner)
            flush(path)

    def _swap(self, new: Path) -> None:
        old = self.data / _BEFORE
        if self.device.exists():
            self.before()
            self.device.rename(old)
        self.before()
        new.rename(self.device)
        flush(self.data)
        if old.exists():
            self.before()
            shutil.rmtree(old)

    def _state(self) -> None:
        state = self.data / "state"
        if not state.exists():
            self.before()
            state.mkdir(mode=0o750)
        if self.owner:
            os.chown(state, *self.owner)

    def _take_off(self, path: Path) -> None:
        """Remove a file from the boot partition; half overwritten it must not look like a wish."""
        applied = path.with_name(path.name + _APPLIED)
        self.before()
        path.rename(applied)
        flush(self.boot)
        self._wipe(applied)

    def _wipe(self, path: Path) -> None:
        self.before()
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "wb") as file:
            file.write(b"\0" * os.fstat(handle).st_size)
            file.flush()
            os.fsync(handle)
        self.before()
        path.unlink()
        flush(self.boot)

    def say(self, report: str, *, again: bool = True) -> None:
        """Write the report, unless the one that is there says the same."""
        target = self.boot / REPORT
        if not again and target.is_file() and target.read_text(errors="replace").startswith(_GOOD):
            return
        self.before()
        with written_beside(target) as staged:
            staged.write_text(report, encoding="utf-8")


def _labels(data: Path) -> list[str] | None:
    """Return what the model on the device knows; without a sound one the agent will say so itself."""
    try:
        return bundle.read(data / "current" / "bundle").manifest.label_names
    except BundleError:
        return None


_STEMS = frozenset(name.split(".")[0] for name in FILES)


def _told(checked: Checked, now: datetime) -> str:
    rows = {
        "device": checked.config.device,
        "store": checked.config.store,
        "shelf": checked.shelf,
        "broker": f"{checked.config.broker.host}:{checked.config.broker.port}",
        "certificate": f"good until {checked.not_after:%Y-%m-%d}",
    }
    return _text(_GOOD, rows, now, [f"note: {note}" for note in checked.notes])


def _refused(error: KitError) -> list[str]:
    return [str(error), "", f"What to do: {error.hint}" if error.hint else ""]


def _text(head: str, rows: Mapping[str, str], now: datetime, more: list[str]) -> str:
    told = [f"{key + ':':<13}{value}" for key, value in ({"time": rfc3339(now)} | dict(rows)).items()]
    return "\n".join([head, "", *told, "", *more]).rstrip() + "\n"


def _owner(user: str) -> tuple[int, int]:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"Expected: --user as a user of this machine. Received: {user!r}.") from None
    return entry.pw_uid, entry.pw_gid
