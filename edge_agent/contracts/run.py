"""A run directory: what `train` leaves and `convert` takes.

model.keras        Keras 3, uint8-range pixels scaled to [0, 1] outside the graph, logits out
run.json           configuration, seed, classes, split by content hash, metrics, package versions
calibration.npz    uint8 pictures at model size for the quantizer: images, labels, ids
holdout.npz        the same for the gate; shares no id with training or calibration
report.html        for people
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.contracts.arrays import read_npz
from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.validation import explain

INFO = "run.json"
MODEL = "model.keras"
CALIBRATION = "calibration.npz"
HOLDOUT = "holdout.npz"
REPORT = "report.html"
_HINT = "train again with `shelfkit train DATA --out RUN`"


class RunInfo(BaseModel):
    """`run.json`.

    `config` is what `train.config` wrote; `split` gives the content hashes (sha256 of the decoded
    pixels, hex) of each part: train, validation (for choices), holdout, calibration (some of train).
    `weights_sha256` is that of the trained weights alone: the same run gives the same.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1] = 1
    name: Annotated[str, Field(min_length=1)]
    config: dict[str, Any]
    seed: int
    classes: Annotated[list[LabelEntry], Field(min_length=2)]
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(gt=0)] = 1.0
    unknown_below: Annotated[float, Field(ge=0, le=1)] = 0.0
    dataset_sha256: str
    weights_sha256: str = ""
    split: dict[str, list[str]]
    metrics: dict[str, Any] = {}
    packages: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Samples:
    """Pictures at model size with their truth.

    Attributes:
        images: uint8, (n, height, width, 3), RGB.
        labels: int64, (n,): index into the classes.
        ids: Content hash of each picture, hex.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write `images`, `labels` and `ids` as .npz, without pickle."""
        np.savez_compressed(path, images=self.images, labels=self.labels, ids=np.array(self.ids, dtype="U64"))


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory on disk whose info has been validated."""

    path: Path
    info: RunInfo

    @property
    def model(self) -> Path:
        """The Keras 3 model."""
        return self.path / MODEL

    @property
    def sha256(self) -> str:
        """The run's identity: the hashes of info and model."""
        digest = hashlib.sha256()
        for name in (INFO, MODEL):
            digest.update(hashlib.sha256((self.path / name).read_bytes()).digest())
        return digest.hexdigest()

    def calibration(self) -> Samples:
        """Return the calibration set; never shares a picture with the holdout.

        Raises:
            DataError: Missing, damaged, of another size, or overlapping the holdout.
        """
        calibration, holdout = self._samples(CALIBRATION), self._samples(HOLDOUT)
        if leaked := set(calibration.ids) & set(holdout.ids):
            raise DataError(
                f"Expected: a calibration set disjoint from the holdout. Received: {len(leaked)} pictures in "
                f"both, e.g. {min(leaked)}.",
                hint=_HINT,
            )
        return calibration

    def holdout(self) -> Samples:
        """Return the holdout, which nothing but the gate and the report looks at.

        Raises:
            DataError: Missing, damaged or of another size.
        """
        return self._samples(HOLDOUT)

    def _samples(self, name: str) -> Samples:
        images, labels, ids = read_npz(self.path / name, ("images", "labels", "ids"))
        samples = Samples(images, labels.astype(np.int64), tuple(map(str, ids)))
        wanted = (self.info.height, self.info.width, 3)
        if samples.images.dtype != np.uint8 or samples.images.shape[1:] != wanted:
            raise DataError(
                f"Expected: uint8 pictures of {wanted} in {name}. Received: {samples.images.dtype} "
                f"{samples.images.shape[1:]}.",
                hint=_HINT,
            )
        if not len(samples.images) == len(samples.labels) == len(samples.ids):
            raise DataError(f"Expected: as many labels and ids as pictures in {name}.", hint=_HINT)
        if len(samples.labels) and not 0 <= samples.labels.min() <= samples.labels.max() < len(
            self.info.classes
        ):
            raise DataError(f"Expected: labels below {len(self.info.classes)} in {name}.", hint=_HINT)
        return samples


def read(path: Path) -> Run:
    """Open a run directory.

    Raises:
        DataError: No run directory, or one that is damaged or unfinished.
    """
    try:
        info = RunInfo.model_validate(json.loads((path / INFO).read_text(encoding="utf-8")))
    except OSError as exc:
        raise DataError(
            f"Expected: a run directory (with {INFO}) at {path}. Received: {exc.strerror}.", hint=_HINT
        ) from exc
    except (ValidationError, ValueError) as exc:
        raise DataError(
            f"Expected: a run of format 1 in {path / INFO}. Received: {explain(exc)}.", hint=_HINT
        ) from exc
    if not (path / MODEL).is_file():
        raise DataError(f"Expected: {MODEL} in {path}. Received: none.", hint=_HINT)
    return Run(path, info)
