"""Data sets that are known by name and come over the network."""

import contextlib
import hashlib
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts import dataset
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Dataset, Rejected

CIFAR10 = "cifar10"
_CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_TIMEOUT_S = 30.0


def cifar10() -> Dataset:
    """Return CIFAR-10 (Krizhevsky 2009) as `keras.datasets` has it: 50,000 training and 10,000 test pictures.

    Training pictures that are in the test set, too, are left out and listed.

    Raises:
        DataError: It is neither here (in KERAS_HOME) nor can it be downloaded.
    """
    (x_train, y_train), (x_test, y_test) = cifar10_arrays()
    found = dataset.from_arrays(
        Path(CIFAR10), {"train": (x_train, y_train), "test": (x_test, y_test)}, _CIFAR10_CLASSES
    )
    return without_twins(found, x_train, x_test)


def without_twins(found: Dataset, x_train: NDArray[np.uint8], x_test: NDArray[np.uint8]) -> Dataset:
    """Return the data set less the training pictures that are in its test part, too.

    Args:
        found: Of both arrays, training first.
        x_train: uint8, (n, ...).
        x_test: uint8, (m, ...).
    """
    tested = {_digest(image): number for number, image in enumerate(x_test)}
    twins = {row: tested[digest] for row, image in enumerate(x_train) if (digest := _digest(image)) in tested}
    rejected = [
        Rejected(
            f"train/{row}", f"Expected: a picture of training alone. Received: the same as test/{other}."
        )
        for row, other in twins.items()
    ]
    photos = [photo for row, photo in enumerate(found.photos) if row not in twins]
    return Dataset(found.path, found.classes, photos, [*found.rejected, *rejected], found.coarse)


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def cifar10_arrays() -> Any:  # noqa: ANN401 - Keras has no types
    """Return Keras' own copy: (x_train, y_train), (x_test, y_test); it downloads it on the first call.

    Raises:
        DataError: It is neither here (in KERAS_HOME) nor can it be downloaded.
    """
    import keras  # noqa: PLC0415 - takes seconds, and nothing else here needs it

    waited = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)  # Keras has none: a network that swallows packets would hang it
    try:
        # Standard output is for results; Keras tells there how far it is.
        with contextlib.redirect_stdout(sys.stderr):
            return keras.datasets.cifar10.load_data()
    except Exception as exc:
        raise DataError(
            f"Expected: CIFAR-10 from keras.datasets. Received: {str(exc)[:300] or type(exc).__name__}.",
            hint="connect to the Internet once (it stays in KERAS_HOME), or name an .npz file with x_train, "
            "y_train, x_test, y_test, or a folder of photos",
        ) from exc
    finally:
        socket.setdefaulttimeout(waited)
