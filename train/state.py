"""A training run that has not ended: what is needed to go on as if it had never stopped."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.arrays import read_npz
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.files import flush, written_beside

Arrays = list[NDArray[Any]]
_STATE = "state.npz"
_IDENTITY = "identity.json"


@dataclass(slots=True)
class State:
    """Where training is after a whole epoch.

    Attributes:
        epoch: Epochs that are done.
        variables: Of model and optimizer, in their order.
        best: The model's, from the epoch with the least validation loss; empty: none yet.
        best_loss: That loss.
        best_epoch: Its number, from 1.
        history: Figures of each epoch.
    """

    epoch: int = 0
    variables: Arrays = field(default_factory=list)
    best: Arrays = field(default_factory=list)
    best_loss: float = float("inf")
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


class Workshop:
    """The folder `.RUN.training` beside a run directory, there until the run is written.

    Args:
        out: The run directory to be.
        identity: What decides the result (configuration, photos, versions): going on under another
            would make a run that nobody can repeat.
    """

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self.path = out.parent / f".{out.name}.training"
        self._out, self._identity = out, identity

    def open(self, *, resume: bool, first: bool = True) -> State:
        """Return where to begin.

        Args:
            resume: Go on where an earlier run was stopped; with none there, begin.
            first: Whether this process keeps the state; others of the same run read it only.

        Raises:
            UsageError: There is an unfinished run and nobody said what to do with it, or it is another's.
            DataError: It is damaged, or the folder cannot be written.
        """
        if not (self.path / _STATE).is_file():
            if first:
                # A kill within the first epoch leaves nothing worth keeping.
                shutil.rmtree(self.path, ignore_errors=True)
                self._write(_IDENTITY, json.dumps(self._identity, indent=1, sort_keys=True).encode())
            return State()
        if not resume:
            raise UsageError(
                f"Expected: no unfinished training for this --out. Received: {self.path}.",
                hint="go on with --resume, or remove that folder to begin anew",
            )
        self._refuse_other()
        if first:
            for left in self.path.glob(".tmp-*"):
                shutil.rmtree(left)  # what was being written when a kill came
        return self._load()

    def save(self, state: State) -> None:
        """Keep a state in place of the one before; a kill leaves one or the other, whole.

        Raises:
            DataError: It cannot be written; the state before is still there.
        """
        told = {name: getattr(state, name) for name in ("epoch", "best_loss", "best_epoch", "history")}
        named: dict[str, Any] = {f"v{row}": value for row, value in enumerate(state.variables)}
        named |= {f"b{row}": value for row, value in enumerate(state.best)}
        counts = {"variables": len(state.variables), "best": len(state.best)}
        try:
            with written_beside(self.path / _STATE) as staged:
                np.savez(staged, told=np.array(json.dumps(told | counts)), **named)
        except OSError as exc:
            raise self._no_room(exc) from exc

    @contextmanager
    def handing_over(self) -> Iterator[Path]:
        """Give a name to write the run under; at the end it is the run directory, and the workshop is gone.

        What is written lies in the workshop until it is whole, so that a kill leaves nothing beside it.

        Raises:
            DataError: There is no room for it; the state is still there.
        """
        whole = self.path / self._out.name
        try:
            shutil.rmtree(whole, ignore_errors=True)
            with written_beside(whole) as staged:
                staged.mkdir()
                yield staged
            whole.replace(self._out)
            flush(self._out.parent)
        except OSError as exc:
            raise self._no_room(exc) from exc
        shutil.rmtree(self.path, ignore_errors=True)

    def _load(self) -> State:
        path = self.path / _STATE
        try:
            (text,) = read_npz(path, ("told",))
            told = json.loads(str(text))
            variables, best = (
                list(read_npz(path, tuple(f"{letter}{row}" for row in range(told[key]))))
                for letter, key in (("v", "variables"), ("b", "best"))
            )
            return State(
                told["epoch"], variables, best, told["best_loss"], told["best_epoch"], told["history"]
            )
        except (DataError, ValueError, KeyError, TypeError) as exc:
            raise DataError(
                f"Expected: a whole state of training. Received: {path}: {exc}.",
                hint=f"it is damaged: remove {self.path} and train anew",
            ) from exc

    def _refuse_other(self) -> None:
        try:
            before = json.loads((self.path / _IDENTITY).read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise DataError(
                f"Expected: JSON in {self.path / _IDENTITY}. Received: {exc}.",
                hint=f"remove {self.path} and train anew",
            ) from exc
        changed = sorted(
            key for key in before.keys() | self._identity if before.get(key) != self._identity.get(key)
        )
        if changed:
            told = "; ".join(f"{key}: {self._identity.get(key)} for {before.get(key)}" for key in changed)
            raise UsageError(
                f"Expected: the settings and photos that the unfinished run began with. Received: {told}.",
                hint=f"use the same, or remove {self.path} and train anew",
            )

    def _write(self, name: str, content: bytes) -> None:
        try:
            with written_beside(self.path / name) as staged:
                staged.write_bytes(content)
        except OSError as exc:
            raise self._no_room(exc) from exc

    def _no_room(self, exc: OSError) -> DataError:
        return DataError(
            f"Expected: room to write for {self._out}. Received: {self.path}: {exc.strerror or exc}.",
            hint="make room where it may be written, then go on with --resume: what was kept before is there",
        )


def weights_hash(arrays: Sequence[NDArray[Any]]) -> str:
    """Return the sha256, hex, of weights: shapes, dtypes and bytes in their order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
