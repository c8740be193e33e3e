"""A network and recipe that learn CIFAR-10 quickly, in Keras alone: the same on TensorFlow and JAX.

After Keller Jordan's airbench94 (arXiv:2404.00498): whitening first layer, three blocks of two
convolutions, biases that learn 64 times as fast, identity-like start, label smoothing, SGD with
Nesterov momentum and a triangular learning rate, mirrored evaluation. Left out: Lookahead,
alternating flips, the Muon optimizer of the newest record. Changing the photos is a layer of the
network, so it runs on the device, on the whole batch, inside the compiled step.

Import it only after the backend has been chosen.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from benchmarks.cifar10_sheets import TILE_PX, Labels, Pictures

WIDTHS = (64, 256, 256)
_PATCH = 2
_PEAK_RATE = 1.5 / 1024
"""For each photo of a batch: airbench94's 11.5 for 1,024 photos, less what momentum makes of it."""

_DECAY = 0.0089
_MOMENTUM = 0.85
_FASTER = 64
_PEAK_AT = 0.23
_FIRST, _LAST = 0.2, 0.07
_WHITENED = 5000


@keras.saving.register_keras_serializable("benchmarks")
class Changed(keras.layers.Layer):  # type: ignore[misc]
    """uint8 (n, 32, 32, 3) to [0, 1]; in training mirrored by a coin and moved by up to `shift_px`."""

    def __init__(self, shift_px: int, seed: int) -> None:
        super().__init__(name="changed")
        self._shift = shift_px
        self._chance = keras.random.SeedGenerator(seed)

    def call(self, pixels: Any, training: bool | None = None) -> Any:  # noqa: ANN401, FBT001 - Keras calls it so
        """Return the pixels; a photo's move is a product with a shifted identity, quick on any device."""
        ops, room = keras.ops, self._shift
        pixels = ops.cast(pixels, self.compute_dtype) / 255
        if not training:
            return pixels
        count = ops.shape(pixels)[0]
        coin = keras.random.uniform((count, 1, 1, 1), seed=self._chance) < 0.5  # noqa: PLR2004 - a coin
        pixels = ops.where(coin, ops.flip(pixels, axis=2), pixels)
        padded = ops.pad(pixels, ((0, 0), (room, room), (room, room), (0, 0)), mode="reflect")
        rows, columns = self._moves(count), self._moves(count)
        padded = ops.einsum("nij,njkc->nikc", rows, padded)
        return ops.einsum("nij,nkjc->nkic", columns, padded)

    def _moves(self, count: Any) -> Any:  # noqa: ANN401 - Keras has no types
        start = keras.random.randint((count, 1), 0, 2 * self._shift + 1, seed=self._chance)
        places = start + keras.ops.arange(TILE_PX)[None, :]
        return keras.ops.one_hot(places, TILE_PX + 2 * self._shift, dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("benchmarks")
class Bias(keras.layers.Layer):  # type: ignore[misc]
    """A bias for each channel that learns `faster` times as fast as the other weights."""

    def __init__(self, faster: float, name: str) -> None:
        super().__init__(name=name)
        self._scale = faster**0.5

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make one weight for each channel."""
        self._bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, value: Any) -> Any:  # noqa: ANN401 - Keras has no types
        """Add it: scaled by s, its gradient and its effect are scaled, so that it learns s * s as fast."""
        return value + keras.ops.cast(self._scale * self._bias, value.dtype)


def build(images: Pictures, classes: int, *, width: float, shift_px: int, seed: int) -> Any:  # noqa: ANN401
    """Return the network, uint8 (n, 32, 32, 3) to logits (n, classes), its first layer fitted to `images`."""
    layers = keras.layers
    inputs = keras.Input((TILE_PX, TILE_PX, 3), dtype="uint8")
    value = Changed(shift_px, seed)(inputs)
    filters = whitening(images)
    whiten = layers.Conv2D(filters.shape[-1], _PATCH, use_bias=False, trainable=False, name="whiten")
    value = layers.Activation("gelu")(Bias(1, "whiten_bias")(whiten(value)))
    for block, full in enumerate(WIDTHS):
        channels = max(round(full * width), 8)
        value = _convolution(value, channels, f"block{block}_a", pool=True)
        value = _convolution(value, channels, f"block{block}_b")
    value = layers.Flatten()(layers.MaxPooling2D(3)(value))
    value = layers.Dense(classes, use_bias=False, name="head")(value)
    outputs = layers.Rescaling(1 / 9, dtype="float32", name="logits")(value)
    model = keras.Model(inputs, outputs, name="speedrun")
    whiten.set_weights([filters])
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D) and layer is not whiten:
            layer.set_weights([passing_through(layer.get_weights()[0])])
    return model


def _convolution(value: Any, channels: int, name: str, *, pool: bool = False) -> Any:  # noqa: ANN401
    layers = keras.layers
    value = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=name)(value)
    if pool:
        value = layers.MaxPooling2D(2, name=f"{name}_pool")(value)
    value = layers.BatchNormalization(momentum=0.6, center=False, scale=False, name=f"{name}_norm")(value)
    return layers.Activation("gelu")(Bias(_FASTER, f"{name}_bias")(value))


def whitening(images: Pictures) -> NDArray[np.float32]:
    """Return filters, float32 (2, 2, 3, 24), whose answers on the photos' patches have equal variance."""
    pixels = images[:_WHITENED].astype(np.float32) / 255
    patches = np.lib.stride_tricks.sliding_window_view(pixels, (_PATCH, _PATCH), axis=(1, 2))
    flat = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, _PATCH * _PATCH * 3)
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    half = (vectors / np.sqrt(values + 5e-4)).reshape(_PATCH, _PATCH, 3, -1)
    return np.concatenate([half, -half], axis=-1).astype(np.float32)


