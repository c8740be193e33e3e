"""A store under test for a device in QEMU: fleet, broker, recorder and server of releases, all real."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty

from deploy.fleet import Fleet
from deploy.release.pack import files_below, pack
from deploy.release.repository import Keys, Repository
from deploy.sim.machine import HOST
from edge_agent.contracts.config import Tls
from edge_agent.contracts.release import Component, Release
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication, Received
from tests.brokers import Mosquitto, free_port
from tests.conftest import Kit, Made, find_program

DEVICE, STORE = "sim-1", "lab"
TOPICS = DeviceTopics(STORE, DEVICE)
CRASHES = "raise SystemExit('the shelf is on fire')\n"
HANGS = "import time\nprint('waiting for what never comes', flush=True)\nwhile True:\n    time.sleep(1)\n"


def wheels(made: Made, kit: Kit, arch: str) -> Path:
    """Give the device's wheels, which are fetched once."""
    lock = Path(__file__).parents[3] / "requirements.lock"
    return made(
        "wheels", lambda out: kit("deploy", "image", "wheels", "--arch", arch, "--lock", lock, "--out", out)
    )


class Store:
    """Everything that a device meets.

    Args:
        folder: For it.
        kit: Runs commands of the kit.
        bundle: A real one.
        wheels: Of the device.
    """

    def __init__(self, folder: Path, kit: Kit, bundle: Path, wheels: Path, arch: str = "amd64") -> None:
        self.folder, self._kit, self._arch = folder, kit, arch
        self.port, self.release_port = free_port(), free_port()
        self.fleet = Fleet(folder / "fleet")
        fleet = ("--fleet", self.fleet.folder)
        url = f"https://{HOST}:{self.release_port}/"
        names = ("--broker-name", HOST, "--broker-name", "127.0.0.1")
        kit("deploy", "fleet", "init", "--name", "a lab", *fleet, *names, "--updates", url)
        kit("deploy", "release", "create", *fleet, "--arch", arch, "--bundle", bundle, "--runtime", wheels)
        camera = ("--camera", "shelf:seed=7,minutes=5", "--broker", f"{HOST}:{self.port}")
        kit("deploy", "device", "add", DEVICE, *fleet, "--store", STORE, "--shelf", "1", *camera)
        self._unhurried()

    def _unhurried(self) -> None:
        """Let a processor that a program imitates judge a shelf in time."""
        path = self.fleet.device_folder(DEVICE) / "device.yaml"
        path.write_text(path.read_text() + "rules: {confirm_s: 10, clear_s: 5}\n")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Run broker, recorder and server of releases; nothing is remembered of the time before."""
        broker = self.folder / "broker"
        for remembered in (broker, self.folder / "mosquitto"):
            shutil.rmtree(remembered, ignore_errors=True)
        for path in self.folder.glob(f"{self.database.name}*"):
            path.unlink()
        fleet = ("--fleet", str(self.fleet.folder))
        self._kit("deploy", "broker", "--store", STORE, *fleet, "--port", self.port, "--out", broker)
        lines = (
            (broker / "mosquitto.conf")
            .read_text()
            .replace(f"listener {self.port}\n", f"listener {self.port} 127.0.0.1\n")
        )
        mosquitto = Mosquitto(
            find_program("mosquitto"), self.folder / "mosquitto", lines=tuple(lines.splitlines())
        )
        mosquitto.port = self.port
        tls = self.tls("svc-recorder")
        certificates = ("--ca", tls.ca, "--certificate", tls.certificate, "--key", tls.key)
        page = ("--database", f"sqlite:///{self.database}", "--no-login", "--port", "0")
        with (
            mosquitto,
            self._beside("releases", "deploy", "release", "serve", *fleet, "--port", self.release_port),
            self._beside(
                "recorder",
                "dashboard",
                "run",
                "--broker",
                f"mqtts://127.0.0.1:{self.port}",
                *certificates,
                *page,
            ),
        ):
            yield

    @contextmanager
    def _beside(self, name: str, *words: object) -> Iterator[None]:
        command = [sys.executable, "-m", "edge_agent.cli", *map(str, words)]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    @property
    def database(self) -> Path:
        return self.folder / "recorded.sqlite"

    def tls(self, service: str) -> Tls:
        folder = self.fleet.service(service)
        return Tls(
            ca=self.fleet.ca / "ca.pem", certificate=folder / f"{service}.pem", key=folder / f"{service}.key"
        )

    def recorded(self) -> list[str]:
        """Types of the events that the recorder has."""
        if not self.database.exists():
            return []
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as database:
            try:
                return [row[0] for row in database.execute("SELECT type FROM event ORDER BY row")]
            except sqlite3.OperationalError:
                return []

    def offer(self, number: int, **parts: Component) -> None:
        """Offer a release that differs from the first in what is named."""
        repository = self._repository
        first = repository.release(1, self._arch)
        made: Release = replace(first, number=number, **parts)  # type: ignore[arg-type]  # components by name
        assert repository.offer([made], datetime.now(UTC))

    def other_bundle(self, source: Path, version: str) -> Component:
        """A bundle of another version: another archive."""
        folder = self.folder / f"bundle-{version}"
        shutil.copytree(source, folder)
        manifest = json.loads((folder / "manifest.json").read_text()) | {"version": version}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return pack(manifest["name"], version, files_below(folder), self._repository.components)

    def broken_agent(self, main: str, version: str) -> Component:
        """An agent whose beginning is another."""
        source = self.folder / f"agent-{version}"
        (source / "edge_agent").mkdir(parents=True)
        (source / "edge_agent" / "__init__.py").write_text('"""Broken."""\n')
        (source / "edge_agent" / "__main__.py").write_text(main)
        return pack("agent", version, files_below(source), self._repository.components)

    @property
    def _repository(self) -> Repository:
        return Repository(self.fleet.repository, Keys(self.fleet.keys))


class Said:
    """What a device said last, topic by topic."""

    def __init__(self, link: Link) -> None:
        self._link, self._last = link, dict[str, dict[str, object]]()

    def wait(self, patience_s: float, **wanted: object) -> dict[str, object]:
        """Wait until the last word of a topic has these values (or one of several), and return it."""
        end = time.monotonic() + patience_s
        while True:
            for value in self._last.values():
                if all(
                    value.get(key) in (one if isinstance(one, tuple) else (one,))
                    for key, one in wanted.items()
                ):
                    return value
            try:
                notice = self._link.notices.get(timeout=max(end - time.monotonic(), 0.0))
            except Empty:
                raise AssertionError(f"no {wanted} in {patience_s:.0f} s, but {self._last}") from None
            if isinstance(notice, Received) and notice.payload:
                self._last[notice.topic] = json.loads(notice.payload)


def want(link: Link, release: int, attempt: int = 1) -> None:
    """Wish for a release, as a rollout does."""
    wish = {"rollout": f"r{release}", "attempt": attempt, "release": release}
    assert link.publish(Publication(TOPICS.desired, json.dumps(wish).encode(), retain=True)) is not None


def until(done: Callable[[], bool], what: str, patience_s: float) -> None:
    """Wait for something."""
    end = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < end, f"no {what} in {patience_s:.0f} s"
        time.sleep(0.5)
