"""What each option of training does: numbers by hand against what Keras makes of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.photos import Photo, Pictures
from train import loop, objective
from train.batches import Batches, class_weights
from train.config import TrainConfig
from train.devices import Devices
from train.model import build_model
from train.state import State, weights_hash

Array = NDArray[Any]
_QUICK = TrainConfig(
    preset="article-cifar", image_px=32, batch_size=8, epochs=2, augment=0, shift=0, occlude=0, warm_up=0
)


def pictures(count: int, *, seed: int = 0) -> Pictures:
    """Noise with a channel that is a little brighter: the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 200, (count, 32, 32, 3), np.uint8)
    images[np.arange(count), :, :, labels] += 40
    photos = tuple(Photo(images[row], int(labels[row]), None, str(row), str(row)) for row in range(count))
    return Pictures(images, labels.astype(np.int64), tuple(map(str, range(count))), photos)


def compiled(config: TrainConfig, steps: int = 100) -> Any:  # noqa: ANN401 - Keras has no types
    keras.utils.set_random_seed(config.seed)
    model = build_model(keras, config, 3)
    made = objective.optimizer(config, steps)
    model.compile(made, objective.loss(config), metrics=["accuracy"], jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def judged(config: TrainConfig) -> Any:  # noqa: ANN401 - Keras has no types
    return build_model(keras, replace(config, precision="float32"), 3)


# --- optimizers


def moves(config: TrainConfig, gradients: Sequence[float], *, value: float = 2.0) -> list[float]:
    """Return what one weight is after each gradient, at a constant learning rate of 0.1."""
    config = replace(config, learning_rate=0.1, warm_up=0.0)
    optimizer = objective.optimizer(config, 10**9)
    weight = keras.Variable(np.array([value], np.float32))
    optimizer.build([weight])
    seen = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(np.array([gradient], np.float32))])
        seen.append(float(np.asarray(weight)[0]))
    return seen


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Without a gradient, decoupled decay alone: 2 * (1 - 0.1 * 0.5) each step; Adam has none.
        (TrainConfig(optimizer="adamw", weight_decay=0.5), [1.9, 1.805]),
        (TrainConfig(optimizer="adam", weight_decay=0.5), [2.0, 2.0]),
        (TrainConfig(optimizer="sgd", weight_decay=0.5, momentum=0.0), [1.9, 1.805]),
        (TrainConfig(optimizer="sgd", weight_decay=0.0, momentum=0.9), [2.0, 2.0]),
    ],
)
def test_weight_decay(config: TrainConfig, expected: list[float]) -> None:
    assert moves(config, [0.0, 0.0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Adam's first steps are as long as the learning rate, whatever the gradient.
        (TrainConfig(optimizer="adam"), [1.9, 1.8]),
        (TrainConfig(optimizer="adamw", weight_decay=0.0), [1.9, 1.8]),
        (TrainConfig(optimizer="sgd", weight_decay=0.0, momentum=0.0), [1.5, 1.0]),
        # Nesterov: velocity v = 0.9 v - 0.1 g, step 0.9 v - 0.1 g.
        (TrainConfig(optimizer="sgd", weight_decay=0.0, momentum=0.9), [1.05, -0.305]),
    ],
)
def test_steps_of_each_optimizer(config: TrainConfig, expected: list[float]) -> None:
    assert moves(config, [5.0, 5.0]) == pytest.approx(expected, rel=1e-4)


def rate(config: TrainConfig, step: int) -> float:
    optimizer = objective.optimizer(config, 100)
    optimizer.iterations.assign(step)
    return float(np.asarray(optimizer.learning_rate))


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    config = TrainConfig(learning_rate=1.0, warm_up=0.2)
    assert [rate(config, step) for step in (0, 10, 20, 60, 100)] == pytest.approx(
        [0.05, 0.525, 1.0, 0.5, 0.0], abs=1e-6
    )
    without = TrainConfig(learning_rate=1.0, warm_up=0.0)
    assert [rate(without, step) for step in (0, 50, 100)] == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)


# --- losses and penalties


def softmax(logits: Array) -> Array:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.25, 3.0, 0.0], np.float32)])
@pytest.mark.parametrize("name", ["cross-entropy", "mean-squared-error"])
def test_losses(name: Any, smoothing: float, weights: Array | None) -> None:  # noqa: ANN401 - a literal
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3)).astype(np.float32) * 3
    truth = np.eye(3, dtype=np.float32)[[0, 2, 1, 1]]
    model = keras.Sequential([keras.Input((3,)), keras.layers.Activation("linear")])
    model.compile(loss=objective.loss(TrainConfig(loss=name, label_smoothing=smoothing)))
    spread = truth * (1 - smoothing) + smoothing / 3
    each = {
        "cross-entropy": -(spread * np.log(softmax(logits))).sum(axis=1),
        "mean-squared-error": np.square(softmax(logits) - spread).mean(axis=1),
    }[name]
    expected = float(np.mean(each * (1 if weights is None else weights)))
    found = model.evaluate(logits, truth, sample_weight=weights, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.01, 0.0), (0.0, 0.02), (0.01, 0.02)])
