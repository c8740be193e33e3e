"""What training makes small: the loss against the labels, and against teachers' answers."""

from collections.abc import Sequence
from typing import Any

import keras

from edge_agent.contracts.errors import UsageError
from train.config import TrainConfig

_AVERAGED_SHARES = 10


def loss(config: TrainConfig) -> Any:  # noqa: ANN401 - Keras has no types
    """Return the loss of logits (n, classes) against truth (n, classes), one value for each photo."""
    if config.loss == "cross-entropy":
        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)

    def mean_squared_error(truth: Any, logits: Any) -> Any:  # noqa: ANN401 - Keras has no types
        spread = config.label_smoothing / truth.shape[-1]
        truth = truth * (1 - config.label_smoothing) + spread
        return keras.ops.mean(keras.ops.square(keras.ops.softmax(logits) - truth), axis=-1)

    return mean_squared_error


def optimizer(config: TrainConfig, steps: int) -> Any:  # noqa: ANN401 - Keras has no types
    """Return the optimizer with its learning rate over all steps: up in a line, down along a cosine."""
    warm_up = round(config.warm_up * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20 if warm_up else config.learning_rate,
        max(steps - warm_up, 1),
        warmup_target=config.learning_rate if warm_up else None,
        warmup_steps=warm_up,
    )
    average: dict[str, Any] = {"use_ema": config.averaging > 0}
    if config.averaging:
        # Over a tenth of a short run at most, or the weights from before training never leave the average.
        average["ema_momentum"] = min(config.averaging, max(1 - _AVERAGED_SHARES / steps, 0.0))
    match config.optimizer:
        case "adamw":
            return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **average)
        case "adam":
            return keras.optimizers.Adam(rate, **average)
        case "sgd":
            return keras.optimizers.SGD(
                rate,
                momentum=config.momentum,
                nesterov=config.momentum > 0,
                weight_decay=config.weight_decay or None,
                **average,
            )


@keras.saving.register_keras_serializable("shelfkit")
class Taught(keras.Model):  # type: ignore[misc]
    """A student that learns from the labels and from the mean answer of its teachers.

    Hinton et al. 2015; the teachers see the very batch that the student sees, changes and all
    (Beyer et al. 2022: a teacher must be consistent).

    Args:
        student: Trained; pixels to logits.
        teachers: Fixed, with the same input and classes.
        share: Weight of the teachers against the labels.
        temperature: Softens both sides' answers.
    """

    def __init__(
        self,
        student: Any,  # noqa: ANN401 - Keras has no types
        teachers: Sequence[Any],
        share: float,
        temperature: float,
    ) -> None:
        super().__init__(name="taught")
        self.student, self.teachers = student, list(teachers)
        for teacher in self.teachers:
            teacher.trainable = False
        self._share, self._temperature = share, temperature
        self._apart = keras.losses.CategoricalCrossentropy(from_logits=True)

    def call(self, pixels: Any, training: bool | None = None) -> Any:  # noqa: ANN401, FBT001 - Keras calls it so
        """Return the student's logits."""
        return self.student(pixels, training=training)

    def compute_loss(
        self,
        x: Any = None,  # noqa: ANN401 - Keras has no types
        y: Any = None,  # noqa: ANN401
        y_pred: Any = None,  # noqa: ANN401
        sample_weight: Any = None,  # noqa: ANN401
        training: bool = True,  # noqa: FBT001 - Keras calls it so
    ) -> Any:  # noqa: ANN401
        """Return the weighted sum of both losses; the gradient of the softened one is scaled back."""
        own = super().compute_loss(x, y, y_pred, sample_weight, training)
        ops, heat = keras.ops, self._temperature
        answers = [ops.softmax(teacher(x, training=False) / heat) for teacher in self.teachers]
        told = ops.stop_gradient(sum(answers) / len(answers))
        # A loss of Keras, not a mean of our own: it knows among how many devices a batch is divided.
        apart = self._apart(told, ops.cast(y_pred, "float32") / heat)
        return (1 - self._share) * own + self._share * heat * heat * apart


def require_same(student: Any, teachers: Sequence[Any]) -> None:  # noqa: ANN401 - Keras has no types
    """Refuse a teacher that sees or says something else.

    Raises:
        UsageError: Input or classes differ.
    """
    wanted = (student.input_shape[1:], student.output_shape[1:])
    for teacher in teachers:
        found = (teacher.input_shape[1:], teacher.output_shape[1:])
        if found != wanted:
            raise UsageError(
                f"Expected: teachers from {wanted[0]} to {wanted[1][0]} classes. "
                f"Received: one from {found[0]} to {found[1][0]}.",
                hint="train teacher and student on the same photos with the same --image-px",
            )
