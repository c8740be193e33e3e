"""Room on a disk that is kept for the moment when there is none left.

To delete from a SQLite file takes room first: in its log, and in the file when the log is copied
there. On a disk that an outbox itself has filled it could never be emptied again.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

SIZE = 5 * 1024 * 1024
"""Bytes: a log as long as SQLite lets it become (1,000 pages), and something more."""


class Headroom:
    """A file of zeros beside a database.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> None:
        """Take the room, where it is not taken yet and the disk has plenty."""
        if self._path.exists() or shutil.disk_usage(self._path.parent).free < 2 * SIZE:
            return
        try:
            with self._path.open("xb") as file:
                file.write(bytes(SIZE))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                self._path.unlink()

    def give(self) -> bool:
        """Give the room back; return whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
