"""A disk whose power is cut: at a given operation everything stops, and what was not flushed is lost.

The operations of this process on files below one folder are counted: to open for writing, to flush, rename,
link, unlink, make and remove. At the chosen one the process is dead: it, and every later one (a clean-up as
well), raises `PowerCut`, which nothing catches. Then the disk shows what a real one may show: files that were
never flushed are torn, and names that were changed in a folder that was not flushed are as they were before.
"""

import builtins
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

_BY_PATH = ("mkdir", "rmdir", "unlink", "remove", "truncate", "chmod")
_BY_TWO = ("rename", "replace", "link", "symlink")


class PowerCut(BaseException):
    """Nothing is done any more."""


@dataclass
class Disk:
    """Counts operations, and ends at one.

    Args:
        root: Folder whose operations count.
        backup: Beside it, on the same disk: what was there before a rename.
        at: Number of the operation that does not come about; None: all of them do.
    """

    root: Path
    backup: Path
    at: int | None = None
    done: int = 0
    log: list[str] = field(default_factory=list)
    dead: bool = False
    _written: dict[tuple[int, int], Path] = field(default_factory=dict)
    _renamed: list[tuple[Path, Callable[[], None]]] = field(default_factory=list)

    def count(self, name: str, path: object) -> None:
        """Count an operation, or die at it."""
        if self.dead:
            raise PowerCut
        if self.at is not None and self.done == self.at:
            self.dead = True
            raise PowerCut
        self.done += 1
        self.log.append(f"{name} {path}")

    def ours(self, path: object) -> bool:
        """Return whether a path counts; one below a folder that is held open does not tell, and does."""
        if isinstance(path, int):
            return True
        text = os.fsdecode(os.fspath(path))  # type: ignore[call-overload] # whatever os takes
        return not text.startswith("/") or text.startswith(str(self.root))

    def written(self, file: Any) -> None:  # noqa: ANN401 - whatever open gives
        """Note a file whose content is not on the disk yet."""
        found = os.fstat(file if isinstance(file, int) else file.fileno())
        name = Path(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}").readlink()
        self._written[found.st_dev, found.st_ino] = name

    def flushed(self, handle: int) -> None:
        """Note what is on the disk now."""
        found = os.fstat(handle)
        self._written.pop((found.st_dev, found.st_ino), None)
        place = Path(f"/proc/self/fd/{handle}").readlink()
        self._renamed = [item for item in self._renamed if item[0].parent != place]

    def renames(self, source: Path, target: Path) -> None:
        """Remember how to take a rename back, until its folder is flushed."""
        kept: Callable[[], None]
        if target.is_symlink():
            leads = target.readlink()
            kept = lambda: target.symlink_to(leads)  # noqa: E731 - one of three ways back
        elif target.is_file():
            saved = self.backup / str(len(list(self.backup.iterdir())))
            os.link(target, saved)
            kept = lambda: os.link(saved, target)  # noqa: E731
        else:
            kept = lambda: None  # noqa: E731

        def undo() -> None:
            if not target.is_symlink() and not target.exists():
                return
            if source.parent.is_dir() and not source.exists():
                target.rename(source)
            elif target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()
            kept()

        self._renamed.append((target, undo))

    def lose(self, what: str = "all") -> None:
        """Lose what was not flushed, latest first; or one of the names in folders that were not."""
        if what == "one":
            targets = [target for target, _ in self._renamed]
            alone = [
                undo
                for number, (target, undo) in enumerate(self._renamed)
                if target not in targets[number + 1 :]
            ]
            if alone:
                alone[self.done % len(alone)]()
            return
        for (device, inode), _ in self._written.items():
            for path in self.root.rglob("*"):
                if path.is_symlink() or not path.is_file():
                    continue
                found = path.stat()
                if (found.st_dev, found.st_ino) == (device, inode):
                    os.truncate(path, found.st_size // 2)
        for _, undo in reversed(self._renamed):
            undo()


@contextmanager
def power(disk: Disk) -> Iterator[None]:
    """Let a disk count what this process does."""
    with ExitStack() as patches:
        real = {name: getattr(os, name) for name in (*_BY_PATH, *_BY_TWO, "fsync", "open")}
        for name in _BY_PATH:
            patches.enter_context(mock.patch.object(os, name, _by_path(disk, name, real[name])))
        for name in _BY_TWO:
            patches.enter_context(mock.patch.object(os, name, _by_two(disk, name, real[name])))
        patches.enter_context(mock.patch.object(os, "fsync", _fsync(disk, real["fsync"])))
        patches.enter_context(mock.patch.object(os, "open", _os_open(disk, real["open"])))
        for place in (io, builtins):
            patches.enter_context(mock.patch.object(place, "open", _open(disk, io.open)))
        yield


def _by_path(disk: Disk, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def operation(path: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - as the real one
        if disk.ours(path):
            disk.count(name, path)
        return real(path, *args, **more)

    return operation


def _by_two(disk: Disk, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def operation(source: Any, target: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - as the real one
        if disk.ours(target):
            disk.count(name, f"{source} {target}")
            if name in {"rename", "replace"}:
                disk.renames(Path(source), Path(target))
        return real(source, target, *args, **more)

    return operation


def _fsync(disk: Disk, real: Callable[[int], None]) -> Callable[[int], None]:
    def operation(handle: int) -> None:
        if disk.ours(Path(f"/proc/self/fd/{handle}").readlink()):
            disk.count("fsync", Path(f"/proc/self/fd/{handle}").readlink())
            disk.flushed(handle)
        real(handle)

    return operation


def _os_open(disk: Disk, real: Callable[..., int]) -> Callable[..., int]:
    def operation(path: Any, flags: int, *args: Any, **more: Any) -> int:  # noqa: ANN401 - as the real one
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) and disk.ours(path)
        if writes:
            disk.count("open", path)
        handle = real(path, flags, *args, **more)
        if writes:
            disk.written(handle)
        return handle

    return operation


def _open(disk: Disk, real: Callable[..., Any]) -> Callable[..., Any]:
    def operation(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:  # noqa: ANN401 - as the real one
        writes = bool(set(mode) & set("wax+")) and not isinstance(file, int) and disk.ours(file)
        if writes:
            disk.count("open", file)
        opened = real(file, mode, *args, **more)
        if writes:
            disk.written(opened)
        return opened

    return operation
