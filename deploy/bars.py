"""How far long work is: a bar for each part of it, on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

Told = Callable[[str, int, int], None]
"""Told what is being done, how many bytes of it are, and of how many; 0: nobody knows how many."""


def untold(_what: str, _done: int, _all: int) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class _Bars:
    progress: Progress
    tasks: dict[str, TaskID]

    def __call__(self, what: str, done: int, whole: int) -> None:
        total = whole or None
        if what not in self.tasks:
            for task in self.tasks.values():
                self.progress.stop_task(task)
            self.tasks[what] = self.progress.add_task(what, total=total)
        self.progress.update(self.tasks[what], completed=done, total=total)


@contextmanager
def bars() -> Iterator[Told]:
    """Give what shows how far everything is."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield _Bars(progress, {})
