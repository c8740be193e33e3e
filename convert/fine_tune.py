"""Fine-tune a network to answer as its float original does, on the calibration pictures and blends of them.

The original is the teacher (Hinton et al. 2015), so no label is needed, and a picture may be any: each
epoch blends the calibration pictures anew in pairs, lest a few hundred of them be learned by heart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from convert.calibration import with_extremes
from convert.source import Network

EPOCHS = 3
LEARNING_RATE = 3e-5
BATCH = 32
PICTURES = 1024
"""Of one epoch."""


def seeded(seed: int) -> None:
    """Make what follows repeatable: the same run gives the same bytes."""
    tf_keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def to_answer_as(
    teacher: Network,
    student: Any,  # noqa: ANN401 - Keras has no types
    images: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    callbacks: Sequence[Any] = (),
) -> None:
    """Train a student in place, with norms as they are.

    Args:
        teacher: Float.
        student: Of `tf_keras`, from the same input to the same output.
        images: The calibration set: uint8, (n, height, width, 3), RGB.
        rng: Chooses the pairs.
        epochs: Of `PICTURES` pictures each.
        learning_rate: At the beginning; falls along a cosine to nothing.
        callbacks: Of `tf_keras`.
    """
    _freeze_norms(student)
    steps = PICTURES // BATCH
    rate = tf_keras.optimizers.schedules.CosineDecay(learning_rate, steps * epochs)
    probable = teacher.output == "probabilities"
    loss = tf_keras.losses.KLDivergence() if probable else tf_keras.losses.MeanSquaredError()
    student.compile(tf_keras.optimizers.Adam(rate), loss)
    extremes = with_extremes(images)
    for epoch in range(epochs):
        shown = blended(extremes, rng)
        student.fit(
            teacher.inputs(shown),
            teacher.scores(shown),
            batch_size=BATCH,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )


def blended(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return `PICTURES` pictures: each one of these, or two of them laid over each other.

    Args:
        images: uint8, (n, height, width, 3).
        rng: Chooses.
    """
    one, other = rng.integers(0, len(images), (2, PICTURES))
    # Half of them are as they were taken.
    share = np.where(rng.random(PICTURES) < 0.5, 1.0, rng.random(PICTURES))[:, None, None, None]  # noqa: PLR2004
    mixed = share.astype(np.float32) * images[one] + (1 - share).astype(np.float32) * images[other]
    return np.asarray(np.rint(mixed), np.uint8)


def _freeze_norms(model: Any) -> None:  # noqa: ANN401 - Keras has no types
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, tf_keras.layers.BatchNormalization):
            inner.trainable = False
