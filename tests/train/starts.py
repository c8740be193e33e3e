"""Starts of `shelfkit train` in processes of their own that share one slow import of Keras.

A server process imports what training needs and does nothing else; each start is a fork of it, with
a process id, signals, limits, environment and memory of its own.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(["train.fit", "train.progress"])
_ANEW = get_context("spawn")


@dataclass(frozen=True, slots=True)
class Start:
    """One start: its process, and the folder of what it printed."""

    process: BaseProcess
    folder: Path

    def wait(self, timeout_s: float = 600) -> int:
        """Return the exit code, negative for a signal."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, f"still running\n{self.errors}"
        return self.process.exitcode

    def kill(self) -> None:
        """Send SIGKILL and see it gone."""
        self.process.kill()
        self.process.join()

    @property
    def errors(self) -> str:
        """What it has written to standard error."""
        return (self.folder / "err").read_text()

    @property
    def output(self) -> str:
        """What it has written to standard output."""
        return (self.folder / "out").read_text()

    def told(self) -> dict[str, Any]:
        """Return the JSON of a start that ended well."""
        code = self.wait()
        assert code == 0, f"exit code {code}\n{self.errors}"
        told: dict[str, Any] = json.loads(self.output)
        return told


def shelf_photos(folder: Path, count: int) -> Path:
    """Write so many photos of each of three colours in much noise: quickly read, learned in some epochs."""
    rng = np.random.default_rng(1)
    for channel, label in enumerate(("empty", "milk", "tea")):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            noise = rng.integers(0, 200, (36, 36, 3))
            noise[..., channel] += 40
            cv2.imwrite(str(folder / label / f"{number}.png"), noise.astype(np.uint8))
    return folder


def start(
    folder: Path,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    limit_bytes: int | None = None,
    devices: int = 1,
    fresh: bool = False,
) -> Start:
    """Start `shelfkit train` with these arguments.

    Args:
        folder: Its working directory; its standard output and error go to `out` and `err` there.
        arguments: After `shelfkit train`.
        environment: What is added to it.
        limit_bytes: Of the largest file that it may write.
        devices: CPUs that TensorFlow sees.
        fresh: Import everything anew: for another backend, and what Keras reads once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "err").write_text("")
    process = (_ANEW if fresh else _SERVER).Process(
        target=_train,
        args=(folder, list(map(str, arguments)), dict(environment or {}), limit_bytes, devices),
        daemon=True,
    )
    process.start()
    return Start(process, folder)


def _train(
    folder: Path, arguments: list[str], environment: dict[str, str], limit_bytes: int | None, devices: int
) -> None:
    import resource  # noqa: PLC0415 - in the new process

    os.setsid()
    # Whoever started the tests may have had it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.update(environment)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    if devices > 1:
        import tensorflow as tf  # noqa: PLC0415 - imported by the server

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    sys.argv = ["shelfkit", "train", *arguments]
    from edge_agent.cli import main  # noqa: PLC0415 - in the new process

    main()
