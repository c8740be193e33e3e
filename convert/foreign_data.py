"""Photos for a model that nobody here trained: some to calibrate with, others to judge by."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert import labelled
from convert.calibration import content_hash
from edge_agent.contracts import photos
from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.photos import Photo, Pictures, Progress, Rejected
from edge_agent.contracts.run import Samples


@dataclass(frozen=True, slots=True)
class Photos:
    """Two disjoint sets, and what was left out."""

    calibration: Samples
    holdout: Samples
    rejected: list[Rejected]

    @property
    def sha256(self) -> str:
        """The hash of the photos' own hashes, hex."""
        return content_hash([*self.calibration.ids, *self.holdout.ids])


def read(
    data: Path, classes: list[LabelEntry], height: int, width: int, *, seed: int, progress: Progress[Photo]
) -> Photos:
    """Read labelled photos and share them out.

    A data set that names its parts keeps them: train calibrates, test (or val) judges. Any other is cut
    in half by seed, each class by itself; photos of one group, and copies of one photo, stay on one side.

    Args:
        data: Any layout of `contracts.dataset`.
        classes: Of the model.
        height: Of its input, px.
        width: Of its input, px.
        seed: Of the cut.
        progress: Shows how far it is.

    Raises:
        DataError: The photos cannot be used, or have classes that the model does not know.
    """
    found = labelled.read(data, [entry.label for entry in classes])
    pictures, rejected = labelled.decode(found, height, width, progress)
    judge = _held(pictures, seed)
    return Photos(_samples(pictures, ~judge), _samples(pictures, judge), rejected)


def _held(pictures: Pictures, seed: int) -> NDArray[np.bool_]:
    parts = [photo.part for photo in pictures.photos]
    held = labelled.judging(pictures.photos)
    if held is not None and "train" in parts:
        return np.array([part == held for part in parts])
    rng = np.random.default_rng(seed)
    judge = np.zeros(len(pictures), bool)
    groups = photos.together(pictures, np.arange(len(pictures)))
    taken: dict[int, bool] = {}
    for label in np.unique(pictures.labels):
        for place, row in enumerate(rng.permutation(np.flatnonzero(pictures.labels == label))):
            judge[row] = taken.setdefault(int(groups[row]), place % 2 == 1)
    return judge


def _samples(pictures: Pictures, chosen: NDArray[np.bool_]) -> Samples:
    taken = pictures.take(np.flatnonzero(chosen))
    return Samples(taken.images, taken.labels, taken.ids)
