"""A bundle: the folder that `convert` writes and the device runs. Format 1.

model.tflite     int8 inside; raw uint8 RGB pixels in
manifest.json    everything the device must know, and the hash of every other file
golden.npz       inputs with a clear top-1 margin, and the scores they must give
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
from edge_agent.contracts.errors import BundleError, DataError
from edge_agent.contracts.identifiers import Gtin, Label
from edge_agent.contracts.validation import explain

MANIFEST = "manifest.json"
MODEL = "model.tflite"
GOLDEN = "golden.npz"
_MAX_MANIFEST_BYTES = 8 * 1024 * 1024
_MAX_SIDE_PX = 1024
_HINT = "make the bundle again with `shelfkit convert --int8 RUN --out BUNDLE`"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """Base of the manifest: frozen; a newer minor version's fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class FileEntry(Part):
    """One file beside the manifest."""

    sha256: Sha256
    size: Annotated[int, Field(ge=1)]


class LabelEntry(Part):
    """One class of the model, in the order of its outputs."""

    label: Label
    name: str = ""
    gtin: Gtin | None = None


class InputSpec(Part):
    """How a picture becomes the input tensor.

    Kit models take raw uint8 RGB as it is (`pixels: "raw"`). An imported model may carry a table
    of 256 tensor values instead, one per pixel value.
    """

    height: Annotated[int, Field(ge=1, le=_MAX_SIDE_PX)]
    width: Annotated[int, Field(ge=1, le=_MAX_SIDE_PX)]
    channels: Literal["RGB"] = "RGB"
    resize: Literal["area-bilinear"] = "area-bilinear"
    pixels: Literal["raw"] | Annotated[list[float], Field(min_length=256, max_length=256)] = "raw"


class OutputSpec(Part):
    """What comes out; scale and zero point are read from the tensor itself."""

    kind: Literal["logits", "probabilities"] = "logits"


class Calibration(Part):
    """What turns scores into probabilities that mean what they say."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    unknown_below: Annotated[float, Field(ge=0, le=1)] = 0.0


class Score(Part):
    """Accuracy and recall of one form of the model, as fractions of 1."""

    accuracy: Annotated[float, Field(ge=0, le=1)]
    recall: dict[str, float]


class Scorecard(Part):
    """Float and int8 on the same holdout; drop in percentage points."""

    n: Annotated[int, Field(ge=1)]
    float32: Score
    int8: Score
    drop_points: float
    agreement: Annotated[float, Field(ge=0, le=1)]


class Provenance(Part):
    """Where the model came from."""

    run_sha256: Sha256
    dataset_sha256: Sha256
    packages: dict[str, str]
    quantization: Literal["ptq", "qat", "none", "foreign"]


class GoldenSpec(Part):
    """How close the golden scores must come: equal top-1, and dequantized scores within this."""

    tolerance: Annotated[float, Field(ge=0)]


class Manifest(Part):
    """`manifest.json`."""

    format: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=128)]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    files: dict[str, FileEntry]
    labels: Annotated[list[LabelEntry], Field(min_length=2, max_length=100_000)]
    input: InputSpec
    output: OutputSpec = OutputSpec()
    calibration: Calibration = Calibration()
    golden: GoldenSpec
    scorecard: Scorecard | None = None
    provenance: Provenance

    @property
    def label_names(self) -> list[str]:
        """The labels, in the order of the model's outputs."""
        return [entry.label for entry in self.labels]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose every file has the size and hash that its manifest says."""

    path: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The TFLite model."""
        return self.path / MODEL

    @property
    def sha256(self) -> str:
        """The bundle's identity: the hash of its manifest, which holds all the others."""
        return hash_file(self.path / MANIFEST)

    def golden(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return golden inputs, uint8 (n, height, width, 3) RGB, and scores, float32 (n, classes).

        Raises:
            BundleError: The file holds something else.
        """
        try:
            images, scores = read_npz(self.path / GOLDEN, ("images", "scores"))
        except DataError as exc:
            raise BundleError(str(exc), hint=_HINT) from exc
        wanted = (self.manifest.input.height, self.manifest.input.width, 3)
        shape = (len(images), len(self.manifest.labels))
        if images.dtype != np.uint8 or images.shape[1:] != wanted or scores.shape != shape or not len(images):
            raise BundleError(
                f"Expected: uint8 golden images of {wanted}, and their scores. "
                f"Received: {images.dtype} {images.shape} and {scores.shape}.",
                hint=_HINT,
            )
        return images, scores.astype(np.float32)


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> Bundle:
    """Check a bundle on disk: manifest, sizes, hashes.

    Raises:
        BundleError: Something is missing, damaged, foreign or of a newer format.
    """
    manifest = _read_manifest(path)
    for name in (MODEL, GOLDEN):
        if name not in manifest.files:
            raise BundleError(f"Expected: `{name}` in the manifest's files. Received: none.", hint=_HINT)
    for name, entry in manifest.files.items():
        if Path(name).name != name or name in {"", ".", "..", MANIFEST}:
            raise BundleError(f"Expected: plain file names in the manifest. Received: {name!r}.", hint=_HINT)
        _check_file(path / name, entry)
    return Bundle(path, manifest)


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        if file.stat().st_size > _MAX_MANIFEST_BYTES:
            raise BundleError(f"Expected: a manifest of at most {_MAX_MANIFEST_BYTES} bytes.", hint=_HINT)
        value: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise BundleError(
            f"Expected: a bundle (a folder with {MANIFEST}) at {path}. Received: {exc.strerror}.", hint=_HINT
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"Expected: JSON in {file}. Received: {exc}.", hint=_HINT) from exc
    if isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > 1:
        raise BundleError(
            f"Expected: bundle format 1. Received: format {value['format']}.",
            hint="update shelfkit on this machine",
        )
    try:
        return Manifest.model_validate(value)
    except (ValidationError, RecursionError) as exc:
        raise BundleError(
            f"Expected: a manifest of format 1 in {file}. Received: {explain(exc)}.", hint=_HINT
        ) from exc


def _check_file(path: Path, entry: FileEntry) -> None:
    try:
        size = path.stat().st_size
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"Expected: a plain file {path.name}. Received: a link or folder.", hint=_HINT)
    except OSError as exc:
        raise BundleError(
            f"Expected: {path.name} in the bundle. Received: {exc.strerror}.", hint=_HINT
        ) from exc
    if size != entry.size:
        raise BundleError(f"Expected: {path.name} of {entry.size} bytes. Received: {size} bytes.", hint=_HINT)
    if (digest := hash_file(path)) != entry.sha256:
        raise BundleError(
            f"Expected: {path.name} with sha256 {entry.sha256}. Received: {digest}.", hint=_HINT
        )
