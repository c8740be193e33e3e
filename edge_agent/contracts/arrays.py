"""Arrays in .npz files that came from elsewhere: no pickle, and every kind of damage is one error."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.errors import DataError


def read_npz(path: Path, names: tuple[str, ...]) -> tuple[NDArray[Any], ...]:
    """Return the named arrays of an .npz file, in that order.

    Raises:
        DataError: The file is missing, damaged, pickled, or lacks one of the names.
    """
    try:
        # Opened here: numpy leaves the file open when it turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return tuple(arrays[name] for name in names)
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
        MemoryError,
    ) as exc:
        wanted = ", ".join(names)
        raise DataError(
            f"Expected: the arrays {wanted} in {path}. Received: {exc or type(exc).__name__}."
        ) from exc
