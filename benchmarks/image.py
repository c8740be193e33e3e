"""How long an image takes from a kept root file system, what it takes, and how soon it works in QEMU.

Usage: python benchmarks/image.py FLEET [--board uefi-amd64] [--release N] [--cache DIR] [--device ID]
       [--result FILE.json]

The root file system is made before anything is timed. With --device the image is booted twice: the first
boot grows the data partition. READY is what systemd says of the agent; the first event is counted where it
reaches the fleet's broker, which must run on this machine, as an operator listens. Where a program imitates
the processor (`kvm` is false), the processor time that this took until the event tells more than seconds
beside other work. The device needs a camera that changes long enough for that: shelf:seed=7,minutes=5.
Beside the device's libraries stands what TensorFlow and all that it needs take, where that is installed.
"""

import argparse
import os
import re
import resource
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import measured
from deploy import fleet as fleets
from deploy import provision
from deploy.fleet import Fleet
from deploy.image import device
from deploy.image.boards import BOARDS
from deploy.image.building import Plan, build
from deploy.image.rootfs import cache_folder, rootfs
from deploy.release.choosing import chosen
from deploy.sim.machine import READY, Machine, prepared
from edge_agent.contracts import config
from edge_agent.contracts.address import Address
from edge_agent.contracts.events import Kind
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Received

PATIENCE_S = 2400.0


def used(folder: Path) -> int:
    """Return what the files of a folder take, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def installed(name: str) -> int:
    """Return what a distribution and everything that it needs takes here, in bytes; 0: it is not here."""
    waiting, found = [name], {}
    while waiting:
        one = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if one in found:
            continue
        try:
            made = distribution(one)
        except PackageNotFoundError:
            continue
        places = [Path(str(file.locate())) for file in made.files or ()]
        found[one] = sum(path.stat().st_size for path in places if path.is_file())
        waiting += [re.split(r"[^\w.-]", item)[0] for item in made.requires or () if "extra ==" not in item]
    return sum(found.values())


def processor_s() -> float:
    """Return what this process and those that it waited for have had of a processor, in seconds."""
    found = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(item.ru_utime + item.ru_stime for item in found)


def load() -> list[float]:
    """Return how many processes wanted a processor, in the last 1, 5 and 15 minutes."""
    return [round(value, 1) for value in os.getloadavg()]


def built(plan: Plan, out: Path) -> dict[str, Any]:
    """Make the image, and say what that took: where there is other work, the processor tells more."""
    rootfs(plan.board, plan.cache, epoch=plan.epoch)
    marks: list[tuple[str, float, float]] = []

    def mark(what: str) -> None:
        marks.append((what, time.monotonic(), processor_s()))

    made = build(plan, out, mark)
    mark("end")
    steps = {
        what: [round(then - at, 1), round(spent - before, 1)]
        for (what, at, before), (_, then, spent) in pairwise(marks)
    }
    return {
        "build_s": round(marks[-1][1] - marks[0][1], 1),
        "build_processor_s": round(marks[-1][2] - marks[0][2], 1),
        "build_steps_s_and_processor_s": steps,
        "image_bytes": made.bytes,
        "image_raw_bytes": made.raw_bytes,
        "load_average": load(),
    }


def booted(plan: Plan, image: Path, name: str, room: Path) -> dict[str, Any]:
    """Boot it twice, and say how long that took to READY and to the first event."""
    fleet, entry = plan.fleet, plan.fleet.device(name)
    prepared(image, room, dict(provision.files(fleet, name, datetime.now(UTC))))
    broker = config.read(fleet.device_folder(name) / "device.yaml").value
    if broker is None:
        message = f"no device.yaml of {name}"
        raise SystemExit(message)
    folder = fleet.service("svc-operator")
    tls = config.Tls(
        ca=fleet.ca / "ca.pem", certificate=folder / "svc-operator.pem", key=folder / "svc-operator.key"
    )
    address = Address("127.0.0.1", broker.broker.port, tls, encrypted=True)
    topic = DeviceTopics(entry.store, entry.device).event(Kind.SLOT_CHANGED)
    figures: dict[str, Any] = {}
    with (
        Machine(plan.board.arch, room) as machine,
        Link(address, client_id="svc-operator", subscriptions=(topic,)) as link,
    ):
        for boot in ("first_boot", "second_boot"):
            before = processor_s()
            machine.power_on()
            figures[f"{boot}_ready_s"] = round(machine.wait_for(READY, patience_s=PATIENCE_S), 1)
            figures[f"{boot}_event_s"] = round(first_event(machine, link), 1)
            machine.power_cut()
            figures[f"{boot}_processor_s"] = round(processor_s() - before, 1)
            figures[f"{boot}_load_average"] = load()
            while not link.notices.empty():
                link.notices.get()
        figures["kvm"] = machine.kvm
    return figures


def first_event(machine: Machine, link: Link) -> float:
    """Wait for the first slot that changes, and return when it was told after the power."""
    while True:
        notice = link.notices.get(timeout=PATIENCE_S)
        if isinstance(notice, Received):
            return machine.up_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("fleet", type=Path)
    parser.add_argument("--board", default="uefi-amd64")
    parser.add_argument("--release", type=int)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    fleet: Fleet = fleets.opened(options.fleet)
    board = BOARDS[options.board]
    release = chosen(fleet, options.release, board.arch)
    plan = Plan(board=board, fleet=fleet, release=release, cache=options.cache or cache_folder())
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        image = room / "shelf.img.zst"
        figures: dict[str, Any] = {"board": board.name, **built(plan, image)}
        first = device.laid_down(fleet, release, room / "release")
        figures["device_environment_bytes"] = used(first.site)
        figures["device_environment_archive_bytes"] = release.runtime.size
        figures["tensorflow_environment_bytes"] = installed("tensorflow")
        if options.device:
            figures |= booted(plan, image, options.device, room)
    measured.tell(figures, options.result, script="image.py", at=datetime.now(UTC))


if __name__ == "__main__":
    main()
