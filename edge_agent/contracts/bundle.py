"""A bundle: the folder that `convert` writes and the device runs. Format 1.

model.tflite     int8 inside; raw uint8 RGB pixels in
manifest.json    everything the device must know, and the hash of every other file
golden.npz       inputs with a clear top-1 margin, and the scores they must give

There is room for more: other files beside these (a model for another target), and fields that this
version does not know (which file is for which target). Files in the manifest are checked like the
three, fields are kept and written again as they came; a reader that knows neither uses `model.tflite`.

Whatever lies in the folder, `read` answers with a bundle or a BundleError, soon, and in bounded
memory. It opens files again after it has checked them: the folder must be one that only the kit
writes to.
"""

import errno
import hashlib
import io
import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    FiniteFloat,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)
from pydantic_core import to_json

from edge_agent.contracts.arrays import read_npz
from edge_agent.contracts.errors import BundleError, DataError
from edge_agent.contracts.identifiers import Gtin, Label
from edge_agent.contracts.validation import explain

MANIFEST = "manifest.json"
MODEL = "model.tflite"
GOLDEN = "golden.npz"
MAX_MANIFEST_BYTES = 8 * 1024 * 1024
MAX_FILES = 64
"""Beside the manifest; in bytes, all of them together may take `MAX_BYTES`."""
MAX_BYTES = 2**30
_MAX_GOLDEN_BYTES = 64 * 1024 * 1024
"""The kit's own 16 vectors take 55 MB at most: 1024 x 1024 px, 100,000 classes."""
_MAX_SIDE_PX = 1024
_MAX_CLASSES = 100_000
_MAX_PACKAGES = 10_000
_SHOWN = 500
_HINT = "make the bundle again with `shelfkit convert --int8 RUN --out BUNDLE`"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
FileName = Annotated[str, Field(pattern=FILE_NAME)]
"""Plain on every file system and in a tar: no folder, no leading dot, at most 100 ASCII characters."""


def _each(kind: Any, most: int) -> BeforeValidator:  # noqa: ANN401 - a type, or an annotated one
    """Let a mapping be validated only if it is no larger than that and every value is good.

    Pydantic gathers all that is wrong before it says so: with a million bad values, in gigabytes.
    """
    one: TypeAdapter[Any] = TypeAdapter(kind)

    def check(value: object) -> object:
        if not isinstance(value, dict):
            return value
        if len(value) > most:
            msg = f"at most {most} entries, not {len(value)}"
            raise ValueError(msg)
        for key, item in value.items():
            try:
                one.validate_python(item)
            except ValidationError as exc:
                msg = f"{key[:_SHOWN]}: {explain(exc)}"
                raise ValueError(msg) from exc
        return value

    return BeforeValidator(check)


class Part(BaseModel):
    """Base of the manifest: frozen; a newer minor version's fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _with_unknown_nulls(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Keep a null in a field that this version does not know; it may well mean something."""
        fields: dict[str, Any] = handler(self)
        if info.exclude_none:
            fields.update({key: None for key, value in (self.model_extra or {}).items() if value is None})
        return fields


class FileEntry(Part):
    """One file beside the manifest."""

    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=MAX_BYTES)]


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
    """Accuracy, recall and expected calibration error of one form of the model, as fractions of 1."""

    accuracy: Annotated[float, Field(ge=0, le=1)]
    recall: Annotated[dict[str, float], _each(FiniteFloat, _MAX_CLASSES)]
    calibration_error: float | None = None


class RecallDrop(Part):
    """What one class lost, percentage points, with the 95 % interval; negative: it won."""

    n: Annotated[int, Field(ge=1)]
    points: float
    low_points: float
    high_points: float


class Scorecard(Part):
    """Float and int8 on the same holdout; drop in percentage points."""

    n: Annotated[int, Field(ge=1)]
    float32: Score
    int8: Score
    drop_points: float
    agreement: Annotated[float, Field(ge=0, le=1)]
    recall_drop: Annotated[dict[str, RecallDrop], _each(RecallDrop, _MAX_CLASSES)] = {}


class Provenance(Part):
    """Where the model came from.

    `calibration_sha256` is the hash of the calibration pictures' own hashes; `sparsity` and `clusters`
    say how the weights were compressed before they were quantized.
    """

    run_sha256: Sha256
    dataset_sha256: Sha256
    packages: Annotated[dict[str, str], _each(str, _MAX_PACKAGES)]
    quantization: Literal["ptq", "qat", "none", "foreign"]
    quantizer: str | None = None
    calibration_sha256: Sha256 | None = None
    calibration_n: int | None = None
    sparsity: float | None = None
    clusters: int | None = None


class GoldenSpec(Part):
    """How close the golden scores must come: equal top-1, and dequantized scores within this."""

    tolerance: Annotated[float, Field(ge=0)]


