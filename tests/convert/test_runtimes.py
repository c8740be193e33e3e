"""The same bundle on both TFLite runtimes, each in an environment with the device's packages alone.

The runtimes round differently: scores differ by a few steps of the int8 output, and where a model's two
best answers stand that close, either may be the higher. Everywhere else the label is the same.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import convert
import edge_agent
from edge_agent.contracts import bundle, dataset
from edge_agent.contracts import photos as pictures
from tests.conftest import Kit, Made, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
MODELS = ("demo", "cifar10", "grocerystore")
MOST_STEPS = 10
"""Seen: 1 on the demo's bundle, up to 5 on photos of other things than a model knows."""
NEAR_TIE_STEPS = 4
"""Seen: another label only where the two best were at most 2 steps apart."""
BASE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
OLD = ["tflite-runtime==2.14.0", "numpy<2", "opencv-python-headless<4.12", "pydantic>=2.11,<3"]


@dataclass(frozen=True)
class Environment:
    """What a device has installed."""

    runtime: str
    python: str
    packages: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.runtime}-python{self.python}"


ENVIRONMENTS = (
    Environment("ai-edge-litert", "3.11", tuple(BASE)),
    Environment("ai-edge-litert", "3.13", tuple(BASE)),
    Environment("tflite-runtime", "3.11", tuple(OLD)),
)

ANSWER = """
import json, sys
from pathlib import Path
import numpy as np
from convert.bench_child import about
from edge_agent.classifier import Classifier, TfliteModel
from edge_agent.contracts import bundle

read = bundle.read(Path(sys.argv[1]))
classifier = Classifier(read)
classifier.check_golden()
with np.load(sys.argv[2]) as pictures:
    scores = classifier.scores(pictures["images"])
np.savez(sys.argv[3], scores=scores, scale=TfliteModel(read.model).output.scale)
json.dump(about() | {"numpy": np.__version__}, sys.stdout)
"""


@dataclass(frozen=True)
class Answers:
    """Scores in steps of the int8 output, (n, classes), and what gave them."""

    about: dict[str, str]
    steps: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.asarray(self.steps.argmax(axis=1), np.int64)

    @property
    def margins(self) -> NDArray[np.float64]:
        ranked = np.sort(self.steps, axis=1)
        return np.asarray(ranked[:, -1] - ranked[:, -2])


def output_of(*command: object) -> str:
    """Return what a command prints; empty where it fails."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False).stdout.strip()


def run(*command: object, path: Path | None = None) -> str:
    """Run what must not fail, with the packages of a folder, and return what it prints."""
    own = os.environ if path is None else os.environ | {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [*map(str, command)], cwd=path, env=own, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout


def find_python(version: str) -> str:
    """Return a Python of a version: this one's own, one on PATH, or one that pyenv keeps."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(map(str, pyenv.glob(f"{version}*/bin/python")))
    # Asked each time: pyenv's shims stand on PATH for versions that are not switched on.
    for path in (sys.executable, shutil.which(f"python{version}"), *kept):
        if path and output_of(path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])") == version:
            return path
    missing(f"Python {version}", f"install it, for example: pyenv install {version}")
    raise AssertionError  # `missing` has left


@pytest.fixture(scope="session")
def environment(made: Made) -> Callable[[Environment], Path]:
    """Make an environment once, and return its Python."""

    def build(wanted: Environment, folder: Path) -> None:
        python = find_python(wanted.python)
        try:
            run(python, "-m", "venv", folder)
            run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *wanted.packages)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    return lambda wanted: made(str(wanted), lambda folder: build(wanted, folder)) / "bin" / "python"


@pytest.fixture(scope="session")
def kit_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the kit's packages: no environment must see another's."""
    folder = tmp_path_factory.mktemp("kit")
    for package in (convert, edge_agent):
        (folder / package.__name__).symlink_to(package.__path__[0])
    return folder


@pytest.fixture(scope="session", params=MODELS)
def model(request: pytest.FixtureRequest) -> Path:
    """One bundle after another."""
    if request.param == "demo":
        folder: Path = request.getfixturevalue("bundle_folder")
        return folder
    return ROOT / "benchmarks" / "models" / str(request.param)


@pytest.fixture(scope="session")
def answers(
    model: Path,
    seen: NDArray[np.uint8],
    environment: Callable[[Environment], Path],
    kit_alone: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Answers]:
    """What each environment makes of the same pictures: rendered, noise, and the golden ones."""
    folder = tmp_path_factory.mktemp(model.name)
    np.savez(folder / "pictures.npz", images=seen)
    found = []
    for place in map(environment, ENVIRONMENTS):
        files = (model.absolute(), folder / "pictures.npz", folder / "scores.npz")
        about = json.loads(run(place, "-c", ANSWER, *files, path=kit_alone))
        with np.load(folder / "scores.npz") as told:
            steps = told["scores"].astype(np.float64) / float(told["scale"])
        found.append(Answers(about, steps))
    return found


@pytest.fixture(scope="session")
def seen(model: Path, photos: Path) -> NDArray[np.uint8]:
    """Pictures at the model's size: uint8, (n, height, width, 3), RGB; 64 of them noise."""
    read = bundle.read(model)
    height, width = read.manifest.input.height, read.manifest.input.width
    rendered, _ = pictures.decode(dataset.read(photos), height, width)
    noise = np.random.default_rng(1).integers(0, 256, (64, height, width, 3), np.uint8)
    return np.concatenate([rendered.images, noise, read.golden()[0]])


def test_each_environment_is_what_it_says(answers: list[Answers]) -> None:
    for wanted, found in zip(ENVIRONMENTS, answers, strict=True):
        assert found.about["runtime"] == wanted.runtime
        assert found.about["python"].startswith(f"{wanted.python}.")
    assert answers[-1].about["version"] == "2.14.0"
    assert [found.about["numpy"].split(".")[0] for found in answers] == ["2", "2", "1"]


def test_one_runtime_gives_the_same_bits_on_every_python(answers: list[Answers]) -> None:
    one, other, _ = answers
    assert one.about["version"] == other.about["version"]
    assert np.array_equal(one.steps, other.steps)


def test_both_runtimes_give_the_same_labels(answers: list[Answers], model: Path) -> None:
    for one, other in pairwise(answers):
        turned = one.labels != other.labels
        assert np.abs(one.steps - other.steps).max() <= MOST_STEPS
        assert one.margins[turned].max(initial=0.0) <= NEAR_TIE_STEPS
        assert turned.mean() < 0.05
        if model.name == "bundle":
            # Of what a model was trained on, it is sure.
            assert not turned.any()


def test_all_environments_are_measured_in_one_run(
    environment: Callable[[Environment], Path], bundle_folder: Path, kit: Kit
) -> None:
    pythons = [item for place in map(environment, ENVIRONMENTS) for item in ("--python", place)]
    options = ("--threads", "1", "--seconds", 1, "--json")
    figures = json.loads(kit("convert", "bench", bundle_folder, *pythons, *options).stdout)
    _, *rows = figures["measured"]
    assert [row["runtime"] for row in rows] == [wanted.runtime for wanted in ENVIRONMENTS]
    assert all(row["median_ms"] > 0 < row["memory_bytes"] for row in rows)
    slow = [pair["slow"]["runtime"] for pair in figures["comparisons"]]
    assert slow == ["ai-edge-litert", "ai-edge-litert", "tflite-runtime"]
