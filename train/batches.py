"""Training batches: each is decided by the seed and its number alone, so that a run can go on anywhere."""

from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_agent.contracts.photos import Pictures
from train.augment import augment, mixed
from train.config import TrainConfig

Floats = NDArray[np.float32]
_HEAVIEST = 10.0
_AHEAD = 4
_MAKERS = 2


class Batches:
    """Shuffled, augmented, mixed photos with their truth and weight.

    Args:
        pictures: All photos; may lie on disk.
        rows: Those to train on.
        config: Decides the rest.
        classes: How many there are.
    """

    def __init__(
        self, pictures: Pictures, rows: NDArray[np.int64], config: TrainConfig, classes: int
    ) -> None:
        self._images, self._labels, self._rows, self._config = pictures.images, pictures.labels, rows, config
        self._size = min(config.batch_size, len(rows))
        self._weights = class_weights(pictures.labels[rows], classes)
        self._truth = np.eye(classes, dtype=np.float32)
        # Drawn once an epoch, not once a batch: it takes time by the row. Around its end two are in use.
        self._order = lru_cache(maxsize=2)(self._shuffled)

    @property
    def size(self) -> int:
        """Photos of one batch."""
        return self._size

    @property
    def steps(self) -> int:
        """Batches of one epoch; what does not fill a batch waits for another epoch's order."""
        return len(self._rows) // self._size

    def batch(self, number: int) -> tuple[Floats, Floats, Floats]:
        """Return one batch.

        Args:
            number: Counted from the start of training.

        Returns:
            Pixels in [0, 1], float32 (n, height, width, 3); truth, float32 (n, classes); weights,
            float32 (n,).
        """
        epoch, step = divmod(number, self.steps)
        rows = self._order(epoch)[step * self._size :][: self._size]
        rng = np.random.default_rng([self._config.seed, epoch, step])
        images = np.stack([augment(self._images[row], rng, self._config) for row in rows])
        labels = self._labels[rows]
        pixels = images.astype(np.float32) / np.float32(255)
        return mixed(pixels, self._truth[labels], self._weights[labels], rng, self._config)

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._config.seed, epoch]).permutation(self._rows)

    def stream(self, first: int, last: int, share: tuple[int, int] = (0, 1)) -> Any:  # noqa: ANN401 - no types
        """Return the batches from one number up to another as a `tf.data.Dataset`, made ahead, in order.

        Args:
            first: Number of the first.
            last: Number after the last.
            share: Which of how many equal parts of each batch; several machines make the same batches.
        """
        part, parts = share
        rows = self._size // parts
        mine = slice(part * rows, (part + 1) * rows)

        def batch(number: int) -> tuple[Floats, ...]:
            return tuple(values[mine] for values in self.batch(number))

        def make(number: Any) -> Any:  # noqa: ANN401 - TensorFlow has no types
            kinds = (tf.float32, tf.float32, tf.float32)
            pixels, truth, weights = tf.numpy_function(batch, [number], kinds, stateful=False)
            return (
                tf.ensure_shape(pixels, (rows, *self._images.shape[1:])),
                tf.ensure_shape(truth, (rows, len(self._truth))),
                tf.ensure_shape(weights, (rows,)),
            )

        numbers = tf.data.Dataset.range(first, last)
        return numbers.map(make, num_parallel_calls=_MAKERS, deterministic=True).prefetch(_AHEAD)


def class_weights(labels: NDArray[np.int64], classes: int) -> Floats:
    """Return the weight of each class, float32 (classes,): as if all had as many photos, within reason."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return np.minimum(len(labels) / (classes * counts), _HEAVIEST).astype(np.float32)
