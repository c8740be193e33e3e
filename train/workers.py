"""Training on several machines with TensorFlow: Keras' `fit` cannot (keras-team/keras issue 20585).

Its step can, under `tf.distribute`. This is the loop around it, with what `fit` tells its callbacks.
JAX needs none of it: there, `keras.distribution` does the work inside of `fit`.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def fit(
    model: Any,  # noqa: ANN401 - Keras has no types
    stream: Any,  # noqa: ANN401 - TensorFlow has no types
    *,
    initial_epoch: int,
    epochs: int,
    steps: int,
    callbacks: Sequence[Any],
) -> None:
    """Do what `model.fit` does, on all workers at once.

    Args:
        model: Built and compiled within a `MultiWorkerMirroredStrategy`.
        stream: A `tf.data.Dataset` of whole batches; each worker takes its part of every one.
        initial_epoch: Epochs that are done.
        epochs: Where it ends, or earlier where a callback sets `model.stop_training`.
        steps: Of one epoch.
        callbacks: Told of begin and end of training, epochs and steps; figures come with the epoch's end.
    """
    strategy = model.distribute_strategy
    batches = iter(strategy.experimental_distribute_dataset(_divided(stream)))
    step = tf.function(lambda batch: strategy.run(model.train_step, args=(batch,)))
    # The metrics' variables cannot be made within the step: `fit` makes them beforehand in just this way.
    example = tuple(tf.zeros(spec.shape, spec.dtype) for spec in stream.element_spec)
    with strategy.scope():
        model._symbolic_build(data_batch=example)  # noqa: SLF001
    told = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=steps)
    model.stop_training = False
    told.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        told.on_epoch_begin(epoch)
        for number in range(steps):
            told.on_train_batch_begin(number)
            step(next(batches))
            told.on_train_batch_end(number)
        told.on_epoch_end(epoch, model.get_metrics_result())
        if model.stop_training:
            break
    told.on_train_end()


def _divided(stream: Any) -> Any:  # noqa: ANN401 - TensorFlow has no types
    """Let each worker take its part of every batch: all make the same ones, in the same order."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return stream.with_options(options)
