"""What an attacker may do to a repository: each is refused for its own reason, and changes nothing."""

import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from deploy.release.keys import signer, write_key
from edge_agent.contracts.errors import ConfigError, DeviceError, ServiceError
from edge_agent.update import refusals, state
from edge_agent.update.install import install
from edge_agent.update.machine import Phase
from edge_agent.update.refusals import RefusedError
from edge_agent.update.wire import Tls, Wire
from tests.deploy.releases import Shelf, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.release(1)
    made.device().refresh()
    return made


def newest(world: World, role: str) -> Path:
    found = world.metadata.glob(f"*.{role}.json")
    return max(found, key=lambda path: int(path.name.partition(".")[0]))


def flip(path: Path, at: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def edited(world: World) -> None:
    path = newest(world, "targets")
    path.write_bytes(path.read_bytes().replace(b'"downgrade":false', b'"downgrade":true'))


def edited_timestamp(world: World) -> None:
    path = world.metadata / "timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"version":', b'"version":9', 1))


def signed_by_another(world: World) -> None:
    path = world.metadata / "timestamp.json"
    found = Metadata.from_file(str(path))
    write_key(world.folder / "another.pem")
    found.signatures.clear()
    found.sign(signer(world.folder / "another.pem"))
    found.to_file(str(path))


def half_a_root(world: World) -> None:
    found = Metadata.from_file(str(world.offered.root))
    found.signed.version += 1
    found.sign(world.offered.keys.signer("root-1"))
    found.to_file(str(world.metadata / "2.root.json"))


def root_of_others(world: World) -> None:
    """A root that the new keys have signed, and none of those before."""
    other = World(world.folder / "other")
    other.offered.rotate("root-1", other.now)
    shutil.copyfile(other.offered.root, world.metadata / "2.root.json")


def replayed(world: World) -> None:
    """The state of yesterday, whole and well signed."""
    before = world.folder / "before"
    world.device().refresh()
    shutil.rmtree(world.metadata)
    shutil.copytree(before, world.metadata)


def mixed_snapshot(world: World) -> None:
    path = newest(world, "snapshot")
    shutil.copyfile(world.folder / "before" / "2.snapshot.json", path)


def mixed_targets(world: World) -> None:
    shutil.copyfile(world.folder / "before" / "2.targets.json", newest(world, "targets"))


def frozen(world: World) -> None:
    world.later(days=31)


def far_ahead(world: World) -> None:
    world.later(days=5 * 365)


def endless(world: World) -> None:
    with (world.metadata / "timestamp.json").open("ab") as file:
        file.truncate(10**9)


def nonsense(world: World) -> None:
    (world.metadata / "timestamp.json").write_bytes(b"\xff{" * 100)


def gone(world: World) -> None:
    (world.metadata / "timestamp.json").unlink()


@pytest.mark.parametrize(
    ("attack", "kind", "says"),
    [
        (edited, refusals.DamagedError, "targets as it was signed"),
        (edited_timestamp, refusals.DamagedError, "timestamp as it was signed"),
        (nonsense, refusals.DamagedError, "damaged"),
        (signed_by_another, refusals.UntrustedError, "timestamp signed by a key"),
        (root_of_others, refusals.UntrustedError, "root signed by a key"),
        (half_a_root, refusals.BelowThresholdError, "2 signatures of root. Received: 1"),
        (replayed, refusals.ReplayedError, "no older than what this device has seen"),
        (mixed_snapshot, refusals.MixedError, "snapshot 3. Received: snapshot 2"),
        (mixed_targets, refusals.MixedError, "targets 3. Received: targets 2"),
        (frozen, refusals.ExpiredError, "this device's time"),
        (far_ahead, refusals.ExpiredError, "2031"),
        (endless, refusals.EndlessError, "no end"),
        (gone, refusals.NotOfferedError, "in the repository"),
    ],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_an_attack_is_refused_for_its_own_reason(
    world: World, attack: Callable[[World], None], kind: type[RefusedError], says: str
) -> None:
    install(world.place, str(world.offered.folder), "amd64", now=lambda: world.now)
    shelf = Shelf(world)
    shutil.copytree(world.metadata, world.folder / "before")
    world.release(2, b"another model")
    good = world.folder / "good"
    shutil.copytree(world.metadata, good)
    at = world.now
    shelf.want(2)
    attack(world)
    trusted = world.trusted()
    with pytest.raises(RefusedError) as caught:
        world.device().refresh()
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert world.trusted() == trusted
    assert not list(world.place.root.glob(".tmp-*"))
    # The agent runs on, and the device says why it does not take the release.
    phase, reason = shelf.phase()
    assert phase == (Phase.WAITING if kind is refusals.ExpiredError else Phase.REFUSED)
    assert says in reason
    assert (shelf.restarts, shelf.reboots) == (0, 0)
    assert (state.load(world.place).good, state.load(world.place).bad) == (1, {})
    # When it is over, the device goes on as if nothing had been.
    shutil.rmtree(world.metadata)
    shutil.copytree(good, world.metadata)
    world.now = at
    assert world.device().release(2, "amd64").number == 2
    shelf.up_s += 60
    assert shelf.phase()[0] == Phase.TRIAL


def test_each_reason_has_a_name_of_its_own() -> None:
    kinds = RefusedError.__subclasses__()
    assert len({kind.reason for kind in kinds}) == len(kinds) == 8


def test_a_clock_far_behind_refuses_nothing(world: World) -> None:
    world.later(days=-7 * 365)
    assert world.now.year == 2019
    assert world.device().release(1, "amd64").number == 1


def test_a_flipped_bit_in_a_target_is_refused_and_not_kept(world: World) -> None:
    release = world.release(2)
    archive = world.offered.folder / "targets" / release.bundle.target
    whole = archive.read_bytes()
    flip(archive)
    with pytest.raises(refusals.DamagedError, match="content with the hash"):
        world.device().download(release.bundle, world.place.root / "incoming")
    assert not any((world.place.root / "incoming").iterdir())
    archive.write_bytes(whole)
    got = world.device().download(release.bundle, world.place.root / "incoming")
    assert got.read_bytes() == whole


def test_an_edited_release_is_refused(world: World) -> None:
    flip(world.offered.folder / "targets" / "releases" / "1" / "amd64.json")
    with pytest.raises(refusals.DamagedError, match="as it was signed"):
        world.device().release(1, "amd64")


def test_a_component_that_the_repository_does_not_name_is_refused(world: World) -> None:
    part = world.device().release(1, "amd64").bundle
    with pytest.raises(refusals.MixedError):
        world.device().download(replace(part, size=part.size + 1), world.place.root)
    with pytest.raises(refusals.NotOfferedError):
        world.device().release(7, "amd64")


def test_endless_content_is_cut_at_its_size(world: World) -> None:
    release = world.release(2)
    with (world.offered.folder / "targets" / release.bundle.target).open("ab") as file:
        file.truncate(10**9)
    device = world.device()
    with pytest.raises(refusals.EndlessError):
        device.download(release.bundle, world.place.root / "incoming")
    assert device.moved < 10**6


@pytest.mark.parametrize("key", ["root-1", "root-2", "targets", "snapshot", "timestamp"])
def test_a_device_follows_a_rotated_key(world: World, key: str) -> None:
    before = world.offered.keys.path(key).read_bytes()
    assert world.offered.rotate(key, world.now) == 2
    assert world.offered.keys.path(key).read_bytes() != before
    world.offered.rotate(key, world.now)
    world.release(2)
    assert world.device().release(2, "amd64").number == 2
    assert b'"version":3' in world.trusted()["root.json"].replace(b" ", b"")


def test_a_device_without_a_root_says_what_to_do(world: World) -> None:
    (world.place.metadata / "root.json").unlink()
    with pytest.raises(DeviceError, match=r"root\.json"):
        world.device().refresh()


@pytest.mark.parametrize("url", ["http://repository.example/", "ftp://127.0.0.1/", "http://10.0.0.1/"])
def test_an_address_that_cannot_be_trusted_is_refused(world: World, url: str) -> None:
    with pytest.raises(ConfigError, match=r"updates\.url"):
        world.device(url)


def test_a_server_that_is_not_there_says_nothing_of_a_release(world: World) -> None:
    with pytest.raises(ServiceError, match="repository that answers"):
        world.device("http://127.0.0.1:9/").refresh()


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [302, 500, 503])
def test_a_server_in_trouble_says_nothing_of_a_release(world: World, status: int) -> None:
    with answering(status) as url, pytest.raises(ServiceError):
        world.device(url).refresh()


def test_metadata_that_drips_is_given_up_as_trouble_of_the_network(world: World) -> None:
    ticks = iter(range(0, 10**6, 1000))
    device = world.device()
    device._wire = Wire(Tls(), clock=lambda: float(next(ticks)))
    with pytest.raises(ServiceError, match="took more than"):
        device.refresh()


@pytest.mark.parametrize("key", ["root-1", "targets", "timestamp"])
def test_a_rotation_that_was_cut_short_is_taken_up_again(world: World, key: str) -> None:
    path = world.offered.keys.path(key)
    before = path.read_bytes()
    world.offered.rotate(key, world.now)
    after = path.read_bytes()
    # As a kill leaves it once the root is written: nothing signed yet, the new key not in its place.
    path.with_suffix(".new").write_bytes(after)
    path.write_bytes(before)
    if key != "root-1":
        for role in ("targets", "snapshot"):
            if int(newest(world, role).name.partition(".")[0]) > 2:
                newest(world, role).unlink()
    world.offered.sign(world.now)
    assert path.read_bytes() == after
    assert world.device().release(1, "amd64").number == 1
