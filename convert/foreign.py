"""Model files that nobody here trained, as float networks: Keras 3, Keras 2, SavedModel.

A model file is a program: nothing is loaded that brings Python code of its own.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from convert import checks
from convert.checks import Output
from convert.pixels import Pixels
from convert.source import Network
from edge_agent.contracts.bundle import hash_file
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.photos import sha256_of_lines

Kind = Literal["keras", "h5", "savedmodel", "tflite"]

_KINDS = "a .keras, .h5 or .tflite file or a SavedModel folder"


def kind_of(path: Path) -> Kind:
    """Say what a model file is, by its content.

    Raises:
        DataError: Nothing there, or something else.
    """
    if (path / "saved_model.pb").is_file():
        return "savedmodel"
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as exc:
        said = "a folder without saved_model.pb" if path.is_dir() else exc.strerror
        raise DataError(f"Expected: {_KINDS} at {path}. Received: {said}.") from exc
    signatures: dict[Kind, bool] = {
        "tflite": head[4:] == b"TFL3",
        "keras": head.startswith(b"PK\x03\x04"),
        "h5": head == b"\x89HDF\r\n\x1a\n",
    }
    for kind, here in signatures.items():
        if here:
            return kind
    raise DataError(
        f"Expected: {_KINDS}. Received: {path}, {path.stat().st_size} bytes that are none of them.",
        hint="convert models of other frameworks to TFLite with their own tools first",
    )


def sha256_of(path: Path) -> str:
    """Return the identity of a model: of a file its sha256, of a folder that of its files in sorted order."""
    if not path.is_dir():
        return hash_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of_lines(f"{file.relative_to(path).as_posix()} {hash_file(file)}" for file in files)


def load(path: Path, pixels: Pixels, *, classes: int, output: Output | None) -> Network:
    """Load a float model.

    Args:
        path: A model of a kind other than tflite.
        pixels: What it expects.
        classes: As many as it must give scores for.
        output: What comes out; None: found out by asking it.

    Returns:
        The network; shown to give finite scores.

    Raises:
        DataError: It cannot be loaded, is no classifier of RGB pictures of one size, or has weights that are
            no numbers.
        UsageError: It gives something else than `output`.
    """
    kind = kind_of(path)
    network = _network(path, kind, pixels, classes)
    pictures = checks.noise(network.height, network.width, 8)
    scores = network.scores(pictures)
    if not np.isfinite(scores).all():
        raise DataError(
            f"Expected: finite scores of {path}. Received: NaN or infinity.",
            hint="the model computes no numbers; train it again",
        )
    found = output or checks.output_of(scores)
    if output == "probabilities" and checks.output_of(scores) == "logits":
        raise UsageError(
            f"Expected: probabilities, as --output says. Received: scores that add up to "
            f"{scores.sum(axis=1)[0]:g}.",
            hint="leave --output out; it is found out",
        )
    return replace(network, output=found)


def _network(path: Path, kind: Kind, pixels: Pixels, classes: int) -> Network:
    # Each brings a framework along, which takes seconds to import.
    if kind == "savedmodel":
        from convert import saved_models  # noqa: PLC0415

        return saved_models.network(path, pixels, classes)
    if kind == "tflite":
        raise UsageError(
            "Expected: a float network to quantize. Received: a TFLite model.",
            hint="a ready .tflite is imported as it is",
        )
    from convert import keras_files  # noqa: PLC0415

    return keras_files.network(path, kind, pixels, classes)
