"""Real parts for tests: a broker, databases, a browser, one trained model; each skips where it is missing.

In CI nothing skips: a missing part is a failure there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto

CI = bool(os.environ.get("CI"))


def missing(what: str, how: str) -> None:
    """Skip at home, fail in CI."""
    message = f"{what} is missing; {how}"
    if CI:
        pytest.fail(message)
    pytest.skip(message)


def find_program(name: str) -> str:
    """Return where a program is; Debian puts servers where only root's PATH leads."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if path is None:
        missing(name, f"install it, for example: apt install {name}")
    return str(path)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker on a free port of 127.0.0.1, with a configuration of its own."""
    with Mosquitto(find_program("mosquitto"), tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder with real photos, a real clip and reference models."""
    place = os.environ.get("SHELFKIT_DATA")
    folder = Path(place) if place else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "README.md").is_file():
        pytest.skip("no real photos and clips here; point SHELFKIT_DATA at them")
    return folder


Kit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def kit() -> Kit:
    """Run one command of the kit as a user does, in a process of its own."""

    def run(*arguments: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env=environment,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, kit: Kit) -> Path:
    """Rendered training photos."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    kit("agent", "render", "--photos", folder, "--seed", 1, "--count", 50)
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, photos: Path, kit: Kit) -> Path:
    """A run directory: a real model, trained on the rendered photos as the demo does."""
    folder = tmp_path_factory.mktemp("run") / "run"
    kit("train", photos, "--out", folder, "--image-px", 64, "--epochs", 12, "--name", "demo")
    return folder


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory, run_folder: Path, kit: Kit) -> Path:
    """A bundle: the same model, int8."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    kit("convert", "--int8", run_folder, "--out", folder)
    return folder


@pytest.fixture
def device(tmp_path: Path, bundle_folder: Path, kit: Kit) -> Path:
    """A folder with a rendered scene and a device.yaml that fits it; `write_device` changes it."""
    kit("agent", "render", "--scene", tmp_path, "--seed", 7)
    write_device(tmp_path, bundle_folder)
    return tmp_path


def write_device(
    folder: Path, bundle: Path, *, port: int = 1, source: str = "shelf:seed=7", **more: str
) -> Path:
    """Write a `device.yaml`; `more` replaces or adds lines by key."""
    lines = {
        "device": "cam-12-01",
        "store": '"0417"',
        "state_dir": "state",
        "bundle": f'"{bundle}"',
        "camera": f'{{source: "{source}", fps: 5}}',
        "planogram": "planogram.yaml",
        "rules": "{confirm_s: 1.2, clear_s: 1}",
        "broker": f"{{host: 127.0.0.1, port: {port}}}",
        "metrics": "{port: 0}",
    } | more
    path = folder / "device.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return path
