"""What a run computes on: backend, precision, one device or many. Engines are Keras' and TensorFlow's own."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from edge_agent.contracts.errors import UsageError
from train.config import Backend, Precision, TrainConfig

_POLICIES: dict[Precision, str] = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
_CLUSTER = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'


def choose_backend(backend: Backend) -> None:
    """Set what Keras reads when it is imported; importing takes seconds, so bad arguments come first.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec(backend) is None:
        raise UsageError(
            f"Expected: the package {backend} for --backend {backend}. Received: none.",
            hint=f"pip install 'shelfkit[{'jax' if backend == 'jax' else 'train'}]'",
        )
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@dataclass(frozen=True, slots=True)
class Place:
    """This process among those of one run.

    Attributes:
        index: Which it is; the first one writes the run.
        addresses: host:port of each; empty: this one is alone.
    """

    index: int = 0
    addresses: tuple[str, ...] = ()


def place(config: TrainConfig) -> Place:
    """Return this process' place, from `TF_CONFIG` as `tf.distribute` documents it, whatever the backend.

    Raises:
        UsageError: Several machines are asked for, and `TF_CONFIG` does not name them.
    """
    if config.distribute != "workers":
        return Place()
    text = os.environ.get("TF_CONFIG", "")
    try:
        told = json.loads(text)
        addresses, index = told["cluster"]["worker"], int(told["task"]["index"])
        addresses[index]  # is there one of that number
        return Place(index, tuple(map(str, addresses)))
    except (ValueError, LookupError, TypeError) as exc:
        raise UsageError(
            "Expected: TF_CONFIG in the environment, with all workers and the place of this one, for "
            f"--distribute workers. Received: {text[:200] or 'none'}.",
            hint=f"for example TF_CONFIG='{_CLUSTER}'",
        ) from exc


class Devices:
    """All that one run computes on; set up before anything is computed, by `computing`.

    Args:
        config: Gives the precision, and says what to spread over.
        strategy: Of TensorFlow; None: one device, or JAX.
        replicas: Among how many a batch is divided.
        share: Which of how many parts of each batch this process hands in; the rest is the engine's doing.
    """

    def __init__(
        self,
        config: TrainConfig,
        strategy: Any,  # noqa: ANN401 - TensorFlow has no types
        replicas: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._config, self._strategy, self.replicas, self.share = config, strategy, replicas, share

    @contextmanager
    def building(self) -> Iterator[None]:
        """Give what is built and compiled inside the run's precision, and a copy on every device."""
        import keras  # noqa: PLC0415 - on the backend that was chosen, and only when training begins

        scope: AbstractContextManager[Any] = (
            nullcontext() if self._strategy is None else self._strategy.scope()
        )
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(_POLICIES[self._config.precision])
        try:
            with scope:
                yield
        finally:
            keras.config.set_dtype_policy(before)

    def require_equal_shares(self, batch_size: int) -> None:
        """Refuse batches that cannot be divided equally: the mean of unequal shares is not that of all.

        Raises:
            UsageError: It leaves a remainder.
        """
        if batch_size % self.replicas:
            raise UsageError(
                f"Expected: a --batch-size that {self.replicas} devices can share. Received: {batch_size}.",
                hint="a batch is never larger than the training photos are many",
            )


@contextmanager
def computing(config: TrainConfig) -> Iterator[Devices]:
    """Set determinism and distribution of this process; before anything is computed.

    Raises:
        UsageError: What was asked for cannot be had.
    """
    where = place(config)
    if config.backend == "jax":
        with _jax(config, where) as devices:
            yield devices
    else:
        yield _tensorflow(config)


@contextmanager
def alone() -> Iterator[None]:
    """Compute on one device what is no part of the training step, as if nothing were distributed."""
    import keras  # noqa: PLC0415 - see Devices.building

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


@contextmanager
def _jax(config: TrainConfig, where: Place) -> Iterator[Devices]:
    import keras  # noqa: PLC0415 - see Devices.building
    import tensorflow as tf  # noqa: PLC0415 - the same

    # TensorFlow makes the batches only, and would take all of a GPU's memory for it.
    tf.config.set_visible_devices([], "GPU")
    if config.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    if config.distribute == "none":
        yield Devices(config, None, 1)
        return
    if where.addresses:
        keras.distribution.initialize(",".join(where.addresses), len(where.addresses), where.index)
    spread = keras.distribution.DataParallel(auto_shard_dataset=False)
    with spread.scope():
        share = (where.index, max(len(where.addresses), 1))
        yield Devices(config, None, spread.num_model_replicas, share)


def _tensorflow(config: TrainConfig) -> Devices:
    import tensorflow as tf  # noqa: PLC0415 - see Devices.building

    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if config.distribute == "none":
        return Devices(config, None, 1)
    if config.distribute == "workers":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        own = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in own])
    return Devices(config, strategy, strategy.num_replicas_in_sync)
