"""Write a bundle: beside, verified by the device's own code, flushed, renamed."""

import zlib
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle
from edge_agent.contracts.errors import BundleError, GateError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.scoring import Floats

_GOLDENS = 16
_TOLERANCE_STEPS = 64
"""Runtimes differ by up to 50 steps of the output on one file; a golden input's margin is far wider."""
_PACKAGES = ("shelfkit", "tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer", "numpy")


def packages() -> dict[str, str]:
    """Return the versions that decide what comes out."""
    return {package: version(package) for package in _PACKAGES}


@dataclass(frozen=True, slots=True)
class Goldens:
    """Inputs, uint8 (n, height, width, 3), scores, float32 (n, classes), and how far off is still right."""

    images: NDArray[np.uint8]
    scores: Floats
    tolerance: float


def goldens(images: NDArray[np.uint8], scores: Floats, step: float) -> Goldens:
    """Choose inputs with the clearest top-1 margins, the classes by turns.

    Every margin is wider than the tolerance, so that no runtime's rounding turns an answer. A model
    that is sure of little gets a tolerance below its widest margin: stricter, and never void.

    Args:
        images: Candidates, uint8 (n, height, width, 3).
        scores: What the int8 model gives for them, float32 (n, classes).
        step: Of the output tensor: its scale.

    Raises:
        GateError: The model says the same of everything.
    """
    ranked = np.sort(scores, axis=1)
    margins = ranked[:, -1] - ranked[:, -2]
    widest = float(margins.max(initial=0.0))
    if widest <= 0.0:
        raise GateError(
            f"Expected: a model that prefers one class for some photo. Received: none among {len(images)}.",
            hint="train again: this model tells nothing apart",
        )
    tolerance = min(_TOLERANCE_STEPS * step, 0.9 * widest)
    turn: Counter[int] = Counter()
    order: list[tuple[int, int, int]] = []
    for place, row in enumerate(np.argsort(-margins, kind="stable")):
        top = int(scores[row].argmax())
        if margins[row] > tolerance:
            order.append((turn[top], place, int(row)))
            turn[top] += 1
    chosen = [row for _, _, row in sorted(order)[:_GOLDENS]]
    return Goldens(images[chosen], scores[chosen], tolerance)


def packed_bytes(content: bytes) -> int:
    """Return the size of a file once deflated, as an archive or a web server would send it."""
    return len(zlib.compress(content, 9))


def write(out: Path, content: bytes, described: bundle.Manifest, golden: Goldens) -> bundle.Bundle:
    """Write a bundle folder; it appears whole and proven to load, or not at all.

    Raises:
        BundleError: It cannot be written, or what was written does not load.
    """
    try:
        with written_beside(out) as staged:
            staged.mkdir()
            (staged / bundle.MODEL).write_bytes(content)
            np.savez_compressed(staged / bundle.GOLDEN, images=golden.images, scores=golden.scores)
            files = {
                file.name: bundle.FileEntry(sha256=bundle.hash_file(file), size=file.stat().st_size)
                for file in sorted(staged.iterdir())
            }
            text = described.model_copy(update={"files": files}).model_dump_json(indent=1, exclude_none=True)
            (staged / bundle.MANIFEST).write_text(text + "\n", encoding="utf-8")
            Classifier(bundle.read(staged)).check_golden()
    except OSError as exc:
        raise BundleError(
            f"Expected: room for a bundle. Received: {out}: {exc.strerror}.",
            hint="check that the folder may be written and the disk has room",
        ) from exc
    return bundle.read(out)
