"""systemd's part, played: starts a process, listens to it, ends it when it falls silent, starts it again."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from queue import Empty, Queue

from edge_agent.health import STARTS

_STEP_S = int(STARTS.rpartition("=")[2]) / 1e6


class Supervisor:
    """systemd's part: listens to the main process, and ends and starts it again when it falls silent."""

    def __init__(self, folder: Path, *command: str, watchdog_s: float) -> None:
        self._command, self._watchdog_s = command, watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._said: Queue[str] = Queue()
        # Read at once, as systemd does: a full socket would hold up the process itself.
        self._reader = threading.Thread(target=self._read, name="notify", daemon=True)
        self._reader.start()
        self._environment = os.environ | {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": str(int(watchdog_s * 1e6)),
            "PYTHONFAULTHANDLER": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, patience_s: float = 90) -> int:
        """Start it, wait until it is ready, and return how many steps to there it told of."""
        self.process = subprocess.Popen(self._command, env=self._environment)
        steps = 0
        while (said := self.hear(patience_s)) == STARTS:
            steps += 1
        assert said == "READY=1"
        return steps

    def hear(self, patience_s: float) -> str | None:
        """Return the next thing it says; None where it says nothing for so long."""
        try:
            return self._said.get(timeout=patience_s)
        except Empty:
            return None

    def _read(self) -> None:
        while said := self._socket.recv(4096).decode():
            self._said.put(said)

    def watch(self) -> int:
        """Count its pings until they stop; then end it as systemd does, and start it again."""
        pings = 0
        while (said := self.hear(self._watchdog_s)) is not None:
            assert said == "WATCHDOG=1"
            pings += 1
        assert self.process is not None
        assert self.process.poll() is None
        # A process that is stopped does not even notice the first signal.
        self.process.send_signal(signal.SIGABRT)
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
        assert self.process.wait() < 0
        self.start()
        return pings

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"", self._socket.getsockname())
        self._reader.join()
        self._socket.close()


class Service:
    """A service as systemd runs one: `Type=notify`, a watchdog, `ExecStopPost=`, started again for ever.

    Programs that ask systemd for something find `systemctl` and `journalctl` in `folder / "bin"`: what they
    ask comes here.

    Args:
        folder: For the socket, the log and those programs.
        command: `ExecStart=`.
        stop_post: `ExecStopPost=`.
        environment: Of both.
        watchdog_s: `WatchdogSec=`.
        start_s: `TimeoutStartSec=`.
    """

    def __init__(
        self,
        folder: Path,
        command: list[str],
        stop_post: list[str],
        environment: dict[str, str],
        *,
        watchdog_s: float,
        start_s: float,
    ) -> None:
        self.folder, self._command, self._stop_post = folder, command, stop_post
        self._watchdog_s, self.start_s = watchdog_s, start_s
        self.log = folder / "journal"
        self._asked = folder / "asked"
        self._programs()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.settimeout(0.05)
        self.environment = {**environment, "NOTIFY_SOCKET": str(folder / "notify")}
        self.results: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def path(self) -> str:
        """PATH of a program that asks systemd for something."""
        return os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)])

    @property
    def rebooted(self) -> bool:
        """Whether somebody asked for a reboot."""
        return "reboot" in self._asked.read_text()

    def _programs(self) -> None:
        (self.folder / "bin").mkdir()
        self._asked.touch()
        self.log.touch()
        for name, does in (
            ("systemctl", f'echo "$1" >> {self._asked}'),
            ("journalctl", f"tail -n 20 {self.log}"),
        ):
            (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
            (self.folder / "bin" / name).chmod(0o755)

    def start(self) -> None:
        """Begin; also after `cut`."""
        self._end.clear()
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End everything as a power cut does: at once, and without a word."""
        self._end.set()
        if self.process is not None:
            self.process.kill()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Leave nothing behind."""
        self.cut()
        self._socket.close()

    def _run(self) -> None:
        while not self._end.is_set():
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self._command, env=self.environment, stdout=log, stderr=log, cwd="/"
                )
            result = self._watch(self.process)
            if self._end.is_set():
                return
            self.results.append(result)
            code = self.process.returncode
            status = str(code) if code >= 0 else signal.Signals(-code).name.removeprefix("SIG")
            told = {"SERVICE_RESULT": result, "EXIT_STATUS": status}
            subprocess.run(self._stop_post, env={**self.environment, **told}, check=True, cwd="/")
            self._end.wait(0.1)

    def _watch(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for its end; return what systemd would call it."""
        self._drain()
        asked = len(self._asked.read_text().split())
        ready, until = False, time.monotonic() + self.start_s
        while process.poll() is None:
            said = self._hear()
            if said == "READY=1":
                ready = True
            if said == STARTS and not ready:
                until = max(until, time.monotonic() + _STEP_S)
            if said is not None and (ready or said == "READY=1"):
                until = time.monotonic() + self._watchdog_s
            if self._end.is_set():
                process.kill()
            elif self._asked.read_text().split()[asked:].count("restart"):
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                    return "success"
                process.kill()
                process.wait()
                return "timeout"
            elif time.monotonic() > until:
                process.send_signal(signal.SIGABRT)
                process.wait(20)
                return "watchdog" if ready else "timeout"
        process.wait()
        if process.returncode == 0:
            return "success"
        return "exit-code" if process.returncode > 0 else "signal"

    def _hear(self) -> str | None:
        try:
            return self._socket.recv(4096).decode()
        except TimeoutError:
            return None

    def _drain(self) -> None:
        while self._hear() is not None:
            pass