def passing_through(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a 3x3 kernel whose first filters hand on one channel each, the others as they were."""
    count = min(kernel.shape[2:])
    kernel = kernel.copy()
    kernel[..., :count] = 0
    kernel[1, 1, range(count), range(count)] = 1
    return kernel


def prepared(model: Any, steps: int, *, batch: int, xla: bool, at_once: int) -> Any:  # noqa: ANN401 - Keras has no types
    """Compile the model for so many steps of `batch` photos in all, and return it."""
    peak = max(round(_PEAK_AT * steps), 1)
    shares = np.interp(range(steps + 1), [0, peak, steps], [_FIRST, 1, _LAST])
    model.compile(
        keras.optimizers.SGD(
            _Rates([_PEAK_RATE * batch * float(share) for share in shares]),
            momentum=_MOMENTUM,
            nesterov=True,
            weight_decay=_DECAY,
        ),
        _smoothed,
        jit_compile=xla,
        steps_per_execution=at_once,
    )
    return model


def _smoothed(truth: Any, logits: Any) -> Any:  # noqa: ANN401 - Keras has no types
    classes = logits.shape[-1]
    spread = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(truth, (-1,)), "int32"), classes) * 0.8
    return keras.losses.categorical_crossentropy(spread + 0.2 / classes, logits, from_logits=True)


class _Rates(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate for each step, from a table."""

    def __init__(self, rates: list[float]) -> None:
        self._rates = rates

    def __call__(self, step: Any) -> Any:  # noqa: ANN401 - Keras has no types
        table = keras.ops.convert_to_tensor(self._rates, "float32")
        return keras.ops.take(table, keras.ops.minimum(keras.ops.cast(step, "int32"), len(self._rates) - 1))

    def get_config(self) -> dict[str, Any]:
        """Return what makes it again."""
        return {"rates": self._rates}


def judge(model: Any, images: Pictures, labels: Labels, batch: int) -> float:  # noqa: ANN401
    """Return the accuracy of the mean answer to each photo and its mirror image."""
    answers = sum(model.predict(x, batch_size=batch, verbose=0) for x in (images, images[:, :, ::-1]))
    return float((np.asarray(answers).argmax(axis=1) == labels).mean())


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Takes the time of training alone, judges each epoch, and ends training at the target or the limit.

    Args:
        judge: Returns the accuracy, of 1.
        target: Accuracy to end at.
        limit_s: Most seconds of training.
    """

    def __init__(self, judge: Callable[[], float], target: float, limit_s: float) -> None:
        super().__init__()
        self._judge, self._target, self._limit_s = judge, target, limit_s
        self._seconds, self._batches, self._began, self._seen = 0.0, 0, 0.0, 0
        self._accuracies: list[float] = []
        self._reached: float | None = None

    def on_epoch_begin(self, _epoch: int, _logs: Mapping[str, float] | None = None) -> None:
        """Start the clock."""
        self._seen, self._began = 0, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """End where the time is up."""
        self._seen = batch + 1
        if self._seconds + time.perf_counter() - self._began > self._limit_s:
            self.model.stop_training = True

    def on_epoch_end(self, _epoch: int, _logs: Mapping[str, float] | None = None) -> None:
        """Stop the clock and judge; the figures of an epoch have waited for the device."""
        self._seconds += time.perf_counter() - self._began
        self._batches += self._seen
        self._accuracies.append(self._judge())
        if self._accuracies[-1] >= self._target:
            self._reached = self._seconds
            self.model.stop_training = True

    def figures(self, batch: int) -> dict[str, Any]:
        """Return what was measured, given the photos of one step."""
        return {
            "images_per_s": self._batches * batch / self._seconds,
            "epochs": len(self._accuracies),
            "seconds": self._seconds,
            "seconds_to_target": self._reached,
            "best_accuracy": max(self._accuracies),
            "accuracies": self._accuracies,
        }
