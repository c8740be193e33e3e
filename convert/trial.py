"""Try a model of unknown origin in a process of its own, before this one touches it.

The runtime is native code: a damaged or forged file that passes its verifier can still abort or crash the
whole process when memory is planned or the first operator runs. A child loads the file, allocates, and
answers two pictures; what kills it is an error here. The child imports the device's classifier and nothing
heavier.

    python -m convert.trial < MODEL        one line of JSON: what the runtime said against it
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.classifier import Classifier, Tensor, TfliteModel
from edge_agent.contracts.bundle import Bundle
from edge_agent.contracts.errors import BundleError

LIMIT_S = 120.0
"""Two pictures through a slow model on a busy machine take seconds."""
_HINT = "the file is damaged or forged: fetch it again, or convert the model again"


def require_run(content: bytes, name: str, *, limit_s: float = LIMIT_S) -> None:
    """Check that the runtime can load a model and run it, without risking this process.

    Args:
        content: A `.tflite` file.
        name: Of the file, for messages.
        limit_s: How long the child may take.

    Raises:
        BundleError: The runtime refused it, died on it, or did not come to an end.
    """
    try:
        done = subprocess.run(
            # Safe path: with -m alone, modules in the current folder would come before the installed ones.
            [sys.executable, "-P", "-m", "convert.trial"],
            input=content,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as exc:
        raise BundleError(
            f"Expected: an answer of {name} within {limit_s:g} s. Received: none.", hint=_HINT
        ) from exc
    if done.returncode:
        how = ending(done.returncode, done.stderr.decode(errors="replace"))
        raise BundleError(
            f"Expected: a model that the TFLite runtime can run in {name}. "
            f"Received: the runtime itself died on this file ({how}).",
            hint=_HINT,
        )
    if said := _said(done.stdout):
        raise BundleError(said, hint=_HINT)


def classifier(bundle: Bundle) -> Classifier:
    """Return a bundle's classifier, its model tried before: whoever made it, hashes only say it is unchanged.

    Raises:
        BundleError: The model cannot be run, or does not fit its manifest.
    """
    require_run(bundle.model.read_bytes(), str(bundle.model))
    return Classifier(bundle)


def ending(code: int, stderr: str) -> str:
    """Say how a process ended: by which signal, or with which last words.

    Args:
        code: As `subprocess` has it: below 0 for a signal.
        stderr: What it wrote there.
    """
    if code < 0:
        known = {entry.value: entry.name for entry in signal.Signals}
        return known.get(-code, f"signal {-code}")
    lines = stderr.strip().splitlines() or [f"exit code {code}"]
    return f"{lines[-1]:.300}".removesuffix(".")


def _said(stdout: bytes) -> str:
    """Return what a child that came to its end said against the model; empty: nothing."""
    try:
        # The runtime may print, too.
        return str(json.loads(stdout.splitlines()[-1])["said"])
    except (ValueError, IndexError, KeyError, TypeError):
        return "Expected: the runtime to come back. Received: it ended the process."


def _try(content: bytes) -> str:
    """Run a model, and return what was wrong with it."""
    try:
        model = TfliteModel(content)
        for picture in _pictures(model.input):
            model.scores(picture)
    except BundleError as exc:
        return str(exc)
    except (ValueError, RuntimeError) as exc:
        return f"Expected: a TFLite model that runs. Received: {' '.join(str(exc).split())[:200]}."
    return ""


def _pictures(tensor: Tensor) -> Iterator[NDArray[Any]]:
    """Yield a black one and one of noise, (height, width, 3), of the input's own type."""
    yield np.zeros(tensor.shape[1:], tensor.dtype)
    yield np.random.default_rng(0).integers(0, 256, tensor.shape[1:], np.uint8).astype(tensor.dtype)


if __name__ == "__main__":
    # A crash that was expected leaves no memory dump in the user's folder.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(json.dumps({"said": _try(sys.stdin.buffer.read())}) + "\n")
