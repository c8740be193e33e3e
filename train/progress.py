"""How far training is, on a terminal as a bar, elsewhere as a line for each epoch."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


def callbacks(
    batch_size: int, console: Console, tensorboard: Path | None
) -> Callable[[int, int, int], list[Any]]:
    """Return what makes the callbacks of a run, given its epochs, steps of one, and epochs done."""

    def make(epochs: int, steps: int, done: int) -> list[Any]:
        logs = [] if tensorboard is None else [keras.callbacks.TensorBoard(str(tensorboard))]
        return [Told(epochs, steps, done, batch_size, console), *logs]

    return make


class Told(keras.callbacks.Callback):  # type: ignore[misc]
    """Accuracy, time left and images a second.

    Args:
        epochs: At most.
        steps: Of one epoch.
        done: Epochs that an earlier start of this run has done.
        batch_size: Photos of a step.
        console: Where to.
    """

    def __init__(self, epochs: int, steps: int, done: int, batch_size: int, console: Console) -> None:
        super().__init__()
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=epochs * steps, completed=done * steps, told="")
        self._began = 0.0

    def on_train_begin(self, _logs: Mapping[str, float] | None = None) -> None:
        """Show the bar."""
        self._bar.start()

    def on_epoch_begin(self, _epoch: int, _logs: Mapping[str, float] | None = None) -> None:
        """Take the time."""
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Move on by one step."""
        rate = (batch + 1) * self._batch_size / max(time.monotonic() - self._began, 1e-9)
        told = f"accuracy {(logs or {}).get('accuracy', 0.0):.3f}, {rate:.0f} images/s"
        self._bar.update(self._task, advance=1, told=told)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Say what the epoch came to."""
        logs = logs or {}
        self._console.print(
            f"epoch {epoch + 1}/{self._epochs}: accuracy {logs.get('accuracy', 0.0):.3f}, "
            f"on photos for choices {logs.get('val_accuracy', 0.0):.3f} "
            f"({time.monotonic() - self._began:.1f} s)",
            highlight=False,
        )

    def on_train_end(self, _logs: Mapping[str, float] | None = None) -> None:
        """Put the bar away."""
        self._bar.stop()
