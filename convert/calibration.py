"""The calibration set: what the quantizer learns the ranges of the activations from.

One picture shown again and again, or one class, gives ranges that hold for nothing else; a holdout
that was calibrated on proves nothing.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import sha256_of_lines
from edge_agent.contracts.run import Samples

LIMIT = 300
"""Pictures are enough beyond a hundred or so: ranges hardly widen (Krishnamoorthi 2018, section 3.1.1)."""
_HINT = "train again with more photos of more classes: `shelfkit train DATA --out RUN`"


def chosen(samples: Samples, holdout: Samples, limit: int = LIMIT) -> Samples:
    """Choose the calibration set: different pictures, the classes by turns.

    Args:
        samples: Training pictures.
        holdout: Pictures of the gate.
        limit: Pictures at most.

    Returns:
        Some of the samples, in the order of their hashes within each turn: the same ones for the same
        pictures.

    Raises:
        DataError: No pictures, those of one class only, mostly the same one again, or some of the holdout.
    """
    if leaked := set(samples.ids) & set(holdout.ids):
        raise DataError(
            f"Expected: calibration pictures that the holdout has not. Received: {len(leaked)} of both, "
            f"e.g. {min(leaked)}.",
            hint=_HINT,
        )
    if not len(samples.ids):
        raise DataError("Expected: pictures to calibrate with. Received: none.", hint=_HINT)
    first = {key: row for row, key in reversed(list(enumerate(samples.ids)))}
    if 2 * len(first) <= len(samples.ids):
        raise DataError(
            f"Expected: different pictures to calibrate with. Received: {len(first)} among "
            f"{len(samples.ids)}, each more than once.",
            hint=_HINT,
        )
    if len(classes := np.unique(samples.labels)) < 2:  # noqa: PLR2004 - a classifier tells two apart
        raise DataError(
            f"Expected: calibration pictures of two classes or more. Received: of class {classes[0]} only.",
            hint=_HINT,
        )
    rows = _by_turns(samples, sorted(first.items()))[:limit]
    return Samples(samples.images[rows], samples.labels[rows], tuple(samples.ids[row] for row in rows))


def _by_turns(samples: Samples, rows: list[tuple[str, int]]) -> list[int]:
    turn = dict.fromkeys(np.unique(samples.labels).tolist(), 0)
    order = []
    for key, row in rows:
        label = int(samples.labels[row])
        order.append((turn[label], label, key, row))
        turn[label] += 1
    return [row for *_, row in sorted(order)]


def with_extremes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add a black and a white picture: without them the input's range is what the photos happen to span.

    Args:
        images: uint8, (n, height, width, 3).
    """
    return np.concatenate([images, np.zeros_like(images[:1]), np.full_like(images[:1], 255)])


def content_hash(ids: Iterable[str]) -> str:
    """Return the sha256 of the pictures' own hashes, hex: which ones they were, in any order."""
    return sha256_of_lines(sorted(ids))
