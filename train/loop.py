"""The loop of epochs: judge the averaged weights, keep the best, and keep what it takes to go on."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.photos import Pictures
from edge_agent.contracts.scoring import Floats, accuracy, negative_log_likelihood
from train import workers
from train.batches import Batches
from train.config import TrainConfig
from train.devices import alone
from train.state import Arrays, State, Workshop

_JUDGED_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Networks:
    """The three sides of what is trained; Keras models.

    Attributes:
        fitted: Compiled, its optimizer built; the student, or the student with its teachers.
        student: What is kept.
        judged: The student once more, in float32 and on one device: takes the weights of each epoch
            and answers to the validation photos, as it will after training.
    """

    fitted: Any
    student: Any
    judged: Any

    def variables(self) -> list[Any]:
        """Return all that the next step depends on, in an order that stays."""
        return [*self.student.variables, *self.fitted.optimizer.variables]


def run(
    networks: Networks,
    batches: Batches,
    validation: Pictures,
    config: TrainConfig,
    *,
    state: State,
    workshop: Workshop | None,
    callbacks: Sequence[Any],
    share: tuple[int, int] = (0, 1),
) -> bool:
    """Train from where the state is to the end.

    Args:
        networks: Built and compiled.
        batches: Of training.
        validation: Photos for choices.
        config: Decides the rest.
        state: Where to begin; is where it ended afterwards.
        workshop: Keeps the state; None: another worker does.
        callbacks: Of Keras, told after each epoch's judgement.
        share: Which of how many parts of each batch this process hands in.

    Returns:
        Whether it was left to end by itself; False: somebody pressed Ctrl-C.

    Raises:
        DataError: The state cannot be kept.
        UsageError: Several machines do not begin at the same place.
        KeyboardInterrupt: Before there was anything to keep.
    """
    model = networks.fitted
    if state.variables:
        assign(networks.variables(), state.variables)
    if workers.agreed(state.epoch, model, config) != state.epoch:
        raise UsageError(
            f"Expected: the same unfinished run on all machines. Received: {state.epoch} epochs of it on "
            "this one, and not as many on another.",
            hint="--out must lie in a folder that all machines share",
        )
    if _ended(state, config):
        return True  # killed between the last epoch and the run directory
    ended = False
    try:
        _fit(
            model,
            batches.stream(state.epoch * batches.steps, config.epochs * batches.steps, share),
            config,
            initial_epoch=state.epoch,
            epochs=config.epochs,
            steps=batches.steps,
            callbacks=[_Keeper(networks, validation, config, state, workshop), *callbacks],
        )
        ended = True
    except KeyboardInterrupt:
        if not state.best:
            raise
    finally:
        if not ended:
            # Keras tells the end of training only where it came by itself; a bar must be put away.
            for callback in callbacks:
                callback.on_train_end()
    return ended


def _fit(model: Any, stream: Any, config: TrainConfig, *, steps: int, **options: Any) -> None:  # noqa: ANN401
    if config.distribute == "workers" and config.backend == "tensorflow":
        workers.fit(model, stream, steps=steps, **options)
    else:
        # Not shuffled: the batches are in their order.
        model.fit(stream, steps_per_epoch=steps, shuffle=False, verbose=0, **options)


def logits(model: Any, images: NDArray[np.uint8]) -> Floats:  # noqa: ANN401 - Keras has no types
    """Return float32 (n, classes) of uint8 pictures (n, height, width, 3)."""
    if not len(images):
        return np.zeros((0, model.output_shape[-1]), np.float32)
    starts = range(0, len(images), _JUDGED_AT_ONCE)
    parts = (images[at : at + _JUDGED_AT_ONCE].astype(np.float32) / np.float32(255) for at in starts)
    with alone():
        return np.concatenate([np.asarray(model.predict_on_batch(part)) for part in parts])


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Judges, keeps and stops; first among the callbacks, so that the others see its figures."""

    def __init__(
        self,
        networks: Networks,
        validation: Pictures,
        config: TrainConfig,
        state: State,
        workshop: Workshop | None,
    ) -> None:
        super().__init__()
        self._networks, self._validation, self._config = networks, validation, config
        self._state, self._workshop = state, workshop
        self._began = 0.0

    def on_epoch_begin(self, _epoch: int, _logs: Mapping[str, float] | None = None) -> None:
        """Take the time."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Judge the epoch, keep the state, and stop when nothing gets better."""
        logs = logs if logs is not None else {}
        networks, config, state = self._networks, self._config, self._state
        workers.agree_on_statistics(networks.fitted, networks.student, config)
        variables = _values(networks.variables())
        weights = self._averaged()
        assign(networks.judged.variables, weights)
        answers = logits(networks.judged, self._validation.images)
        # Answers that are no numbers are worse than any other.
        finite = bool(np.isfinite(answers).all())
        loss = negative_log_likelihood(self._validation.labels, answers, 1.0) if finite else math.inf
        logs["val_loss"] = workers.agreed(loss, networks.fitted, config)
        logs["val_accuracy"] = accuracy(self._validation.labels, answers)
        logs["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))
        logs["seconds"] = time.monotonic() - self._began
        if logs["val_loss"] < state.best_loss or not state.best:
            state.best, state.best_loss, state.best_epoch = weights, logs["val_loss"], epoch + 1
        state.variables, state.epoch = variables, epoch + 1
        state.history.append({"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()})
        if self._workshop is not None:
            self._workshop.save(state)
        self.model.stop_training = _ended(state, config)

    def _averaged(self) -> Arrays:
        """Return the student's weights, with the moving averages that the optimizer holds in their place."""
        trained = self.model.trainable_variables
        live = _values(trained)
        self.model.optimizer.finalize_variable_values(trained)
        try:
            return _values(self._networks.student.variables)
        finally:
            # Bit for bit: training goes on from here as it does after a kill.
            assign(trained, live)


def _ended(state: State, config: TrainConfig) -> bool:
    # Early on, the learning rate is still on its way up, and a pause in getting better means nothing.
    since = state.epoch - max(state.best_epoch, config.epochs // 3)
    return state.epoch >= config.epochs or since >= config.patience_epochs


def _values(variables: Sequence[Any]) -> Arrays:
    # `np.array` would ask Keras for a copy in a way that it does not know yet.
    return [np.asarray(variable).copy() for variable in variables]


def assign(variables: Sequence[Any], values: Arrays) -> None:
    """Give Keras variables their values, in that order."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
