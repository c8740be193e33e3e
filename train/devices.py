"""What a run computes on: backend, precision, one device or many. Engines are Keras' and TensorFlow's own."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.contracts.errors import UsageError
from train.config import Backend, Precision, TrainConfig

if TYPE_CHECKING:
    from types import ModuleType

_POLICIES: dict[Precision, str] = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


def choose_backend(backend: Backend) -> None:
    """Set what Keras reads when it is imported; importing takes seconds, so bad arguments come first.

    Raises:
        UsageError: Keras is imported already, on something else.
    """
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def worker() -> int:
    """Return this process' place among several machines, from `TF_CONFIG`; the first one writes the run.

    Raises:
        UsageError: `TF_CONFIG` is not what `tf.distribute` expects.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 0
    try:
        return int(json.loads(text)["task"]["index"])
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(
            f"Expected: TF_CONFIG as JSON with cluster and task. Received: {text:.200}.",
            hint='{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}',
        ) from exc


@contextmanager
def computing(config: TrainConfig) -> Iterator[None]:
    """Set precision, determinism and distribution for what is built inside.

    Raises:
        UsageError: What was asked for is not on this machine.
    """
    # Keras is imported here: on the backend that was chosen, and only when training begins.
    import keras  # noqa: PLC0415

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[config.precision])
    if config.deterministic and config.backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        tf.config.experimental.enable_op_determinism()
    try:
        with _distribution(keras, config):
            yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def _distribution(keras: "ModuleType", config: TrainConfig) -> Iterator[None]:
    if config.distribute == "none":
        yield
        return
    if config.backend == "jax":
        if config.distribute == "workers":
            # Reads the cluster from KERAS_DISTRIBUTION_* as Keras documents it.
            keras.distribution.initialize()
        with keras.distribution.DataParallel(auto_shard_dataset=False).scope():
            yield
        return
    import tensorflow as tf  # noqa: PLC0415

    strategy = (
        tf.distribute.MirroredStrategy()
        if config.distribute == "devices"
        else tf.distribute.MultiWorkerMirroredStrategy()
    )
    with strategy.scope():
        yield
