"""One measurement in a process of its own, so that load time and memory are honest.

    python -m convert.bench_child                            what would run here, as JSON
    python -m convert.bench_child BUNDLE THREADS SECONDS     one measurement, as JSON

Imports only the device's classifier and what that needs, so that any Python with a TFLite runtime can
run it. No typer, no rich, nothing of the rest of `convert`.
"""

import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent import classifier as device
from edge_agent.contracts import bundle

_CROPS = 8
"""Slots of one frame: enough for a block that a clock can tell, few enough for a slow model."""
_WARM_UP_S = 0.2
_DIGITS = 6


def about() -> dict[str, str]:
    """Return which Python and runtime this is."""
    name = device._interpreter().__module__.split(".", maxsplit=1)[0].replace("_", "-")  # noqa: SLF001 - names the runtime, loads no model
    return {"runtime": name, "version": version(name), "python": platform.python_version()}


def measure(folder: Path, *, threads: int, seconds: float) -> dict[str, Any]:
    """Load a bundle and time it on its own golden pictures.

    Three things by turns, a block of crops each: the classifier on single crops, the classifier on all
    of them, and the bare interpreter in a loop on what the classifier gave it.

    Args:
        folder: The bundle.
        threads: For the runtime.
        seconds: How long; each thing is done once at least.

    Returns:
        `load_ms` from the files to a classifier, `first_ms` of its first answer, `memory_bytes` that the
        process grew by until then, `single_ms` of each crop, and `block_ms` and `bare_ms` of each block,
        per crop.
    """
    about()  # the runtime is imported before the clock runs
    golden, _ = bundle.read(folder).golden()
    crops = golden[np.arange(_CROPS) % len(golden)]
    before, begin = _resident_bytes(), time.perf_counter()
    classifier = device.Classifier(bundle.read(folder), threads=threads)
    loaded = time.perf_counter()
    classifier.scores(crops[:1])
    answered = time.perf_counter()
    bare = _Bare(classifier, crops)
    grown = _resident_bytes() - before
    _timed(classifier, bare, crops, min(_WARM_UP_S, seconds))
    return {
        "load_ms": 1000 * (loaded - begin),
        "first_ms": 1000 * (answered - loaded),
        "memory_bytes": grown,
        **_timed(classifier, bare, crops, seconds),
    }


class _Bare:
    """The classifier's own interpreter in the plainest loop there is."""

    def __init__(self, classifier: device.Classifier, crops: device.Images) -> None:
        model = classifier._model  # noqa: SLF001 - what the kit adds is measured against what is inside
        self._interpreter = model._interpreter  # noqa: SLF001 - the same
        self._input, self._output = model.input.index, model.output.index
        self._fed: list[NDArray[Any]] = []
        for crop in crops:
            classifier.scores(crop[None])
            self._fed.append(self._interpreter.get_tensor(self._input))

    def run(self) -> None:
        for fed in self._fed:
            self._interpreter.set_tensor(self._input, fed)
            self._interpreter.invoke()
            self._interpreter.get_tensor(self._output)


def _timed(
    classifier: device.Classifier, bare: _Bare, crops: device.Images, seconds: float
) -> dict[str, list[float]]:
    clock = time.perf_counter
    singles: list[float] = []
    blocks: list[float] = []
    bares: list[float] = []
    end = clock() + seconds
    while not bares or clock() < end:
        marks = [clock()]
        for crop in crops:
            classifier.scores(crop[None])
            marks.append(clock())
        singles += np.diff(marks).tolist()
        begin = clock()
        classifier.scores(crops)
        middle = clock()
        bare.run()
        blocks.append((middle - begin) / len(crops))
        bares.append((clock() - middle) / len(crops))
    named = {"single_ms": singles, "block_ms": blocks, "bare_ms": bares}
    return {name: [round(1000 * value, _DIGITS) for value in values] for name, values in named.items()}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    _, *arguments = sys.argv
    result: dict[str, Any] = (
        measure(Path(arguments[0]), threads=int(arguments[1]), seconds=float(arguments[2]))
        if arguments
        else about()
    )
    json.dump(result, sys.stdout)
