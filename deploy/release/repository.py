"""The fleet's repository of The Update Framework: what is offered, and who signs it.

    metadata/   N.root.json, N.targets.json, N.snapshot.json, timestamp.json
    targets/    releases/<number>/<arch>.json, components/<sha256>.tar[.xz]

Files are written first, `timestamp.json` last: a device sees the state before or the state after.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # as documented
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # as documented
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    T,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from deploy.release.keys import NAMES, role_of, signer, write_key
from edge_agent.contracts import release as releases
from edge_agent.contracts.errors import BundleError, DataError, UsageError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.release import Component, Release

LIFE = {
    "root": timedelta(days=3650),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=30),
}
AGED = timedelta(days=60)
"""How long before their end targets are signed again, where their key is at hand."""
THRESHOLDS = {"root": 2, "targets": 1, "snapshot": 1, "timestamp": 1}

_COMPACT = JSONSerializer(compact=True)


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the keys are.

    Attributes:
        folder: `<name>.pem` of each.
        passphrase: Of those that are encrypted.
        elsewhere: Keys that are kept in another place, by name.
    """

    folder: Path
    passphrase: bytes | None = None
    elsewhere: Mapping[str, Path] | None = None

    def path(self, name: str) -> Path:
        """Return where a key is."""
        return (self.elsewhere or {}).get(name, self.folder / f"{name}.pem")

    def has(self, name: str) -> bool:
        """Return whether a key is here."""
        return self.path(name).is_file()

    def signer(self, name: str) -> CryptoSigner:
        """Return what signs with a key."""
        return signer(self.path(name), self.passphrase)


