"""What it takes that several devices and machines do the same.

On several machines with TensorFlow, Keras' `fit` fails (keras-team/keras issue 20585), but its step
does not: `fit` here is the loop around it. On JAX, `keras.distribution` does the work inside of Keras.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from train.config import TrainConfig


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


def agree_on_statistics(model: Any, student: Any, config: TrainConfig) -> None:  # noqa: ANN401 - Keras has no types
    """Give the moving means of norms, which on TensorFlow each device takes of its own share, one value.

    Args:
        model: What is fitted.
        student: Whose they are.
        config: Says what is spread.
    """
    if config.distribute == "none" or config.backend != "tensorflow":
        return
    statistics = [each for each in student.non_trainable_variables if each.dtype == "float32"]
    for variable, mean in zip(statistics, _means(model, [each.value for each in statistics]), strict=True):
        variable.assign(mean)


def agreed(value: float, model: Any, config: TrainConfig) -> float:  # noqa: ANN401 - Keras has no types
    """Return the mean of what the workers bring: one stops when all do, whatever its last digits say."""
    if config.distribute != "workers":
        return value
    if config.backend == "tensorflow":
        return float(_means(model, [tf.constant(value, tf.float64)])[0])
    from jax.experimental import multihost_utils  # noqa: PLC0415 - not everybody has JAX

    return float(np.mean(multihost_utils.process_allgather(np.float32(value))))


def _means(model: Any, values: list[Any]) -> list[Any]:  # noqa: ANN401 - TensorFlow has no types
    """Return the mean of each value over all devices."""
    strategy = model.distribute_strategy

    def means() -> list[Any]:
        each = strategy.run(lambda: [tf.identity(value) for value in values])
        return [strategy.reduce("MEAN", value, axis=None) for value in each]

    # Traced anew each time, which is once an epoch; without it TensorFlow warns for each value.
    return list(tf.function(means)())


def _divided(stream: Any) -> Any:  # noqa: ANN401 - TensorFlow has no types
    """Let each worker take its part of every batch: all make the same ones, in the same order."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return stream.with_options(options)
