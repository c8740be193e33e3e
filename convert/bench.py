"""How quick a bundle is on this machine, against its float twin, other runtimes and the bare interpreter.

Every measurement runs in a process of its own (`convert.bench_child`), and the candidates take turns:
what disturbs the machine disturbs them alike. Compare ratios; they are taken turn by turn.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

import convert
import edge_agent
from convert import trial
from edge_agent.classifier import TfliteModel
from edge_agent.contracts import bundle
from edge_agent.contracts import run as runs
from edge_agent.contracts.errors import BundleError, UsageError
from edge_agent.contracts.photos import Progress

TURNS = 5
_PATIENCE_S = 300.0
_PYTHON_HINT = "its environment needs a TFLite runtime, numpy, opencv-python-headless and pydantic"

Form = Literal["bundle", "float"]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python and the TFLite runtime that the device's classifier finds in it."""

    path: str
    runtime: str
    version: str
    python: str

    def __str__(self) -> str:
        return f"{self.runtime} {self.version}, Python {self.python}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is measured: the bundle or its float twin, where, and with how many threads."""

    form: Form
    interpreter: Interpreter
    threads: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What one process measured; times in ms, of one crop.

    Attributes:
        load_ms: From the files to a classifier; they are in the page cache.
        first_ms: The first answer.
        memory_bytes: What the process grew by until then.
        single_ms: Each crop through the classifier by itself.
        block_ms: All crops of a frame through the classifier, per crop.
        bare_ms: The same through the bare interpreter, each measured right after the block.
    """

    load_ms: float
    first_ms: float
    memory_bytes: int
    single_ms: list[float]
    block_ms: list[float]
    bare_ms: list[float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the turns' ratios, with the lowest and the highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Ratio":
        """Return what a ratio was over the turns."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate's turns."""

    candidate: Candidate
    turns: list[Turn]

    def latency_ms(self, percentile: float) -> float:
        """Return a percentile, 0 to 100, of the latency of single crops over all turns."""
        return float(np.percentile([value for turn in self.turns for value in turn.single_ms], percentile))

    def median(self, name: Literal["load_ms", "first_ms", "memory_bytes"]) -> float:
        """Return the median of a figure over the turns."""
        return float(statistics.median(getattr(turn, name) for turn in self.turns))

    def over_bare(self) -> Ratio:
        """Return how many times the bare interpreter's time the classifier takes for the crops of a frame."""
        return Ratio.of(
            [statistics.median(np.divide(turn.block_ms, turn.bare_ms).tolist()) for turn in self.turns]
        )

    def over(self, other: "Measured") -> Ratio:
        """Return how many times the other's latency this one has."""
        return Ratio.of(
            [
                statistics.median(mine.single_ms) / statistics.median(its.single_ms)
                for mine, its in zip(self.turns, other.turns, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two candidates that differ in one thing: how many times the second one's latency the first has."""

    slow: Candidate
    quick: Candidate
    ratio: Ratio


def bench(
    path: Path,
    *,
    float_model: bytes | None,
    pythons: Sequence[str],
    threads: Sequence[int],
    seconds: float,
    progress: Progress[Candidate],
) -> list[Measured]:
    """Measure a bundle.

    Args:
        path: The bundle.
        float_model: A float32 `.tflite` file of the same shapes to compare with; None: no comparison.
        pythons: Interpreters beside this one, whose environments have a TFLite runtime.
        threads: Numbers of threads to measure with.
        seconds: Of measuring each candidate, all turns together.
        progress: Shows how far it is.

    Returns:
        Each candidate's figures, this interpreter's first.

    Raises:
        BundleError: A model cannot be used, or a runtime cannot run it.
        UsageError: An interpreter cannot be used.
    """
    forms: dict[Form, Path] = {"bundle": bundle.read(path).path.absolute()}
    with _stage() as stage:
        if float_model is not None:
            forms["float"] = float_twin(bundle.read(path), float_model, stage / "float")
        found = [_interpreter(stage, python) for python in (sys.executable, *pythons)]
        candidates = [Candidate(*one) for one in product(forms, found, threads)]
        turns: dict[Candidate, list[Turn]] = {candidate: [] for candidate in candidates}
        order = by_turns(candidates, TURNS)
        for candidate in progress(order, len(order)):
            turns[candidate].append(_turn(stage, candidate, forms[candidate.form], seconds / TURNS))
    return [Measured(candidate, turns[candidate]) for candidate in candidates]


def by_turns(candidates: Sequence[Candidate], turns: int) -> list[Candidate]:
    """Return the order of measuring: A B C A B C."""
    return [candidate for _ in range(turns) for candidate in candidates]


def comparisons(found: Sequence[Measured]) -> Iterator[Comparison]:
    """Yield float against the bundle, and each further interpreter against the first."""
    known = {one.candidate: one for one in found}
    first = found[0].candidate.interpreter
    for candidate, measured in known.items():
        others = []
        if candidate.form == "float":
            others.append(Candidate("bundle", candidate.interpreter, candidate.threads))
        if candidate.interpreter != first:
            others.append(Candidate(candidate.form, first, candidate.threads))
        for other in others:
            yield Comparison(candidate, other, measured.over(known[other]))


def float_model(place: Path) -> bytes:
    """Return a float model: a `.tflite` file as it is, or the model of a run directory, converted.

    Raises:
        BundleError: No such file.
        DataError: No run directory, or one that cannot be used.
    """
    if place.is_dir():
        return _converted(runs.read(place))
    try:
        return place.read_bytes()
    except OSError as exc:
        raise BundleError(
            f"Expected: a .tflite file or a run directory at {place}. Received: {exc.strerror}."
        ) from exc


def _converted(run: runs.Run) -> bytes:
    from convert.quantize import float_form  # noqa: PLC0415 - takes seconds
    from convert.trained import network_of  # noqa: PLC0415 - the same

    return float_form(network_of(run), "float32")


def float_twin(original: bundle.Bundle, content: bytes, folder: Path) -> Path:
    """Wrap a float model as a bundle that takes the same crops, as the device would run it: pixels / 255.

    Raises:
        BundleError: It is no float32 model of the same shapes.
    """
    trial.require_run(content, "the float model")
    model, spec = TfliteModel(content), original.manifest.input
    wanted = ((1, spec.height, spec.width, 3), len(original.manifest.labels))
    received = (model.input.shape, model.output.shape[-1] if model.output.shape else 1)
    if model.input.dtype != np.float32 or received != wanted:
        raise BundleError(
            f"Expected: a float32 model with an input of {wanted[0]} and {wanted[1]} outputs. "
            f"Received: {model.input.dtype}, {received[0]} and {received[1]}.",
            hint="compare a bundle with the float model that it was made from",
        )
    shutil.copytree(original.path, folder)
    (folder / bundle.MODEL).write_bytes(content)
    files = original.manifest.files | {
        bundle.MODEL: bundle.FileEntry(sha256=bundle.hash_file(folder / bundle.MODEL), size=len(content))
    }
    pixels = {"pixels": [value / 255 for value in range(256)]}
    manifest = original.manifest.model_copy(update={"files": files, "input": spec.model_copy(update=pixels)})
    (folder / bundle.MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
    return folder


@contextmanager
def _stage() -> Iterator[Path]:
    """Make a folder with nothing but the kit in it: another environment must not see ours."""
    with tempfile.TemporaryDirectory(prefix="shelfkit-bench-") as name:
        for package in (convert, edge_agent):
            (Path(name) / package.__name__).symlink_to(Path(package.__path__[0]).absolute())
        yield Path(name)


def _interpreter(stage: Path, python: str) -> Interpreter:
    path = shutil.which(python)
    if path is None:
        raise UsageError(f"Expected: a Python interpreter. Received: {python!r}, which cannot be run.")
    # Not resolved: a virtual environment's interpreter is a link, and the link's place is what counts.
    path = str(Path(path).absolute())
    try:
        return Interpreter(path, **_ask(stage, path))
    except _ChildError as exc:
        raise UsageError(
            f"Expected: a Python that can run the device's classifier. Received: {python}: {exc}.",
            hint=_PYTHON_HINT,
        ) from exc


def _turn(stage: Path, candidate: Candidate, folder: Path, seconds: float) -> Turn:
    arguments = (str(folder), str(candidate.threads), str(seconds))
    try:
        answer = _ask(stage, candidate.interpreter.path, *arguments)
    except _ChildError as exc:
        raise BundleError(
            f"Expected: {candidate.interpreter} to run the {candidate.form} model. Received: {exc}."
        ) from exc
    return Turn(**answer)


class _ChildError(Exception):
    """What a child said last."""


def _ask(stage: Path, python: str, *arguments: str) -> dict[str, Any]:
    """Run a child and return its answer; raises `_ChildError`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    try:
        done = subprocess.run(
            [python, "-m", "convert.bench_child", *arguments],
            cwd=stage,
            env=environment | {"PYTHONPATH": str(stage)},
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise _ChildError(str(exc)) from exc
    if done.returncode:
        how = trial.ending(done.returncode, done.stderr)
        raise _ChildError(f"the runtime itself died ({how})" if done.returncode < 0 else how)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