def test_penalties_on_kernels_alone(l1: float, l2: float) -> None:
    model = build_model(keras, replace(_QUICK, preset="shelf-s", l1=l1, l2=l2), 3)
    kernels = [np.asarray(weight) for weight in model.weights if weight.name == "kernel"]
    expected = sum(l1 * np.abs(kernel).sum() + l2 * np.square(kernel).sum() for kernel in kernels)
    assert len(kernels) == 11
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_dropout_has_the_share_that_was_asked_for() -> None:
    layers = build_model(keras, replace(_QUICK, dropout=0.4), 3).layers
    assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == [0.4]


# --- teachers


def fixed_teacher(channels: Array) -> Any:  # noqa: ANN401 - Keras has no types
    """A teacher that is right: it says which channel is the brightest."""
    value = inputs = keras.Input((32, 32, 3))
    value = keras.layers.GlobalAveragePooling2D()(value)
    answer = keras.layers.Dense(3)
    teacher = keras.Model(inputs, answer(value))
    answer.set_weights([channels.astype(np.float32), np.zeros(3, np.float32)])
    return teacher


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 0.9, 1.0), (0.0, 0.0, 0.75)])
def test_a_student_learns_the_teachers_answers_and_not_the_labels(
    share: float, low: float, high: float
) -> None:
    config = replace(_QUICK, teacher_share=share, averaging=0.0, epochs=8)
    keras.utils.set_random_seed(1)
    student = build_model(keras, config, 3)
    # Two teachers, of whom one knows a class less well: their mean is still right.
    teachers = [fixed_teacher(100 * np.eye(3)), fixed_teacher(np.diag([100, 100, 50]))]
    objective.require_same(student, teachers)
    model = objective.Taught(student, teachers, config.teacher_share, config.teacher_temperature)
    seen = pictures(192)
    pixels = seen.images.astype(np.float32) / 255
    shuffled = np.eye(3, dtype=np.float32)[np.random.default_rng(5).permutation(seen.labels)]
    model.compile(objective.optimizer(config, 24 * 8), objective.loss(config), jit_compile=False)
    before = [weights_hash(teacher.get_weights()) for teacher in teachers]
    model.fit(pixels, shuffled, batch_size=8, epochs=8, verbose=0)
    fresh = pictures(96, seed=3)
    right = float(np.mean(loop.logits(student, fresh.images).argmax(axis=1) == fresh.labels))
    assert low <= right <= high
    assert [weights_hash(teacher.get_weights()) for teacher in teachers] == before


def test_the_teachers_part_of_the_loss() -> None:
    keras.utils.set_random_seed(1)
    student = build_model(keras, replace(_QUICK, dropout=0.0), 3)
    teacher = fixed_teacher(10 * np.eye(3))
    model = objective.Taught(student, [teacher], 0.25, 3.0)
    model.compile(loss=objective.loss(replace(_QUICK, label_smoothing=0)))
    pixels, truth = np.random.default_rng(0).random((4, 32, 32, 3), np.float32), np.eye(3)[[0, 1, 2, 2]]
    logits = np.asarray(student(pixels))
    own = -(truth * np.log(softmax(logits))).sum(axis=1).mean()
    told = softmax(np.asarray(teacher(pixels)) / 3)
    apart = -(told * np.log(softmax(logits / 3))).sum(axis=1).mean()
    found = model.compute_loss(pixels, truth, keras.ops.convert_to_tensor(logits), None)
    assert float(found) == pytest.approx(0.75 * own + 0.25 * 9 * apart, rel=1e-5)


def test_a_teacher_that_sees_something_else_is_refused() -> None:
    student = build_model(keras, _QUICK, 3)
    for teacher in (
        build_model(keras, replace(_QUICK, image_px=48), 3),
        build_model(keras, _QUICK, 4),
    ):
        with pytest.raises(UsageError, match=r"from \(32, 32, 3\) to 3 classes"):
            objective.require_same(student, [teacher])


# --- batches


def test_weights_of_classes_are_as_if_all_had_as_many_photos() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2] * 3)
    assert class_weights(labels, 3) == pytest.approx([12 / 18, 12 / 9, 12 / 9])
    assert class_weights(np.zeros(1000, np.int64), 2)[1] == 10  # within reason


def test_batches_are_decided_by_their_number_alone() -> None:
    seen = pictures(30)
    rows = np.arange(4, 30)
    config = replace(_QUICK, augment=1.0, mixup=0.3, flip=True)
    batches = Batches(seen, rows, config, 3)
    assert (batches.size, batches.steps) == (8, 3)
    wanted = [batches.batch(number) for number in range(7)]
    # From the middle, from another object, made ahead by several threads: the same, in order.
    streamed = list(Batches(seen, rows, config, 3).stream(2, 7).as_numpy_iterator())
    assert len(streamed) == 5
    for found, expected in zip(streamed, wanted[2:], strict=True):
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other)
            assert one.dtype == np.float32


