"""A release, and where a device keeps what belongs to it.

Standard library only: the updater lives outside of everything that it replaces.

`release.json` names three components, each an archive that other releases may name as well. A release
that brings another model alone moves nothing but that model.

On the device:

    runtimes/<sha256>/          site-packages, of the archive with this hash
    releases/<number>/          release.json, agent/ and bundle/
    current                     the release that runs, a symbolic link
    state.json                  what is good, what is on trial, what was bad: the updater's own
    metadata/                   what The Update Framework trusts
    exchange/desired.json       what a rollout wants: written by the agent, read by the updater
    exchange/reported.json      how far that is: written by the updater, read by the agent
    exchange/proof.json         what the agent that runs can show for itself: written by it
    launcher/starts.json        which release was started when, and how it ended: the launcher's own
    downloads/                  what has come so far of a release that is on its way
"""

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_agent.contracts.errors import BundleError

FORMAT = 1
LAUNCHER = 1
"""The launcher of this version; a release may ask for a newer one, which only reflashing brings."""
ARCHITECTURES = ("amd64", "arm64", "armhf")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}
"""Architectures by the kernel's names of machines; for armv6l, the first Raspberry Pi, nobody has wheels."""
COMPONENTS = ("runtime", "agent", "bundle")
MAX_BYTES = 64 * 1024
"""The largest `release.json` that is read."""
MOST_UNPACKED = 4 * 1024**3

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TARGET = re.compile(r"components/[0-9a-f]{64}\.(tar|tar\.xz)")
_HINT = "create the release again with `shelfkit deploy release create`"


@dataclass(frozen=True, slots=True)
class Component:
    """One archive.

    Attributes:
        name: `runtime`, `agent`, or the name of the bundle.
        version: Of the package or bundle; of a runtime the hash of the lock that it was made of.
        target: Its name in the repository, which says its hash.
        sha256: Of the archive.
        size: Of the archive, in bytes.
        unpacked: What it takes on the disk, in bytes.
    """

    name: str
    version: str
    target: str
    sha256: str
    size: int
    unpacked: int


@dataclass(frozen=True, slots=True)
class Release:
    """What a device is to run.

    Attributes:
        number: Rises with each release of a fleet.
        arch: Debian's name of the architecture.
        created: RFC 3339.
        launcher: The oldest launcher that can start it.
        downgrade: Whether a device that is beyond it may go back to it.
    """

    number: int
    arch: str
    created: str
    runtime: Component
    agent: Component
    bundle: Component
    launcher: int = LAUNCHER
    downgrade: bool = False

    @property
    def components(self) -> dict[str, Component]:
        """By kind, in the order in which they are fetched."""
        return {kind: getattr(self, kind) for kind in COMPONENTS}


def target(number: int, arch: str) -> str:
    """Return the name of a release in the repository."""
    return f"releases/{number}/{arch}.json"


def encode(release: Release) -> bytes:
    """Return `release.json`: the same bytes for the same release."""
    value = {"format": FORMAT, **asdict(release)}
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def decode(payload: bytes) -> Release:
    """Read a `release.json` from anywhere.

    Raises:
        BundleError: It is none, or of another format.
    """
    try:
        value = json.loads(payload) if len(payload) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BundleError(f"Expected: a release.json. Received: {payload[:60]!r}.", hint=_HINT)
    if value.get("format") != FORMAT:
        raise BundleError(
            f"Expected: release format {FORMAT}. Received: {str(value.get('format'))[:20]}.",
            hint="flash the device with an image of this version",
        )
    parts = {kind: _component(kind, value.get(kind)) for kind in COMPONENTS}
    return Release(
        number=_whole(value, "number", 1),
        arch=_one_of(value, "arch", ARCHITECTURES),
        created=_text(value, "created"),
        launcher=_whole(value, "launcher", 1),
        downgrade=_flag(value, "downgrade"),
        **parts,
    )


