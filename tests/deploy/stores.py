"""A store under test: a fleet with one device, and its broker with the fleet's own certificates."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.fleet import Fleet
from tests.brokers import free_port
from tests.conftest import Kit, find_program

DEVICE, STORE = "cam-12-01", "0417"


class Store:
    """A fleet that was begun, a device that was added, and the configuration of the broker.

    Args:
        folder: For all of it.
        kit: Runs commands of the kit.
    """

    def __init__(self, folder: Path, kit: Kit) -> None:
        self.kit, self.folder, self.fleet = kit, folder, Fleet(folder / "fleet")
        self.port = free_port()
        fleet = ("--fleet", self.fleet.folder)
        kit("deploy", "fleet", "init", "--name", "shops", *fleet)
        add = ("deploy", "device", "add", DEVICE, "--store", STORE, "--shelf", "12")
        kit(*add, "--camera", "shelf:seed=7", "--broker", f"localhost:{self.port}", *fleet)
        kit("deploy", "fleet", "service", "anna", *fleet)
        broker = ("deploy", "broker", "--store", STORE, "--port", self.port, "--out", folder / "broker")
        kit(*broker, "--operator", "anna", *fleet)

    @contextmanager
    def broker(self) -> Iterator[None]:
        """Run the broker."""
        conf = self.folder / "broker" / "mosquitto.conf"
        text = conf.read_text()
        if "user root" not in text:
            # The test may run as root, whose mosquitto becomes another user.
            conf.write_text(
                text.replace(f"listener {self.port}\n", f"listener {self.port} 127.0.0.1\n") + "user root\n"
            )
        with process(self.folder / "broker.log", find_program("mosquitto"), "-c", str(conf)):
            yield

    def run(self, *more: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """`shelfkit deploy run` of the device."""
        return self.kit("deploy", "run", DEVICE, "--fleet", self.fleet.folder, *more, code=code)

    @contextmanager
    def running(self, *more: object) -> Iterator[subprocess.Popen[str]]:
        """The same, while the test does something else."""
        words = ("deploy", "run", DEVICE, "--fleet", self.fleet.folder, *more)
        command = [sys.executable, "-m", "edge_agent.cli", *map(str, words)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as started:
            try:
                yield started
            finally:
                started.kill()


@contextmanager
def process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until it is no longer needed."""
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=file) as started:
        try:
            yield started
        finally:
            started.terminate()


def worked(done: subprocess.CompletedProcess[str]) -> bool:
    """Tell whether a device has passed its self-test, and everything that it then said was its own."""
    assert "works and answers" in done.stderr, done.stderr
    assert "FAIL" not in done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return bool(said) and {line["source"] for line in said} == {f"/stores/{STORE}/devices/{DEVICE}"}


def hear(started: subprocess.Popen[str], what: str) -> None:
    """Read what a program says on its standard error until it says this."""
    assert started.stderr is not None
    heard = []
    for line in started.stderr:
        heard.append(line)
        if what in line:
            return
    pytest.fail("".join(heard))


def until(told: Callable[[], bool], what: str, patience_s: float = 60) -> None:
    """Wait for something."""
    end = time.monotonic() + patience_s
    while not told():
        assert time.monotonic() < end, f"no {what} in {patience_s:.0f} s"
        time.sleep(0.1)