@dataclass(frozen=True, slots=True)
class Repository:
    """What devices fetch from, as its owner sees it."""

    folder: Path
    keys: Keys

    @property
    def metadata(self) -> Path:
        """Who signed what."""
        return self.folder / "metadata"

    @property
    def components(self) -> Path:
        """The archives."""
        return self.folder / "targets" / "components"

    @property
    def root(self) -> Path:
        """The newest root: what a device is flashed with."""
        return self.metadata / f"{self._newest('root')}.root.json"

    @property
    def begun(self) -> bool:
        """Whether there is anything."""
        return (self.metadata / "1.root.json").exists()

    def begin(self, now: datetime) -> None:
        """Make a repository that offers nothing yet.

        Raises:
            UsageError: There is one.
        """
        if self.begun:
            raise UsageError(f"Expected: a place without a repository. Received: {self.folder}.")
        signers = {name: self.keys.signer(name) for name in NAMES}
        root = Root(
            version=1,
            expires=_expiry("root", now),
            roles={role: Role([], threshold) for role, threshold in THRESHOLDS.items()},
            consistent_snapshot=True,
        )
        for name, item in signers.items():
            root.add_key(item.public_key, role_of(name))
        self._write(Metadata(root), [signers["root-1"], signers["root-2"]])
        targets = Targets(version=1, expires=_expiry("targets", now))
        self._write(Metadata(targets), [signers["targets"]])
        self._publish(now, snapshot=1)

    def offer(self, made: Sequence[Release], now: datetime) -> bool:
        """Add releases, whose archives lie in `components`; return whether devices see them now.

        Without the targets key here they wait for `sign`.

        Raises:
            BundleError: A release of that number is there already, and is another.
            DataError: It cannot be written.
        """
        targets = self.targets()
        for release in made:
            self._add(targets, release)
        targets.version = self._newest("targets") + 1
        targets.expires = _expiry("targets", now)
        if not self.keys.has("targets"):
            self._write(Metadata(targets), [])
            return False
        self._write(Metadata(targets), [self.keys.signer("targets")])
        self._publish(now)
        return True

    def _add(self, targets: Targets, release: Release) -> None:
        name = releases.target(release.number, release.arch)
        payload = releases.encode(release)
        if name in targets.targets and self._target(name).read_bytes() != payload:
            raise BundleError(
                f"Expected: a new number. Received: {release.number}, which is another release already.",
                hint="leave out --number: the next one is taken",
            )
        _write_whole(self._target(name), payload)
        custom = {
            "number": release.number,
            "arch": release.arch,
            "launcher": release.launcher,
            "downgrade": release.downgrade,
        }
        info = TargetFile.from_file(name, str(self._target(name)), ["sha256"])
        info.unrecognized_fields["custom"] = custom
        targets.targets[name] = info
        for component in release.components.values():
            there = TargetFile.from_file(component.target, str(self._target(component.target)), ["sha256"])
            if there.hashes["sha256"] != component.sha256:
                raise DataError(f"Expected: {component.target}. Received: an archive that is damaged.")
            targets.targets[component.target] = there

    def sign(self, now: datetime, *, targets: bool = False) -> datetime:
        """Sign snapshot and timestamp again, and targets where they wait for it, age, or it is asked for.

        Returns:
            When targets end, which may lie elsewhere than their key.

        Raises:
            ConfigError: A key is not here.
        """
        self._settle()
        newest = self._read("targets", Targets)
        root = self._read("root", Root).signed
        held = root.get_verification_result("targets", newest.signed_bytes, newest.signatures)
        ages = newest.signed.expires - now < AGED and self.keys.has("targets")
        if targets or ages or not held.verified:
            if newest.signatures:
                newest.signed.version += 1
            newest.signed.expires = _expiry("targets", now)
            self._write(newest, [self.keys.signer("targets")])
        self._publish(now)
        return newest.signed.expires

    def rotate(self, name: str, now: datetime) -> int:
        """Replace a key: a new root, signed by those before and those after; return its version.

        Raises:
            UsageError: There is no such key.
            ConfigError: A key is not here.
        """
        if name not in NAMES:
            raise UsageError(f"Expected: one of {', '.join(NAMES)}. Received: {name!r}.")
        self._settle()
        role = role_of(name)
        before = {item: self.keys.signer(item) for item in NAMES if item.startswith("root-") or item == name}
        fresh = self.keys.path(name).with_suffix(".new")
        write_key(fresh, self.keys.passphrase)
        after = signer(fresh, self.keys.passphrase)
        root = self._read("root", Root)
        root.signed.revoke_key(before[name].public_key.keyid, role)
        root.signed.add_key(after.public_key, role)
        root.signed.version += 1
        root.signed.expires = _expiry("root", now)
        signing = [item for key, item in before.items() if key.startswith("root-")]
        self._write(root, [*signing, after] if role == "root" else signing)
        fresh.replace(self.keys.path(name))
        if role != "root":
            self.sign(now, targets=role == "targets")
        return root.signed.version

    def _settle(self) -> None:
        """Take a new key into use whose root was written when a rotation was cut short."""
        roles = self._read("root", Root).signed.roles
        for name in NAMES:
            fresh = self.keys.path(name).with_suffix(".new")
            if fresh.exists():
                made = signer(fresh, self.keys.passphrase)
                if made.public_key.keyid in roles[role_of(name)].keyids:
                    fresh.replace(self.keys.path(name))

    def targets(self) -> Targets:
        """Return what is offered, or waits for a signature."""
        return self._read("targets", Targets).signed

    def release(self, number: int, arch: str) -> Release:
        """Return a release.

        Raises:
            BundleError: There is none.
        """
        try:
            return releases.decode(self._target(releases.target(number, arch)).read_bytes())
        except OSError as exc:
            raise BundleError(
                f"Expected: release {number} for {arch}. Received: none.",
                hint="what there is: shelfkit deploy release list",
            ) from exc

    def numbers(self) -> dict[int, list[str]]:
        """Return the architectures of each release."""
        found: dict[int, list[str]] = {}
        for name in sorted(self.targets().targets):
            kind, _, rest = name.partition("/")
            if kind == "releases":
                number, _, file = rest.partition("/")
                found.setdefault(int(number), []).append(file.removesuffix(".json"))
        return dict(sorted(found.items()))

    def archive(self, part: Component) -> Path:
        """Return the archive of a component, whose bytes are those that its name says.

        Raises:
            BundleError: It is damaged, or not there.
        """
        path = self._target(part.target)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as exc:
            found = exc.strerror or "nothing"
        if found != part.sha256:
            raise BundleError(
                f"Expected: {part.target}, as its name says. Received: {found}.",
                hint=f"{self.folder} is damaged: bring it back from a copy",
            )
        return path

    def _target(self, name: str) -> Path:
        return self.folder / "targets" / name

    def _publish(self, now: datetime, snapshot: int | None = None) -> None:
        version = snapshot or self._newest("snapshot") + 1
        meta = {"targets.json": MetaFile(self._newest("targets"))}
        # A newer root needs no line here: devices look for it first.
        made = Snapshot(version=version, expires=_expiry("snapshot", now), meta=meta)
        self._write(Metadata(made), [self.keys.signer("snapshot")])
        stamp = Timestamp(version=version, expires=_expiry("timestamp", now), snapshot_meta=MetaFile(version))
        self._write(Metadata(stamp), [self.keys.signer("timestamp")])

    def _newest(self, role: str) -> int:
        found = [int(path.name.partition(".")[0]) for path in self.metadata.glob(f"*.{role}.json")]
        if not found:
            raise DataError(
                f"Expected: a repository. Received: {self.folder}, without {role}.json.",
                hint="`shelfkit deploy release create` begins one",
            )
        return max(found)

    def _read(self, role: str, kind: type[T]) -> Metadata[T]:
        path = self.metadata / f"{self._newest(role)}.{role}.json"
        try:
            found = Metadata.from_file(str(path))
        except RepositoryError as exc:
            raise DataError(f"Expected: metadata of the repository. Received: {path}: {exc}.") from exc
        if not isinstance(found.signed, kind):
            raise DataError(f"Expected: {role}. Received: {path}: {found.signed.type}.")
        return found

    def _write(self, made: Metadata[T], signers: Iterable[CryptoSigner]) -> None:
        made.signatures.clear()
        for item in signers:
            made.sign(item, append=True)
        role = made.signed.type
        name = f"{role}.json" if role == "timestamp" else f"{made.signed.version}.{role}.json"
        _write_whole(self.metadata / name, made.to_bytes(_COMPACT))


def _expiry(role: str, now: datetime) -> datetime:
    return now.replace(microsecond=0) + LIFE[role]


def _write_whole(path: Path, content: bytes) -> None:
    try:
        with written_beside(path) as staged:
            staged.write_bytes(content)
    except OSError as exc:
        raise DataError(f"Expected: a place that can be written. Received: {path}: {exc.strerror}.") from exc
