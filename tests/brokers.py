"""A real mosquitto under test: started, killed and started again on the same port."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Self

from edge_agent.contracts.address import Address
from edge_agent.mqtt import Connected, Link, Notice, Received, Subscribed


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """A broker process.

    Args:
        program: Where mosquitto is.
        folder: For its configuration and its state.
        lines: More lines of configuration.
        persistent: Whether it keeps retained messages and sessions over a restart.
    """

    def __init__(
        self, program: str, folder: Path, *, lines: tuple[str, ...] = (), persistent: bool = False
    ) -> None:
        self.port = free_port()
        self.address = Address("127.0.0.1", self.port)
        self.url = f"mqtt://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "mosquitto.conf"
        self._kept = folder / "mosquitto.db"
        self._program = program
        access = lines or (f"listener {self.port} 127.0.0.1", "allow_anonymous true")
        kept = ("persistence true", f"persistence_location {folder}/") if persistent else ()
        text = [
            *(line.replace("PORT", str(self.port)) for line in access),
            *kept,
            "user root",
            "max_queued_messages 0",
        ]
        self._config.write_text("\n".join(text) + "\n")
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.02)
            else:
                return
        message = f"mosquitto does not listen: {self._log.read_text()}"
        raise AssertionError(message)

    def kill(self) -> None:
        """End it as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def keep(self) -> None:
        """Let it write what it keeps over a restart, and wait until it has."""
        assert self._process is not None
        before = self._written()
        self._process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 10
        while self._written() == before:
            assert time.monotonic() < end, f"mosquitto keeps nothing: {self._log.read_text()}"
            time.sleep(0.02)

    def _written(self) -> int | None:
        # Written beside and renamed: another file each time.
        return self._kept.stat().st_mtime_ns if self._kept.exists() else None

    def reload(self) -> None:
        """Let it read its access list again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


@contextmanager
def subscribed(address: Address, *topics: str, client_id: str = "listener") -> Iterator[Link]:
    """Give a link that is connected, and hears topics."""
    with Link(address, client_id=client_id, subscriptions=topics) as link:
        ready = Subscribed if topics else Connected
        wait_for(link, lambda notice: isinstance(notice, ready))
        yield link


def wait_for(link: Link, wanted: "object", patience_s: float = 10.0) -> Notice:
    """Return the first notice that a predicate wants; others are thrown away."""
    end = time.monotonic() + patience_s
    while (left := end - time.monotonic()) > 0:
        try:
            notice = link.notices.get(timeout=left)
        except Empty:
            break
        if wanted(notice):  # type: ignore[operator]
            return notice
    message = f"nothing wanted came in {patience_s} s"
    raise AssertionError(message)


def received(link: Link, count: int, patience_s: float = 10.0) -> list[Received]:
    """Return so many messages."""
    found: list[Received] = []
    while len(found) < count:
        notice = wait_for(link, lambda item: isinstance(item, Received), patience_s)
        assert isinstance(notice, Received)
        found.append(notice)
    return found
