"""A device in a folder: launcher, updater and agents are real processes; systemd's part is played."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.release.pack import files_below, pack
from deploy.release.parts import agent_component
from edge_agent.contracts.release import Component, Place, Release
from edge_agent.contracts.times import rfc3339
from edge_agent.update.install import install
from tests.conftest import write_device
from tests.deploy.releases import World
from tests.supervisor import Service

ARCH = {"aarch64": "arm64"}.get(platform.machine(), "amd64")
PATIENCE_S = 90.0
CRASHES = "raise SystemExit('the shelf is on fire')\n"
HANGS = "import time\nprint('waiting for what never comes', flush=True)\nwhile True:\n    time.sleep(1)\n"


class Fleet:
    """A repository with real releases.

    Args:
        folder: For it.
        bundle: A real one.
    """

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.world = World(folder, now=datetime.now(UTC))
        into = self.world.offered.components
        into.mkdir(parents=True, exist_ok=True)
        folder.joinpath("room").mkdir()
        lock = folder / "lock.py"
        lock.write_text("# the libraries of these tests are those of their own Python\n")
        self.runtime = pack("runtime", "1", {"site-packages/shelfkit_lock.py": lock}, into)
        self.agent = agent_component(None, into, folder / "room")
        self.bundle = pack("demo", "1", files_below(bundle), into)
        self._folder = folder

    def other_bundle(self, version: str) -> Component:
        """The same bundle, with a file more: another component."""
        source = self._folder / f"bundle-{version}"
        source.mkdir()
        files = {}
        for name in ("model.tflite", "manifest.json", "golden.npz"):
            files[name] = next(self._folder.parent.glob(f"bundle/{name}"))
        note = source / "NOTE"
        note.write_text(version)
        return pack("demo", version, {**files, "NOTE": note}, self.world.offered.components)

    def broken_agent(self, main: str, version: str) -> Component:
        """An agent whose beginning is another."""
        source = self._folder / f"agent-{version}"
        (source / "edge_agent").mkdir(parents=True)
        (source / "edge_agent" / "__init__.py").write_text('"""Broken."""\n')
        (source / "edge_agent" / "__main__.py").write_text(main)
        return pack("agent", version, files_below(source), self.world.offered.components)

    def offer(self, number: int, **parts: Component) -> Release:
        """Offer a release; what is not named is as always."""
        made = Release(number, ARCH, rfc3339(self.world.now), self.runtime, self.agent, self.bundle)
        made = replace(made, **parts)  # type: ignore[arg-type] # components by name
        assert self.world.offered.offer([made], self.world.now)
        return made


class Device:
    """A device that runs release 1.

    Args:
        folder: For everything.
        fleet: Where its releases come from.
        port: Of its broker.
        scene: Folder with planogram and reference.
    """

    def __init__(self, folder: Path, fleet: Fleet, port: int, scene: Path) -> None:
        self.place = Place(folder / "shelf")
        self.place.metadata.mkdir(parents=True)
        shutil.copyfile(fleet.world.offered.root, self.place.metadata / "root.json")
        install(self.place, str(fleet.world.offered.folder), ARCH, number=1)
        for name in ("exchange", "launcher", "device", "state"):
            (self.place.root / name).mkdir(exist_ok=True)
        home = self.place.root / "device"
        for name in ("planogram.yaml", "reference.jpg"):
            shutil.copyfile(scene / name, home / name)
        config = write_device(
            home,
            self.place.current / "bundle",
            port=port,
            state_dir=f'"{self.place.root / "state"}"',
            updates=f'{{url: "{fleet.world.offered.folder}"}}',
        )
        self._boot()
        update = [sys.executable, "-P", "-m", "edge_agent.update", "--arch", ARCH]
        (folder / "systemd").mkdir()
        self.service = Service(
            folder / "systemd",
            [*update, "launch", "run", "--config", str(config)],
            [*update, "ended"],
            self.environment,
            watchdog_s=20,
            start_s=15,
        )
        self._update = [*update, "update", "--tick", "0.2"]
        self._log = folder / "updater.log"
        self._updater: subprocess.Popen[bytes] | None = None

    def _boot(self) -> None:
        self.environment = os.environ | {
            "SHELFKIT_RELEASES": str(self.place.root),
            "SHELFKIT_BOOT_ID": str(uuid.uuid4()),
            "SHELFKIT_LOG": "info",
        }

    def start(self) -> None:
        """Switch it on, or on again."""
        self._boot()
        self.service.environment |= self.environment
        self.service.start()
        environment = self.environment | {"PATH": self.service.path}
        with self._log.open("ab") as log:
            self._updater = subprocess.Popen(self._update, env=environment, stdout=log, stderr=log, cwd="/")

    def cut(self) -> None:
        """Take its power away."""
        if self._updater is not None:
            self._updater.kill()
            self._updater.wait()
        self.service.cut()

    def close(self) -> None:
        """Leave nothing behind."""
        self.cut()
        self.service.close()

    def reported(self) -> dict[str, Any]:
        """What the updater says."""
        try:
            value: dict[str, Any] = json.loads(self.place.reported.read_bytes())
        except FileNotFoundError:
            return {}
        return value

    def until(self, wanted: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for something."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if wanted():
                return
            time.sleep(0.05)
        told = f"{self.reported()}\n{self._log.read_text()}\n{self.service.log.read_text()[-4000:]}"
        message = f"no {what} in {patience_s} s: {told}"
        raise AssertionError(message)

    def settled(self, release: int, phase: str) -> None:
        """Wait until a release has ended in a phase."""
        self.until(
            lambda: (self.reported().get("release"), self.reported().get("phase")) == (release, phase),
            f"{phase} of release {release}",
        )
