"""The other stages as processes, through their public command lines; each with a log of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_agent.contracts.errors import GateError, KitError, ServiceError

_STOP_S = 10.0
_TAIL = 12


def run_stage(log: Path, *command: str) -> None:
    """Run a stage to its end.

    Raises:
        KitError: It failed; with the end of what it said.
        GateError: Its gate said no.
    """
    with log.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", *command], stdout=file, stderr=subprocess.STDOUT, env=_quiet(), check=False
        )
    if done.returncode:
        kind = GateError if done.returncode == GateError.exit_code else KitError
        raise kind(
            f"Expected: `{command[0]}` to succeed. Received: exit code {done.returncode}.\n{_tail(log)}"
        )


@dataclass(frozen=True, slots=True)
class Running:
    """A stage that goes on until it is stopped."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def require_alive(self) -> None:
        """Return if it still runs.

        Raises:
            KitError: It does not.
        """
        if self.process.poll() is not None:
            raise KitError(
                f"Expected: {self.name} to go on. Received: exit code {self.process.returncode}.\n"
                f"{_tail(self.log)}"
            )


@contextmanager
def running(name: str, log: Path, command: Sequence[str]) -> Iterator[Running]:
    """Start a stage, and stop it at the end: SIGTERM, and after a while SIGKILL."""
    with log.open("wb") as file:
        # A session of its own: Ctrl-C is for the demo, which stops its stages in order.
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=_quiet(), start_new_session=True
        )
    try:
        yield Running(name, process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def broker_command(folder: Path, port: int, log: Path) -> list[str]:
    """Return how to start a broker: mosquitto where it is on PATH, else the embedded one.

    Debian puts mosquitto where only root's PATH leads.
    """
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    mosquitto = shutil.which("mosquitto", path=places)
    if mosquitto is None or os.environ.get("SHELFKIT_BROKER") == "amqtt":
        return [sys.executable, "-m", "deploy.demo.embedded_broker", str(port)]
    run_stage(log, "deploy", "broker", "--loopback", "--port", str(port), "--out", str(folder))
    if os.geteuid() == 0:
        # As root, mosquitto becomes its own user, who cannot write here.
        with (folder / "mosquitto.conf").open("a", encoding="utf-8") as file:
            file.write("user root\n")
    return [mosquitto, "-c", str(folder / "mosquitto.conf")]


def wait_for_port(running_broker: Running, port: int, patience_s: float = 20.0) -> None:
    """Wait until somebody listens.

    Raises:
        ServiceError: Nobody did.
        KitError: The process ended.
    """
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        running_broker.require_alive()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise ServiceError(f"Expected: a broker at 127.0.0.1:{port}. Received: none in {patience_s:g} s.")


def wait_for_line(stage: Running, start: str, patience_s: float = 30.0) -> str:
    """Wait until a stage has said a line that starts in a certain way, and return it.

    Raises:
        ServiceError: It did not.
        KitError: The process ended.
    """
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        for line in stage.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(start):
                return line
        stage.require_alive()
        time.sleep(0.1)
    raise ServiceError(f"Expected: {stage.name} to be ready. Received: nothing in {patience_s:g} s.")


def free_port(wanted: int = 0) -> int:
    """Return the wanted port where it is free, else any that is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise ServiceError("Expected: a free port on 127.0.0.1. Received: none.")


def _quiet() -> dict[str, str]:
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
    return "\n".join([f"the end of {log}:", *(f"  {line}" for line in lines)])