class Manifest(Part):
    """`manifest.json`."""

    format: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=128)]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    files: Annotated[dict[FileName, FileEntry], _each(FileEntry, MAX_FILES)]
    labels: Annotated[list[LabelEntry], FailFast(), Field(min_length=2, max_length=_MAX_CLASSES)]
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
            images, scores = read_npz(self.path / GOLDEN, ("images", "scores"), max_bytes=_MAX_GOLDEN_BYTES)
        except DataError as exc:
            raise BundleError(str(exc), hint=_HINT) from exc
        wanted = ("uint8", (self.manifest.input.height, self.manifest.input.width, 3))
        received = (images.dtype.name, images.shape[1:])
        shape = (*images.shape[:1], len(self.manifest.labels))
        if received != wanted or not images.size or (scores.dtype.name, scores.shape) != ("float32", shape):
            raise BundleError(
                f"Expected: golden images, uint8 (n, {wanted[1]}), and their scores, float32. Received: "
                f"{images.dtype.name} {images.shape} and {scores.dtype.name} {scores.shape}.",
                hint=_HINT,
            )
        if not np.isfinite(scores).all():
            raise BundleError(
                "Expected: golden scores that are numbers. Received: NaN or infinity.", hint=_HINT
            )
        return images, scores


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> Bundle:
    """Check a bundle on disk: manifest, sizes, hashes.

    Raises:
        BundleError: Something is missing, damaged, foreign, too large or of a newer format.
    """
    manifest = _read_manifest(path)
    for name in (MODEL, GOLDEN):
        if name not in manifest.files:
            raise BundleError(f"Expected: `{name}` in the manifest's files. Received: none.", hint=_HINT)
    if MANIFEST in manifest.files:
        raise BundleError(
            f"Expected: other files in the manifest. Received: `{MANIFEST}` itself.", hint=_HINT
        )
    if (total := sum(entry.size for entry in manifest.files.values())) > MAX_BYTES:
        raise BundleError(f"Expected: at most {MAX_BYTES} bytes in all. Received: {total}.", hint=_HINT)
    for name, entry in manifest.files.items():
        _check_file(path / name, entry)
    return Bundle(path, manifest)


def open_plain(path: Path, *, hint: str = _HINT) -> io.BufferedReader:
    """Open a plain file, and nothing else: a pipe would keep its reader waiting, a device has no end.

    Raises:
        BundleError: It is missing, cannot be read, or is a link, folder, pipe or device.
    """
    # Non-blocking: opening a pipe waits for its other end. On a plain file it changes nothing.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags)
    except OSError as exc:
        received = "a link" if exc.errno == errno.ELOOP else exc.strerror
        raise BundleError(f"Expected: a plain file at {path}. Received: {received}.", hint=hint) from exc
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleError(f"Expected: a plain file at {path}. Received: a folder, pipe or device.", hint=hint)
    return os.fdopen(handle, "rb")


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not os.path.isdir(path):  # noqa: PTH112 - `Path.is_dir` raises where a name is too long
        raise BundleError(
            f"Expected: a bundle (a folder with {MANIFEST}) at {path}. Received: no folder.", hint=_HINT
        )
    try:
        with open_plain(file) as opened:
            content = opened.read(MAX_MANIFEST_BYTES + 1)
        value = _strict_json(content)
    except OSError as exc:
        raise BundleError(f"Expected: {file}. Received: {exc.strerror}.", hint=_HINT) from exc
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"Expected: JSON in {file}. Received: {str(exc)[:_SHOWN]}.", hint=_HINT) from exc
    if isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > 1:
        raise BundleError(
            f"Expected: bundle format 1. Received: format {str(value['format'])[:_SHOWN]}.",
            hint="update shelfkit on this machine",
        )
    try:
        return Manifest.model_validate(value)
    except (ValidationError, RecursionError) as exc:
        raise BundleError(
            f"Expected: a manifest of format 1 in {file}. Received: {explain(exc)[:_SHOWN]}.", hint=_HINT
        ) from exc


def _strict_json(content: bytes) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read JSON that every reader reads alike, and that can be written again as it came.

    Raises:
        ValueError: Too long, no UTF-8, no JSON, a key twice, a number that is none, half a surrogate
            pair, nested deeper than it can be written.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        msg = f"more than {MAX_MANIFEST_BYTES} bytes"
        raise ValueError(msg)
    text = content.decode("utf-8")
    value = json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)
    to_json(value)  # half of a surrogate pair cannot be, nor what is nested too deep
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        msg = "a key that is there twice"
        raise ValueError(msg)
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        msg = f"{text[:20]}, which is no number"
        raise ValueError(msg)
    return value


def _check_file(path: Path, entry: FileEntry) -> None:
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.size:
                raise BundleError(
                    f"Expected: {path.name} of {entry.size} bytes. Received: {size} bytes.", hint=_HINT
                )
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise BundleError(f"Expected: {path.name} to be read. Received: {exc.strerror}.", hint=_HINT) from exc
    if digest != entry.sha256:
        raise BundleError(
            f"Expected: {path.name} with sha256 {entry.sha256}. Received: {digest}.", hint=_HINT
        )