def _component(kind: str, value: object) -> Component:
    if not isinstance(value, dict):
        raise _refused(kind, "an object", value)
    part = Component(
        name=_text(value, "name"),
        version=_text(value, "version"),
        target=_text(value, "target"),
        sha256=_text(value, "sha256"),
        size=_whole(value, "size", 1),
        unpacked=_whole(value, "unpacked", 1),
    )
    if not _SHA256.fullmatch(part.sha256) or not _TARGET.fullmatch(part.target):
        raise _refused(f"{kind}.target", "components/SHA256.tar or .tar.xz", part.target)
    if part.sha256 not in part.target:
        raise _refused(f"{kind}.sha256", "the hash in its target", part.sha256)
    if part.unpacked > MOST_UNPACKED:
        raise _refused(f"{kind}.unpacked", f"at most {MOST_UNPACKED}", part.unpacked)
    return part


def _whole(value: Mapping[str, object], key: str, least: int) -> int:
    number = value.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number < 2**53:
        raise _refused(key, f"a whole number from {least} on", number)
    return number


def _text(value: Mapping[str, object], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not 0 < len(text) <= 200 or not text.isprintable():  # noqa: PLR2004 - names are short
        raise _refused(key, "a short text", text)
    return text


def _one_of(value: Mapping[str, object], key: str, allowed: tuple[str, ...]) -> str:
    text = _text(value, key)
    if text not in allowed:
        raise _refused(key, f"one of {', '.join(allowed)}", text)
    return text


def _flag(value: Mapping[str, object], key: str) -> bool:
    flag = value.get(key, False)
    if not isinstance(flag, bool):
        raise _refused(key, "true or false", flag)
    return flag


def _refused(key: str, expected: str, received: object) -> BundleError:
    return BundleError(
        f"release.json: `{key}`: Expected: {expected}. Received: {str(received)[:80]!r}.", hint=_HINT
    )


def header(name: str, size: int, *, executable: bool = False) -> bytes:
    """Return the one header that a file has in a component's archive.

    Plain ustar, without owner and time: the same files are the same bytes wherever they are packed, and
    whatever differs from this was not packed by the kit.

    Raises:
        ValueError: Such an archive cannot name it.
    """
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o755 if executable else 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device keeps its releases."""

    root: Path

    @property
    def runtimes(self) -> Path:
        """A folder for each runtime, by hash."""
        return self.root / "runtimes"

    @property
    def releases(self) -> Path:
        """A folder for each release, by number."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """The release that runs, a symbolic link."""
        return self.root / "current"

    @property
    def state(self) -> Path:
        """What the updater knows."""
        return self.root / "state.json"

    @property
    def spare(self) -> Path:
        """The same once more: what is read where the first is damaged."""
        return self.root / "state.spare.json"

    @property
    def lock(self) -> Path:
        """Held by whoever changes releases."""
        return self.root / "lock"

    @property
    def starts(self) -> Path:
        """Which release was started when, and how it ended."""
        return self.root / "launcher" / "starts.json"

    @property
    def downloads(self) -> Path:
        """What has come so far of a release that is on its way."""
        return self.root / "downloads"

    def release(self, number: int) -> Path:
        """Return the folder of a release."""
        return self.releases / str(number)

    def runtime(self, release: Release) -> Path:
        """Return the folder of a release's runtime."""
        return self.runtimes / release.runtime.sha256

    @property
    def metadata(self) -> Path:
        """What The Update Framework trusts."""
        return self.root / "metadata"

    @property
    def desired(self) -> Path:
        """What a rollout wants."""
        return self.root / "exchange" / "desired.json"

    @property
    def reported(self) -> Path:
        """How far that is."""
        return self.root / "exchange" / "reported.json"

    @property
    def proof(self) -> Path:
        """What the agent on trial can show for itself."""
        return self.root / "exchange" / "proof.json"
