"""An image, from nothing to a device that updates itself, in QEMU.

A system is installed from Debian's packages (kept in the cache folder), so this needs the network once.
"""

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from deploy import provision
from deploy.image.filesystems import read
from deploy.image.places import boot_partition
from deploy.image.rootfs import cache_folder
from deploy.sim.machine import READY, Machine, prepared
from edge_agent.contracts.address import Address
from edge_agent.mqtt import Link
from tests.brokers import subscribed
from tests.conftest import Kit, Made, find_program
from tests.deploy.image.drives import VIRTUAL, Drive, partitions, require_whole
from tests.deploy.image.store import CRASHES, DEVICE, HANGS, TOPICS, Said, Store, until, want, wheels

pytestmark = [pytest.mark.vm, pytest.mark.broker, pytest.mark.timeout(14400)]

ARCH = os.environ.get("SHELFKIT_TEST_ARCH", "amd64")
# Without KVM a machine is ten times slower, and where tests run there is other work as well.
PATIENCE_S = 2400.0
CUTS, MOST_CUTS = 10, 40
ON_ITS_WAY = ("downloading", "verified", "staged", "trial")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, kit: Kit, made: Made, bundle_folder: Path) -> Store:
    for name in VIRTUAL:
        find_program(name)
    return Store(tmp_path_factory.mktemp("store"), kit, bundle_folder, wheels(made, kit, ARCH), ARCH)


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
    prepared(image, tmp_path, dict(provision.files(store.fleet, DEVICE, datetime.now(UTC))))
    with store.open(), Machine(ARCH, tmp_path) as made:
        yield made


@contextmanager
def listening(store: Store) -> Iterator[tuple[Link, Callable[..., Mapping[str, object]]]]:
    """Give an operator's link, and what waits for the device to say something."""
    address = Address("127.0.0.1", store.port, store.tls("svc-operator"), encrypted=True)
    with subscribed(address, TOPICS.reported, TOPICS.health, client_id="svc-operator") as link:
        yield link, partial(Said(link).wait, PATIENCE_S)


def test_from_an_image_to_events_and_updates(
    store: Store, machine: Machine, bundle_folder: Path, tmp_path: Path
) -> None:
    store.offer(2, bundle=store.other_bundle(bundle_folder, "2.0.0"))
    store.offer(3, agent=store.broken_agent(CRASHES, "3"))
    store.offer(4, agent=store.broken_agent(HANGS, "4"))
    with listening(store) as (link, heard):
        machine.power_on()
        ready_s = machine.wait_for(READY, patience_s=PATIENCE_S)
        tell(f"ready after {ready_s:.0f} s")
        assert heard(status="online")["release"] == 1
        heard(phase="idle", good=1)
        # Its events came over mutual TLS, and the recorder has them.
        slot = "shelfkit.slot.slot-changed.v1"
        until(lambda: slot in store.recorded(), slot, PATIENCE_S)
        tell(f"first events after {machine.up_s:.0f} s")

        want(link, 2)
        heard(phase="committed", release=2, good=2)
        heard(status="online", release=2)
        for number, word in ((3, "the shelf is on fire"), (4, "waiting for what never comes")):
            tell(f"release {number} is wished for")
            want(link, number)
            told = heard(phase="rolled_back", release=number, good=2)
            assert word in str(told["reason"])
            heard(status="online", release=2)
    assert "shelfkit.device.update-committed.v1" in store.recorded()
    until(lambda: "shelfkit.device.update-rolled-back.v1" in store.recorded(), "told roll-back", PATIENCE_S)
    machine.power_cut()
    require_provisioned(tmp_path)


def require_provisioned(room: Path) -> None:
    """Require that what the device was told has left its boot partition, the key before all."""
    image, drive = room / "image.img", room / "after.img"
    at = boot_partition(image)
    assert read(image, "device.key", offset=at) is not None
    Machine(ARCH, room).flatten(drive)
    assert read(drive, "device.key", offset=at) is None
    told = read(drive, "provisioned.txt", offset=at)
    assert told is not None
    assert "this device is provisioned" in told.decode()
    drive.unlink()


def test_the_power_goes_at_random_moments(
    store: Store, machine: Machine, bundle_folder: Path, tmp_path: Path
) -> None:
    """Ten times and more while an update is on its way: what is whole runs again.

    After each cut the drive is read as it is, and what it would start is compared with the fleet's own,
    byte for byte. There is always a release that is wished for and not there yet, so that each boot
    begins an update or goes on with one.
    """
    rng, wishes = random.Random(7), iter(range(5, 5 + MOST_CUTS))
    phases: list[str] = []

    def wish() -> int:
        number = next(wishes)
        store.offer(number, bundle=store.other_bundle(bundle_folder, f"{number}.0.0"))
        want(link, number)
        return number

    with listening(store) as (link, heard):
        machine.power_on()
        ready_s = machine.wait_for(READY, patience_s=PATIENCE_S)
        heard(status="online", release=1)
        number = wish()
        heard(release=number, phase=ON_ITS_WAY)
        while sum(phase in ON_ITS_WAY for phase in phases) < CUTS:
            assert len(phases) < MOST_CUTS, phases
            # The first soon after the wish; others anywhere from the end of a boot to a trial's proof. The
            # updater goes on as soon as its disk is there, which is long before the agent is ready.
            time.sleep(ready_s * (rng.uniform(0.3, 1.3) if phases else rng.uniform(0, 0.5)))
            assert machine.runs
            machine.power_cut()
            drive = machine_drive(tmp_path, f"cut-{len(phases)}")
            require_startable(drive, store, tmp_path)
            phases.append(drive.phase)
            tell(f"cut {len(phases)}, {machine.up_s:.0f} s after power: {drive.phase}, {drive.state}")
            if any(outcome.release == number for outcome in drive.state.settled):
                number = wish()
            machine.power_on()
        told = heard(release=number, phase=("committed", "rolled_back"))
        heard(status="online", release=told["good"])
    machine.power_cut()
    drive = machine_drive(tmp_path, "end")
    assert (drive.state.good, drive.state.trial) == (told["good"], None)
    require_startable(drive, store, tmp_path)


def test_a_device_begins_once_more_where_its_data_cannot_be_had(machine: Machine, tmp_path: Path) -> None:
    """Nobody comes to a shelf: it does not wait for somebody who mends that."""
    raw = tmp_path / "image.img"
    with raw.open("r+b") as file:
        file.seek(partitions(raw)[-1]["start"] * 512)
        file.write(bytes(1 << 20))
    machine.power_on()
    # The machine is made so that it ends where it would start again.
    until(lambda: not machine.runs, "another start", PATIENCE_S)
    assert "emergency" in machine.said
    assert READY not in machine.said


def machine_drive(room: Path, name: str) -> Drive:
    return Drive(room / "drive.qcow2", room / "image.img", room / name)


def require_startable(drive: Drive, store: Store, room: Path) -> None:
    """Require that everything is whole that the launcher would start, on this drive."""
    for number in {drive.state.good, drive.state.wanted}:
        assert number is not None
        require_whole(drive, number, store.fleet, room / "expected", ARCH)
    shutil.rmtree(drive.place.root)


def tell(what: str) -> None:
    """Say how far it is: this takes long."""
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")
    sys.stdout.flush()
