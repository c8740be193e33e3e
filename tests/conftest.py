"""Real parts for tests: a broker, databases, a browser, one trained model; each skips where it is missing.

In CI nothing skips: a missing part is a failure there.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.brokers import Mosquitto

# A machine that is busy with something else is no failure; CI looks for longer.
_EXAMPLES = 100 if "CI" in os.environ else 30
hypothesis.settings.register_profile("unhurried", deadline=None, max_examples=_EXAMPLES)
hypothesis.settings.load_profile("unhurried")

# Programs under test are ended with Ctrl-C, which they would not hear of where tests run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

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


Made = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Make a folder once for all test processes that run side by side."""
    base = tmp_path_factory.getbasetemp()
    place = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def make(name: str, maker: Callable[[Path], object]) -> Path:
        folder = place / "made" / name
        folder.parent.mkdir(exist_ok=True)
        with (folder.parent / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                maker(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def photos(made: Made, kit: Kit) -> Path:
    """Rendered training photos."""
    return made("photos", lambda out: kit("agent", "render", "--photos", out, "--seed", 1, "--count", 40))


@pytest.fixture(scope="session")
def run_folder(made: Made, photos: Path, kit: Kit) -> Path:
    """A run directory: a real model, trained on the rendered photos as the demo does."""
    small = ("--image-px", 64, "--epochs", 12, "--name", "demo")
    return made("run", lambda out: kit("train", photos, "--out", out, *small))


@pytest.fixture(scope="session")
def bundle_folder(made: Made, run_folder: Path, kit: Kit) -> Path:
    """A bundle: the same model, int8."""
    return made("bundle", lambda out: kit("convert", "--int8", run_folder, "--out", out))


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