def test_an_epoch_shows_every_photo_once_and_another_one_in_another_order() -> None:
    seen = pictures(24)
    batches = Batches(seen, np.arange(24), _QUICK, 3)
    lookup = {image.tobytes(): row for row, image in enumerate(seen.images)}
    shown = []
    for number in range(2 * batches.steps):
        pixels, truth, weights = batches.batch(number)
        rows = [lookup[np.rint(image * 255).astype(np.uint8).tobytes()] for image in pixels]
        assert truth.argmax(axis=1).tolist() == seen.labels[rows].tolist()
        assert weights.tolist() == [1.0] * 8
        shown += rows
    assert sorted(shown[:24]) == sorted(shown[24:]) == list(range(24))
    assert shown[:24] != shown[24:]


# --- the loop


class _Seen(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the live weights after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[Array]] = []

    def on_train_batch_end(self, _batch: int, logs: Any = None) -> None:  # noqa: ANN401, ARG002 - Keras names it
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # between epochs Keras does it itself
        self.steps.append([np.asarray(value).copy() for value in self.model.trainable_variables])


def trained(
    config: TrainConfig, state: State | None = None, callbacks: Sequence[Any] = ()
) -> tuple[State, bool]:
    """Train without anything written."""
    state = State() if state is None else state
    seen = pictures(36)
    batches = Batches(seen, np.arange(24), config, 3)
    with Devices(config, None, 1).building():
        model = compiled(config, config.epochs * batches.steps)
    networks = loop.Networks(model, model, judged(config))
    ended = loop.run(
        networks, batches, seen.part(24, 36), config, state=state, workshop=None, callbacks=callbacks
    )
    return state, ended


def kernels(values: Sequence[Array]) -> list[Array]:
    """All but the state of dropout, and the counter of steps."""
    return [value for value in values if value.dtype == np.float32]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_what_is_kept_is_the_moving_average_and_training_goes_on_from_the_live_weights(
    optimizer: Any,  # noqa: ANN401 - a literal
) -> None:
    config = replace(_QUICK, optimizer=optimizer, averaging=0.5, epochs=6, learning_rate=1e-3)
    seen = _Seen()
    state, ended = trained(config, callbacks=[seen])
    assert ended
    assert len(seen.steps) == 18
    momentum = min(0.5, 1 - 10 / 18)  # a short run averages over less
    average = seen.steps[0]
    averages = [average]
    for live in seen.steps[1:]:
        average = [momentum * old + (1 - momentum) * new for old, new in zip(average, live, strict=True)]
        averages.append(average)
    for found, expected in zip(kernels(state.best), averages[3 * state.best_epoch - 1], strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    for found, expected in zip(kernels(state.variables), seen.steps[-1], strict=False):
        assert np.array_equal(found, expected)


def test_without_averaging_the_live_weights_are_kept() -> None:
    seen = _Seen()
    state, _ = trained(replace(_QUICK, averaging=0.0), callbacks=[seen])
    for found, expected in zip(kernels(state.best), seen.steps[3 * state.best_epoch - 1], strict=True):
        assert np.array_equal(found, expected)


def test_patience_ends_it_and_a_state_that_has_ended_is_not_trained_on() -> None:
    # The learning rate is so high that nothing gets better after the first epochs.
    config = replace(_QUICK, epochs=30, patience=2, learning_rate=1.0, optimizer="sgd", averaging=0.0)
    state, ended = trained(config)
    assert ended
    assert state.epoch < 30
    assert state.epoch - max(state.best_epoch, 10) == 2
    assert [line["epoch"] for line in state.history] == list(range(1, state.epoch + 1))
    before = weights_hash(state.variables)
    again, ended = trained(config, state)
    assert ended
    assert weights_hash(again.variables) == before


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    class Spoils(keras.callbacks.Callback):  # type: ignore[misc]
        """Makes the first epoch's weights worthless, and the next one's good again."""

        def __init__(self) -> None:
            super().__init__()
            self.kept: list[Array] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ANN401, ARG002
            if batch == 0 and not self.kept:
                self.kept = self.model.get_weights()
            if batch == 2 and self.model.optimizer.iterations == 3:
                self.model.set_weights([np.full_like(value, np.nan) for value in self.kept])
            elif batch == 0 and self.model.optimizer.iterations == 4:
                self.model.set_weights(self.kept)

    config = replace(_QUICK, averaging=0.0, optimizer="sgd", learning_rate=1e-3, momentum=0.0)
    state, _ = trained(config, callbacks=[Spoils()])
    assert state.best_epoch == 2
    assert np.isfinite(state.best_loss)
    assert all(np.isfinite(value).all() for value in state.best)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_of_computing_alone(precision: Any) -> None:  # noqa: ANN401 - a literal
    config = replace(_QUICK, precision=precision)
    with Devices(config, None, 1).building():
        model = build_model(keras, config, 3)
    assert model.get_layer("conv1").compute_dtype == precision
    assert {np.asarray(value).dtype for value in model.trainable_variables} == {np.dtype(np.float32)}
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    state, _ = trained(config)
    assert len(kernels(state.best)) == len(state.best) - 1
    assert np.isfinite(state.best_loss)
