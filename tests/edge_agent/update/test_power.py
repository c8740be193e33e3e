"""Every operation on the disk that an update makes is where the power goes: all of them are recovered."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent.contracts.release import Place
from edge_agent.update import launcher, state
from edge_agent.update.disk import read_small
from edge_agent.update.install import install
from edge_agent.update.machine import INFERENCES
from edge_agent.update.records import (
    Desired,
    End,
    Proof,
    Source,
    decode_starts,
    encode_desired,
    encode_proof,
)
from edge_agent.update.updater import Updater
from tests.deploy.releases import World
from tests.edge_agent.update.power import Disk, PowerCut, power

CRASHING, GOOD = 3, 2
_LOSSES = ("nothing", "all", "one")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    for number in (1, GOOD, CRASHING):
        made.release(number, f"model {number}".encode() * 100)
    install(made.place, str(made.offered.folder), "amd64", number=1, now=lambda: made.now)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A disk on which to flush costs nothing, where there is one: it is done thousands of times."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own below it
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)


@dataclass
class Device:
    """A device whose agent is played: release 3 crashes, the others prove themselves."""

    place: Place
    world: World
    boot: str
    restarts: int = 0
    reports: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.updater = Updater(
            self.place, "amd64", self, boot=self.boot, up_s=lambda: 100.0, wall=lambda: self.world.now
        )

    def restart(self) -> None:
        self.restarts += 1

    def reboot(self) -> None:
        raise AssertionError

    def tail(self) -> str:
        return "Traceback: it is broken"

    def want(self, release: int) -> None:
        source = Source(str(self.world.offered.folder))
        wish = {"rollout": f"r{release}", "attempt": 1, "release": release}
        self.place.desired.parent.mkdir(exist_ok=True)
        self.place.desired.write_bytes(encode_desired(Desired(source=source), wish))

    def start(self) -> int:
        """Let the launcher start what is to run, and that do what it does."""
        told: list[dict[str, str]] = []
        launcher.launch(self.place, ["run"], boot=self.boot, at=90.0, execute=lambda *it: told.append(it[2]))
        release = int(told[0]["SHELFKIT_RELEASE"])
        agent, runtime = told[0]["PYTHONPATH"].split(":")
        assert (Path(agent) / "agent.bin").read_bytes() == b"a" * 3000
        assert (Path(runtime).parent / "runtime.bin").read_bytes() == b"r" * 5000
        bundle = self.place.release(release) / "bundle" / "bundle.bin"
        if release > 1:
            assert bundle.read_bytes() == f"model {release}".encode() * 100
        if release == CRASHING:
            launcher.ended(self.place, End("exit-code", "1"), boot=self.boot)
        else:
            proof = Proof(release, int(told[0]["SHELFKIT_START"]), self.boot, True, True, INFERENCES)
            self.place.proof.write_bytes(encode_proof(proof))
        return release

    def live(self) -> None:
        """Go on as systemd does, until the wish is settled, what should run runs, and all is tidy."""
        for _ in range(20):
            if self.reports[-3:] in (["committed"] * 3, ["rolled_back"] * 3):
                return
            starts = decode_starts(read_small(self.place.starts))
            if not starts or starts[-1].boot_id != self.boot or starts[-1].end is not None:
                self.start()
            before = self.restarts
            made = self.updater.tick()
            self.reports.append(made.report.phase)
            if self.restarts > before:
                launcher.ended(self.place, End("success", "0"), boot=self.boot)


@contextmanager
def copied(world: World, begin: Place, folder: Path) -> Iterator[Place]:
    root = folder / "device"
    shutil.copytree(begin.root, root, symlinks=True)
    yield Place(root)
    shutil.rmtree(root)


def require_truth(place: Place) -> None:
    """What was reported holds: nothing is told before it is durable."""
    content = read_small(place.reported)
    told = {} if content is None else json.loads(content)
    if told.get("phase") == "committed":
        assert state.load(place).good == told["release"]
    if told.get("phase") == "rolled_back":
        assert state.load(place).trial is None


def sweep(world: World, begin: Place, release: int, folder: Path, *, every: bool) -> list[str]:
    """Cut the power at every operation; return them all.

    Each loses everything that was not flushed, one name of it, or nothing: by turns, or one after another.
    """
    backup = folder / "backup"

    def played(at: int | None, loses: str) -> Disk:
        shutil.rmtree(backup, ignore_errors=True)
        backup.mkdir()
        with copied(world, begin, folder) as place:
            disk = Disk(place.root, backup, at)
            device = Device(place, world, "b2")
            device.want(release)
            try:
                with power(disk):
                    device.live()
            except PowerCut:
                if loses != "nothing":
                    disk.lose(loses)
            require_truth(place)
            again = Device(place, world, "b3")
            assert again.start() in {1, 2, 3}
            again.live()
            known = state.load(place)
            require_truth(place)
            assert known.trial is None
            assert (known.good == release) is (release != CRASHING)
            assert (release in known.bad) is (release == CRASHING)
            assert known.wanted == int(place.current.readlink().name)
            kept = {str(number) for number in known.kept}
            assert {path.name for path in place.releases.iterdir()} == kept
            assert len(list(place.runtimes.iterdir())) == 1
            assert not place.downloads.exists()
            assert [path for path in place.root.rglob(".*") if path.name != ".current.new"] == []
        return disk

    log = played(None, _LOSSES[0]).log
    for at in range(len(log)):
        for loses in _LOSSES if every else (_LOSSES[at % 3],):
            try:
                played(at, loses)
            except BaseException as exc:
                exc.add_note(f"operation {at} of {len(log)}, {loses=}: {log[at]}")
                raise
    return log


# A process that dies closes nothing.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("release", [GOOD, CRASHING])
def test_the_power_may_go_at_any_moment(world: World, folder: Path, release: int) -> None:
    log = sweep(world, world.place, release, folder, every=False)
    kinds = {line.split()[0] for line in log}
    assert kinds >= {"open", "fsync", "rename", "replace", "link", "symlink", "unlink", "mkdir", "rmdir"}
    assert len(log) > 100


@pytest.mark.slow
@pytest.mark.parametrize("release", [GOOD, CRASHING])
def test_the_power_may_go_and_take_all_that_it_can(world: World, folder: Path, release: int) -> None:
    sweep(world, world.place, release, folder, every=True)


def test_a_disk_that_loses_what_was_not_flushed(tmp_path: Path) -> None:
    """The disk of these tests itself: content that was not flushed is torn, names are as they were."""
    root, backup = tmp_path / "root", tmp_path / "backup"
    root.mkdir()
    backup.mkdir()
    (root / "name").write_text("before")
    disk = Disk(root, backup, 3)
    with power(disk), pytest.raises(PowerCut):
        (root / "beside").write_text("after!")
        (root / "beside").replace(root / "name")
        (root / "torn").write_text("1234")
        (root / "never").write_text("")
    disk.lose()
    assert (root / "name").read_text() == "before"
    assert (root / "torn").read_text() == "12"
    assert not (root / "never").exists()
