"""Files and folders that appear whole or not at all: written beside, flushed, renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """Give a name next to a target to write a file or folder under; it takes the target's place at the end.

    Whatever is there when the block is left by an error is removed, and the target is as it was. An
    existing file is replaced; an existing folder must be empty.

    Args:
        target: File or folder; the folder that it lies in is made.

    Raises:
        OSError: It cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=".tmp-", dir=target.parent))
    try:
        staged = room / target.name
        yield staged
        for path in [*staged.rglob("*"), staged]:
            flush(path)
        staged.replace(target)
        flush(target.parent)
    finally:
        shutil.rmtree(room)


def flush(path: Path) -> None:
    """Make sure that a file's content, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
