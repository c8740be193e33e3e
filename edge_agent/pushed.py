"""A planogram that came over the air, or was measured anew: it takes the place of the file on the device.

It lies in the state directory, because the configuration may be read-only, and it holds until somebody
changes the file that it took the place of: whoever came last is right. A folder for each, whole or not at
all, and a pointer that is renamed into place: a power cut leaves the old one or the new one.
"""

import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_agent.contracts import planogram, yamlfile
from edge_agent.contracts.errors import ConfigError, DataError, DeviceError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.pictures import kind_of, read_picture, size_of
from edge_agent.contracts.planogram import Planogram

_FOLDER, _POINTER = "planograms", "planogram.json"
_FILE = "planogram.yaml"
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg"}
_MAX_PICTURE_BYTES = 5 * 1024 * 1024
_MAX_TEXT = 1024 * 1024
_MAX_SIDE_PX = 8192


class _Pointer(BaseModel):
    """Which one holds, and the content of the file that it took the place of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    over: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where planograms are on a device.

    Attributes:
        file: The `planogram` of `device.yaml`.
        state_dir: The `state_dir` of `device.yaml`.
    """

    file: Path
    state_dir: Path

    @property
    def now(self) -> Path:
        """The planogram that holds: the pushed one, unless the file has been changed since."""
        try:
            pointer = _Pointer.model_validate_json((self.state_dir / _POINTER).read_bytes())
        except (OSError, ValidationError):
            return self.file
        pushed = self.state_dir / _FOLDER / Path(pointer.folder).name / _FILE
        return pushed if pointer.over == self._identity() and pushed.is_file() else self.file

    def push(self, shelf: Planogram) -> Path:
        """Keep a planogram, and let it hold from now on.

        Args:
            shelf: Checked, with a picture that can be read.

        Returns:
            Its file.

        Raises:
            DeviceError: The disk is full or broken; what held before still does.
        """
        name = planogram.sha256(shelf)[:24]
        room = self.state_dir / _FOLDER
        try:
            if not (room / name / _FILE).is_file():
                with written_beside(room / name) as staged:
                    staged.mkdir()
                    picture = staged / f"reference{shelf.reference.suffix}"
                    picture.write_bytes(shelf.reference.read_bytes())
                    planogram.write(shelf.model_copy(update={"reference": picture}), staged / _FILE)
            with written_beside(self.state_dir / _POINTER) as staged:
                staged.write_text(_Pointer(folder=name, over=self._identity()).model_dump_json())
        except OSError as exc:
            raise DeviceError(
                f"Expected: room for a planogram in {self.state_dir}. Received: {exc.strerror}.",
                hint="free or replace the device's disk",
            ) from exc
        for other in room.iterdir():
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)
        return room / name / _FILE

    def _identity(self) -> str:
        """Return what the file says now, its picture included; also where it is wrong or not there."""
        said = hashlib.sha256()
        with contextlib.suppress(OSError):
            said.update(self.file.read_bytes())
            document = yamlfile.read(self.file, Planogram)
            if document.value is not None:
                said.update((self.file.resolve().parent / document.value.reference).read_bytes())
        return said.hexdigest()


def received(
    text: str, picture: bytes | None, folder: Path, *, before: Path | None, labels: list[str]
) -> Planogram:
    """Check a planogram that came over the air, as a whole.

    Args:
        text: YAML. Whatever `reference` says in it names no file here.
        picture: JPEG or PNG; None: the picture stays the same.
        folder: Where the picture may lie meanwhile.
        before: The picture until now, if there is one.
        labels: Of the bundle.

    Raises:
        ConfigError: Everything that is wrong with it.
        DeviceError: The disk is full.
    """
    if len(text) > _MAX_TEXT:
        raise ConfigError(f"Expected: at most {_MAX_TEXT} characters. Received: {len(text)}.")
    reference = before if picture is None else _kept(picture, folder)
    if reference is None:
        raise ConfigError(
            "Expected: a reference picture with the first planogram. Received: none.",
            hint="send it as base64 in `reference`",
        )
    document = yamlfile.parse(text, Path("planogram"), Planogram)
    return planogram.checked(document, reference, labels).require()


def _kept(picture: bytes, folder: Path) -> Path:
    suffix, size = _SUFFIXES.get(kind_of(picture)), size_of(picture)
    if suffix is None or size is None or max(size) > _MAX_SIDE_PX or len(picture) > _MAX_PICTURE_BYTES:
        raise ConfigError(
            f"Expected: `reference` as JPEG or PNG of at most {_MAX_SIDE_PX} px and {_MAX_PICTURE_BYTES} "
            f"bytes. Received: {kind_of(picture)}, {size or 'unknown'} px, {len(picture)} bytes."
        )
    path = folder / f"reference{suffix}"
    try:
        path.write_bytes(picture)
    except OSError as exc:
        raise DeviceError(f"Expected: room for a picture in {folder}. Received: {exc.strerror}.") from exc
    try:
        read_picture(path, as_named=True)
    except DataError as exc:
        raise ConfigError(f"`reference`: {exc}") from exc
    return path
