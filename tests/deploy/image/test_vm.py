"""An image, from nothing to a device that updates itself, in QEMU.

A system is installed from Debian's packages (kept in the cache folder), so this needs the network once.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy import provision
from deploy.image.filesystems import read, written
from deploy.image.places import boot_partition
from deploy.image.rootfs import cache_folder
from deploy.sim.machine import READY, Machine, drive, unpacked
from edge_agent.contracts.address import Address
from edge_agent.mqtt import Link, Received
from tests.brokers import subscribed, wait_for
from tests.conftest import Kit, Made, find_program
from tests.deploy.image.store import CRASHES, DEVICE, HANGS, TOPICS, Store, until, want

pytestmark = [pytest.mark.vm, pytest.mark.broker, pytest.mark.timeout(14400)]

ARCH = os.environ.get("SHELFKIT_TEST_ARCH", "amd64")
LOCK = Path(__file__).parents[3] / "requirements.lock"
# Without KVM a machine is ten times slower, and the one that runs this test has other things to do.
PATIENCE_S = 2400.0
CUTS = 10


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, kit: Kit, made: Made, bundle_folder: Path) -> Store:
    for name in ("mmdebstrap", "mke2fs", "mcopy", "sfdisk", "zstd", "qemu-img", "qemu-system-x86_64"):
        find_program(name)
    wheels = made(
        "wheels", lambda out: kit("deploy", "image", "wheels", "--arch", ARCH, "--lock", LOCK, "--out", out)
    )
    return Store(tmp_path_factory.mktemp("store"), kit, bundle_folder, wheels, ARCH)


@pytest.fixture(scope="module")
def image(store: Store, kit: Kit) -> Path:
    out = store.folder / "shelf.img.zst"
    cache = os.environ.get("SHELFKIT_TEST_CACHE") or cache_folder()
    fleet = ("--fleet", store.fleet.folder, "--cache", cache)
    kit("deploy", "image", "build", "--board", f"uefi-{ARCH}", *fleet, "--out", out)
    return out


@pytest.fixture
def machine(tmp_path: Path, store: Store, image: Path) -> Iterator[Machine]:
    """A device that was flashed and told who it is; the power is still off."""
    raw = unpacked(image, tmp_path)
    files = provision.files(store.fleet, DEVICE, datetime.now(UTC))
    written(raw, dict(files), epoch=0, offset=boot_partition(raw))
    drive(raw, tmp_path)
    with store.open(), Machine(ARCH, tmp_path) as made:
        yield made


def operator(store: Store) -> Address:
    return Address("127.0.0.1", store.port, store.tls("svc-operator"), encrypted=True)


def heard(link: Link, **wanted: object) -> dict[str, object]:
    """Return the next message with these values."""

    def right(notice: object) -> bool:
        if not isinstance(notice, Received):
            return False
        value = json.loads(notice.payload)
        return all(value.get(key) == wanted[key] for key in wanted)

    notice = wait_for(link, right, PATIENCE_S)
    assert isinstance(notice, Received)
    value: dict[str, object] = json.loads(notice.payload)
    return value


def test_from_an_image_to_events_and_updates(store: Store, machine: Machine, bundle_folder: Path) -> None:
    store.offer(2, bundle=store.other_bundle(bundle_folder, "2.0.0"))
    store.offer(3, agent=store.broken_agent(CRASHES, "3"))
    store.offer(4, agent=store.broken_agent(HANGS, "4"))
    topics = (TOPICS.reported, TOPICS.health)
    with subscribed(operator(store), *topics, client_id="svc-operator") as link:
        machine.power_on()
        machine.wait_for(READY, patience_s=PATIENCE_S)
        assert heard(link, status="online")["release"] == 1
        heard(link, phase="idle", good=1)
        # Its events came over mutual TLS, and the recorder has them.
        slot = "shelfkit.slot.slot-changed.v1"
        until(lambda: slot in store.recorded(), slot, PATIENCE_S)

        want(link, 2)
        heard(link, phase="committed", release=2, good=2)
        heard(link, status="online", release=2)
        want(link, 3)
        told = heard(link, phase="rolled_back", release=3, good=2)
        assert "the shelf is on fire" in str(told["reason"])
        want(link, 4)
        told = heard(link, phase="rolled_back", release=4, good=2)
        assert "waiting for what never comes" in str(told["reason"])
        heard(link, status="online", release=2)
    assert "shelfkit.device.update-committed.v1" in store.recorded()
    until(lambda: "shelfkit.device.update-rolled-back.v1" in store.recorded(), "told roll-back", PATIENCE_S)


def test_the_power_goes_at_random_moments(store: Store, machine: Machine, bundle_folder: Path) -> None:
    """Ten times, while an update is on its way: what is whole runs again each time."""
    rng = random.Random(7)
    if not (store.fleet.repository / "targets" / "releases" / "5").exists():
        store.offer(5, bundle=store.other_bundle(bundle_folder, "5.0.0"))
    topics = (TOPICS.reported, TOPICS.health)
    with subscribed(operator(store), *topics, client_id="svc-operator") as link:
        machine.power_on()
        ready_s = machine.wait_for(READY, patience_s=PATIENCE_S)
        want(link, 5)
        for _ in range(CUTS):
            time.sleep(rng.uniform(0, 1.2 * ready_s))
            machine.power_cut()
            machine.power_on()
        machine.wait_for(READY, patience_s=PATIENCE_S)
        told = heard(link, status="online")
        assert told["release"] in {1, 5}
    assert machine.boots == CUTS + 1


def test_the_key_leaves_the_boot_partition(machine: Machine, tmp_path: Path) -> None:
    raw = tmp_path / "image.img"
    assert read(raw, "device.key", offset=boot_partition(raw)) is not None
    machine.power_on()
    machine.wait_for(READY, patience_s=PATIENCE_S)
    machine.power_cut()
    flat = tmp_path / "after.img"
    machine.flatten(flat)
    at = boot_partition(flat)
    assert read(flat, "device.key", offset=at) is None
    told = read(flat, "provisioned.txt", offset=at)
    assert told is not None
    assert "this device is provisioned" in told.decode()
