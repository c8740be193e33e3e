"""The file of a rollout, `rollouts/<id>.json` in the fleet's folder, and who may write it.

Every change is read, made and written under a lock, so that `abort` in one terminal and the loop in another
do not undo each other. The loop itself is run by one process at a time: all of them are `svc-operator` to a
broker, which lets that name in once.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deploy.fleet import Fleet
from deploy.rollout.model import ENDED, Rollout, decode, encode
from edge_agent.contracts.errors import DataError, UsageError

_RUNNER, _INVENTORY = ".runner", ".inventory"
_TRIES, _PAUSE_S = 4, 0.05


class Kept:
    """The rollouts of a fleet.

    Args:
        fleet: That they belong to.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._read: dict[str, tuple[tuple[int, ...], Rollout]] = {}

    def ids(self) -> list[str]:
        """Return the names of all, the oldest first."""
        return [rollout.id for rollout in self.every()]

    def every(self) -> list[Rollout]:
        """Return all, the oldest first."""
        found = [self.get(path.stem) for path in self._fleet.rollouts.glob("[!.]*.json")]
        return sorted(found, key=lambda rollout: (rollout.created, rollout.id))

    def going(self) -> list[Rollout]:
        """Return those that somebody must drive, the oldest first."""
        return [rollout for rollout in self.every() if rollout.going]

    def get(self, id_: str) -> Rollout:
        """Return one.

        Raises:
            UsageError: There is none of that name.
            DataError: It cannot be read.
        """
        path = self._path(id_)
        try:
            facts = path.stat()
            seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            known = self._read.get(id_)
            if known is not None and known[0] == seen:
                return known[1]
            found = decode(path.read_bytes(), path)
        except FileNotFoundError:
            raise UsageError(
                f"Expected: a rollout of {self._fleet.folder}. Received: {id_!r}.",
                hint="what there is: shelfkit deploy rollout list",
            ) from None
        except OSError as exc:
            raise DataError(f"Expected: a rollout. Received: {path}: {exc.strerror}.") from exc
        self._read[id_] = (seen, found)
        return found

    def named(self, id_: str) -> Rollout:
        """Return the one of a name; the newest where that is empty.

        Raises:
            UsageError: There is none.
        """
        if id_:
            return self.get(id_)
        every = self.every()
        if not every:
            raise UsageError(
                f"Expected: a rollout in {self._fleet.folder}. Received: none yet.",
                hint="begin one: shelfkit deploy rollout start RELEASE",
            )
        return every[-1]

    def add(self, rollout: Rollout) -> None:
        """Keep a new one.

        Raises:
            UsageError: Devices of it are in another that has not ended.
            DataError: It cannot be written.
        """
        with self._locked():
            self.alone(rollout)
            self._write(rollout)

    def alone(self, rollout: Rollout) -> None:
        """Make sure that no other rollout has devices of this one.

        Raises:
            UsageError: One has.
        """
        for other in self.every():
            shared = other.members.keys() & rollout.members.keys()
            if other.id != rollout.id and other.state not in ENDED and shared:
                raise UsageError(
                    f"Expected: devices that no other rollout has. Received: {min(shared)}, which "
                    f"{other.id} has ({other.state.value}).",
                    hint=f"let that end, or: shelfkit deploy rollout abort {other.id}",
                )

    def change(self, id_: str, how: Callable[[Rollout], Rollout]) -> Rollout:
        """Change one, and return what it is now; it is on the disk before this returns.

        Raises:
            UsageError: There is none of that name.
            DataError: It cannot be read or written.
        """
        with self._locked():
            before = self.get(id_)
            after = how(before)
            if after is not before and after != before:
                self._write(after)
                self._read[id_] = (self._seen(id_), after)
            return after

    @contextmanager
    def runner(self) -> Iterator[bool]:
        """Be the one that runs rollouts of this fleet; False where another process is."""
        self._fleet.rollouts.mkdir(parents=True, exist_ok=True)
        with (self._fleet.rollouts / _RUNNER).open("w") as file:
            yield _held(file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._fleet.rollouts.mkdir(parents=True, exist_ok=True)
        with (self._fleet.rollouts / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def driven(self) -> bool:
        """Tell whether a process runs rollouts of this fleet."""
        path = self._fleet.rollouts / _RUNNER
        if not path.exists():
            return False
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def inventory_changed(self) -> None:
        """Let the process that runs rollouts look at the inventory again, at once."""
        self._fleet.rollouts.mkdir(parents=True, exist_ok=True)
        (self._fleet.rollouts / _INVENTORY).touch()

    def inventory_stamp(self) -> int:
        """Return what changes when the inventory has."""
        try:
            return (self._fleet.rollouts / _INVENTORY).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _path(self, id_: str) -> Path:
        # A name from a command line must not lead out of the folder.
        return self._fleet.rollouts / f"{Path(id_).name}.json"

    def _seen(self, id_: str) -> tuple[int, ...]:
        facts = self._path(id_).stat()
        return (facts.st_ino, facts.st_mtime_ns, facts.st_size)

    def _write(self, rollout: Rollout) -> None:
        self._fleet.write(self._path(rollout.id), encode(rollout))


def _held(file: IO[str]) -> bool:
    """Take a lock; somebody who only looks has it for a moment."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return True
    return False
