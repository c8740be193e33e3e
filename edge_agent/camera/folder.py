"""A folder of pictures, in the order of their names."""

from pathlib import Path

from edge_agent.camera.base import Camera, Frame
from edge_agent.contracts.dataset import SUFFIXES
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import read_picture


class FolderCamera(Camera):
    """Pictures as frames, one after another as fast as they are read.

    Args:
        path: Of the folder.
        fps: How many pictures make a second.

    Raises:
        DataError: No folder, or no picture in it.
    """

    def __init__(self, path: str, *, fps: float) -> None:
        folder = Path(path)
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        self._files = [file for file in files if file.suffix.lower() in SUFFIXES]
        self._fps = fps
        self._next = 0
        if not self._files:
            raise DataError(f"Expected: a folder with pictures. Received: {path}, which has none.")

    def read(self) -> Frame | None:
        """Return the next picture, or None after the last.

        Raises:
            DataError: A picture cannot be read.
        """
        if self._next >= len(self._files):
            return None
        frame = Frame(read_picture(self._files[self._next]), self._next / self._fps)
        self._next += 1
        return frame
