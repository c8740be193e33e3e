"""A fleet's repository under test, and a device that fetches from it."""

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from deploy.release.keys import NAMES, write_key
from deploy.release.pack import pack
from deploy.release.repository import Keys
from deploy.release.repository import Repository as Offered
from edge_agent.contracts.release import Place, Release
from edge_agent.update.fetch import Repository
from edge_agent.update.records import Desired, Source, encode_desired
from edge_agent.update.updater import Pace, Updater

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)


@dataclass
class World:
    """A repository with its keys, and one device."""

    folder: Path
    now: datetime = NOW
    offered: Offered = field(init=False)
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        for name in NAMES:
            write_key(self.folder / "keys" / f"{name}.pem")
        self.offered = Offered(self.folder / "repository", Keys(self.folder / "keys"))
        self.offered.begin(self.now)
        self.place = Place(self.folder / "device")
        self.place.metadata.mkdir(parents=True)
        shutil.copyfile(self.offered.root, self.place.metadata / "root.json")

    @property
    def metadata(self) -> Path:
        return self.offered.metadata

    def release(self, number: int, model: bytes = b"model") -> Release:
        """Offer a release whose runtime and agent stay the same."""
        parts = {}
        for kind, content in (("runtime", b"r" * 5000), ("agent", b"a" * 3000), ("bundle", model)):
            path = self.folder / "source" / kind
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            files = {f"{kind}.bin": path}
            parts[kind] = pack(kind, "1", files, self.offered.components, xz=kind == "runtime")
        made = Release(
            number=number,
            arch="amd64",
            created="2026-11-26T09:00:00.000Z",
            runtime=parts["runtime"],
            agent=parts["agent"],
            bundle=parts["bundle"],
        )
        assert self.offered.offer([made], self.now)
        return made

    def device(self, url: str = "") -> Repository:
        """One attempt of the device."""
        return Repository(self.place, url or str(self.offered.folder), now=lambda: self.now)

    def trusted(self) -> dict[str, bytes]:
        """What the device trusts."""
        return {path.name: path.read_bytes() for path in self.place.metadata.iterdir()}

    def later(self, **span: float) -> None:
        """Let time pass."""
        self.now += timedelta(**span)


@dataclass
class Shelf:
    """A device whose agent does nothing."""

    world: World
    pace: Pace = field(default_factory=Pace)
    up_s: float = 100.0
    restarts: int = 0
    reboots: int = 0
    updater: Updater = field(init=False)

    def __post_init__(self) -> None:
        self.place = self.world.place
        self.updater = self.made()

    def made(self) -> Updater:
        return Updater(
            self.place,
            "amd64",
            self,
            pace=self.pace,
            boot="b1",
            up_s=lambda: self.up_s,
            wall=lambda: self.world.now,
        )

    def restart(self) -> None:
        self.restarts += 1

    def reboot(self) -> None:
        self.reboots += 1

    def tail(self) -> str:
        return "the last line"

    def want(
        self, release: int | None, *, url: str | None = "", zone: ZoneInfo | None = None, **more: object
    ) -> None:
        wish = None if release is None else {"rollout": "r", "attempt": 1, "release": release, **more}
        source = None if url is None else Source(url or str(self.world.offered.folder))
        self.place.desired.parent.mkdir(exist_ok=True)
        self.place.desired.write_bytes(encode_desired(Desired(source=source, zone=zone), wish))

    def phase(self) -> tuple[str, str]:
        """Look once; return phase and reason as they are told."""
        self.updater.tick()
        told = self.updater.told
        assert told is not None
        return told.phase, str(told.reason)
