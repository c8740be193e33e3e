"""Guides are followed to the letter: every `sh` block, in order, in an empty folder.

What a block needs more than that stands before it as a comment that readers do not see:
`test: background` goes on until the end, `test: until WORD` is repeated until it prints the word,
`test: slow` is left to the slow run; the quick one has a bundle that was trained before.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import pytest

from deploy.image.rootfs import cache_folder
from edge_agent.cli import Stages
from edge_agent.contracts.command import DefaultCommandGroup
from edge_agent.contracts.photos import read_picture
from tests.brokers import free_port
from tests.conftest import Kit, Made, find_program
from tests.deploy.image.drives import VIRTUAL
from tests.deploy.image.store import wheels

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
_BLOCK = re.compile(r"(?:<!-- test: (?P<how>[^>]*?) -->\n)?```sh\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Commands of a guide, and how they are to be run."""

    text: str
    how: str


def blocks(guide: str) -> list[Block]:
    found = _BLOCK.finditer((GUIDES / guide).read_text(encoding="utf-8"))
    return [Block(block["text"], block["how"] or "") for block in found]


class Reader:
    """Somebody who follows a guide.

    Args:
        folder: Empty.
        changes: What is different on this machine: texts and what stands for them.
        patience_s: How long to wait for a word.
    """

    def __init__(self, folder: Path, changes: dict[str, str], patience_s: float = 120) -> None:
        self._folder, self._changes, self._patience_s = folder, changes, patience_s
        programs = folder.parent / "programs"
        programs.mkdir()
        (programs / "shelfkit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_agent.cli "$@"\n')
        (programs / "shelfkit").chmod(0o755)
        path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])
        self._environment = os.environ | {"PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}

    def command(self, block: Block) -> list[str]:
        text = block.text
        for here, there in self._changes.items():
            text = text.replace(here, there)
        return ["sh", "-e", "-c", text]

    def follow(self, block: Block) -> str:
        """Run a block to its end, which must be a good one."""
        done = subprocess.run(
            self.command(block),
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def until(self, block: Block, word: str) -> None:
        """Run a block again and again until it prints a word."""
        end = time.monotonic() + self._patience_s
        said = ""
        while time.monotonic() < end:
            done = subprocess.run(
                self.command(block),
                cwd=self._folder,
                env=self._environment,
                capture_output=True,
                text=True,
                check=False,
            )
            said = done.stdout
            if word in said:
                return
            time.sleep(1)
        logs = [f"{path.name}:\n{path.read_text()}" for path in sorted(self._folder.parent.glob("*.log"))]
        pytest.fail("\n".join([f"no {word!r} in {self._patience_s} s: {said}", *logs]))

    @contextmanager
    def beside(self, block: Block, number: int) -> Iterator[None]:
        """Run a block in a terminal of its own until the end."""
        with (self._folder.parent / f"{number}.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(block),
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Long enough to fail at once, where it does; the next block finds out about the rest.
        time.sleep(3)
        assert process.poll() is None, (self._folder.parent / f"{number}.log").read_text()
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def followed(guide: str, reader: Reader, *, quick: bool) -> None:
    with ExitStack() as terminals:
        for number, block in enumerate(blocks(guide)):
            if block.how == "slow" and quick:
                continue
            if block.how == "background":
                terminals.enter_context(reader.beside(block, number))
            elif block.how.startswith("until "):
                reader.until(block, block.how.removeprefix("until "))
            else:
                reader.follow(block)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    mosquitto = find_program("mosquitto")
    find_program("curl")
    # As root, the broker would become a user who cannot read this folder.
    root = "echo 'user root' >> broker/mosquitto.conf\n" if os.geteuid() == 0 else ""
    folder = tmp_path / "followed"
    folder.mkdir()
    return Reader(
        folder,
        {
            "1883": str(free_port()),
            "8080": str(free_port()),
            "/usr/sbin/mosquitto": f"{root}exec {mosquitto}",
            "\nshelfkit dashboard": "\nexec shelfkit dashboard",
        },
    )


@pytest.mark.slow
@pytest.mark.broker
def test_from_a_camera_to_a_dashboard(tmp_path: Path, reader: Reader, bundle_folder: Path) -> None:
    shutil.copytree(bundle_folder, tmp_path / "followed" / "bundle")
    followed("camera-to-dashboard.md", reader, quick=True)
    assert (tmp_path / "followed" / "photos" / "empty").is_dir()


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(1200)
def test_from_a_camera_to_a_dashboard_with_a_model_of_ones_own(reader: Reader) -> None:
    followed("camera-to-dashboard.md", reader, quick=False)


@pytest.mark.vm
@pytest.mark.broker
@pytest.mark.timeout(14400)
def test_from_nothing_to_a_fleet_in_qemu(tmp_path: Path, bundle_folder: Path, made: Made, kit: Kit) -> None:
    """With a system that was installed before, where there is one."""
    for name in ("mosquitto", "curl", *VIRTUAL):
        find_program(name)
    folder = tmp_path / "followed"
    shutil.copytree(bundle_folder, folder / "bundle")
    broker, page, releases = (str(free_port()) for _ in range(3))
    root = "echo 'user root' >> broker/mosquitto.conf\n" if os.geteuid() == 0 else ""
    loopback = f"sed -i 's/^listener {broker}$/& 127.0.0.1/' broker/mosquitto.conf\n"
    cache = os.environ.get("SHELFKIT_TEST_CACHE") or str(cache_folder())
    reader = Reader(
        folder,
        {
            "8883": broker,
            "8080": page,
            "8443": releases,
            "deploy broker": f"deploy broker --port {broker}",
            "--no-login": f"--no-login --port {page}",
            "mosquitto -c": f"{root}{loopback}exec mosquitto -c",
            "\nshelfkit dashboard": "\nexec shelfkit dashboard",
            "shelfkit deploy image wheels --arch amd64 --lock requirements.lock --out wheels": (
                f"cp -r '{wheels(made, kit, 'amd64')}' wheels"
            ),
            "image build": f"image build --cache '{cache}'",
        },
        patience_s=2400,
    )
    followed("fleet-in-qemu.md", reader, quick=False)


def test_the_slots_of_a_shelf_are_drawn_as_the_guide_says(tmp_path: Path) -> None:
    """With a picture in place of the camera."""
    folder = tmp_path / "followed"
    folder.mkdir()
    seen = read_picture(GUIDES.parent / "pictures" / "store.webp")
    cv2.imwrite(str(tmp_path / "seen.png"), cv2.resize(seen, (1920, 1080)))
    camera = "--source v4l2:/dev/video0 --size 1920x1080"
    guide_reader = Reader(folder, {camera: f"--reference '{tmp_path / 'seen.png'}'"})
    followed("draw-slots.md", guide_reader, quick=True)
    assert (folder / "slots.jpg").is_file()
    assert "low_at: 2" in (folder / "shelf" / "planogram.yaml").read_text()


def options(words: list[str]) -> set[str]:
    """Return the options of the command that some words name; an AssertionError where there is none."""
    command: click.Command = Stages()
    while isinstance(command, click.Group):
        context, word = click.Context(command), words[0] if words else ""
        below = None if word.startswith("-") else command.get_command(context, word)
        if below is None:
            assert isinstance(command, DefaultCommandGroup), word
            below = next(iter(command.commands.values()))
        else:
            words = words[1:]
        command = below
    said = [[*parameter.opts, *parameter.secondary_opts] for parameter in command.params]
    return {option for names in said for option in names} | {"--help"}


@pytest.mark.parametrize("guide", sorted(path.name for path in GUIDES.glob("*.md")))
def test_a_guide_names_only_commands_and_options_that_there_are(guide: str) -> None:
    text = (GUIDES / guide).read_text(encoding="utf-8")
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
        lines = block.replace("\\\n", " ")
        for words in re.findall(r"(?:^|[|#$] |/)shelfkit ([a-z][^\n|&>#]*)", lines, re.MULTILINE):
            asked = set(re.findall(r"(?<!\S)--[a-z0-9-]+", words))
            assert asked <= options(words.split()), words
