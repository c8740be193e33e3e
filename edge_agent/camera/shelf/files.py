"""Rendered shelves as files: folders of photos, ground truth, video; written beside and renamed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from edge_agent.camera.shelf import layout, truth
from edge_agent.camera.shelf.film import Film
from edge_agent.camera.shelf.photos import LABELS, shots
from edge_agent.contracts import planogram
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.photos import Progress
from edge_agent.contracts.pictures import jpeg
from edge_agent.contracts.preprocess import Image

_JPEG_QUALITY = 92
_REFERENCE_QUALITY = 95


def write_photos(folder: Path, *, seed: int, count: int, progress: Progress[tuple[str, Image]]) -> None:
    """Write a folder of training photos for each class, `empty` included.

    Args:
        folder: New, or empty.
        seed: Of the photos.
        count: Photos of each class.
        progress: Shows how far it is.

    Raises:
        DataError: The folder has something in it, or cannot be written.
    """
    with _writing(folder):
        if folder.exists() and any(folder.iterdir()):
            raise DataError(
                f"Expected: a new or empty folder. Received: {folder}, which is not empty.",
                hint="name another folder, or remove this one first",
            )
        with written_beside(folder) as staged:
            staged.mkdir()
            for number, (label, image) in enumerate(progress(shots(seed, count), count * len(LABELS))):
                place = staged / label
                place.mkdir(exist_ok=True)
                (place / f"{number:05d}.jpg").write_bytes(jpeg(image, _JPEG_QUALITY))


def write_scene(folder: Path, *, seed: int, minutes: int | None = None) -> None:
    """Write `planogram.yaml`, `reference.jpg` and the ground truth `script.json` of a seed's stream.

    Args:
        folder: New or not; files of these names in it are replaced.
        seed: Of the stream.
        minutes: How long it is; None: as without that option of the camera.

    Raises:
        DataError: The folder cannot be written.
    """
    film = Film(seed, minutes)
    reference = folder.resolve() / "reference.jpg"
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with written_beside(reference) as staged:
            staged.write_bytes(jpeg(film.reference(), _REFERENCE_QUALITY))
        with written_beside(folder / "planogram.yaml") as staged:
            planogram.write(truth.planogram(Path(reference.name)), staged)
        with written_beside(folder / "script.json") as staged:
            staged.write_text(json.dumps(truth.as_json(film.script), indent=1) + "\n", encoding="utf-8")


def write_video(file: Path, *, seed: int, fps: float, progress: Progress[int]) -> None:
    """Write the whole stream of a seed as an MPEG-4 video.

    Args:
        file: Ends in `.mp4`; replaced where it exists.
        seed: Of the stream.
        fps: Frames a second.
        progress: Shows how far it is.

    Raises:
        DataError: The file cannot be written.
    """
    if file.suffix.lower() != ".mp4":
        raise DataError(f"Expected: a file that ends in .mp4. Received: {str(file)!r}.")
    film = Film(seed)
    frames = round(film.script.duration_s * fps)
    with _writing(file), written_beside(file) as staged:
        writer = cv2.VideoWriter(
            str(staged), cv2.VideoWriter.fourcc(*"mp4v"), fps, (layout.WIDTH, layout.HEIGHT)
        )
        if not writer.isOpened():
            raise DataError(f"Expected: a place for a video. Received: {file}, which cannot be written.")
        for number in progress(range(frames), frames):
            writer.write(film.frame(number / fps))
        writer.release()


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise DataError(
            f"Expected: a place that can be written. Received: {place}: {exc.strerror}.",
            hint="check that its folder exists, that it may be written, and that the disk has room",
        ) from exc
