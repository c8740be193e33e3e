"""A real agent process before a rendered shelf, and an operator who asks it for things."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Any

from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication, Received
from tests.brokers import Mosquitto, subscribed

TOPICS = DeviceTopics("0417", "cam-12-01")
PATIENCE_S = 60.0


class UnheardError(AssertionError):
    """What was waited for did not come."""


def _reply_to(name: str, request: str) -> Callable[[str, dict[str, Any]], bool]:
    return lambda leaf, value: leaf == f"reply/{name}" and value["request"] == request


class Running:
    """An agent process, and everything that it said.

    Args:
        config: Its `device.yaml`.
        link: An operator's, who hears everything.
    """

    def __init__(self, config: Path, link: Link) -> None:
        self.config, self._link = config, link
        self.log = config.parent / "agent.log"
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.process = self.started()

    def started(self) -> subprocess.Popen[bytes]:
        """Start the process."""
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=os.environ, stdout=log, stderr=log)

    def ask(self, name: str, *, request: str | None = None, **payload: object) -> dict[str, Any]:
        """Send a command, and return the reply."""
        request = request or str(uuid.uuid4())
        self.tell(name, json.dumps({"request": request, **payload}).encode())
        return self.hear(_reply_to(name, request), f"reply to {name}")

    def ask_again(self, name: str, times: int = 12) -> dict[str, Any]:
        """Ask until there is an answer: what meets a full queue is dropped, on either side."""
        for _ in range(times):
            request = str(uuid.uuid4())
            self.tell(name, json.dumps({"request": request}).encode())
            with suppress(UnheardError):
                return self.hear(_reply_to(name, request), f"reply to {name}", patience_s=10)
        message = f"no reply to {name}, asked {times} times; log: {self.log.read_text()}"
        raise AssertionError(message)

    def ask_until(self, name: str, *, sorry: tuple[str, ...], **payload: Any) -> dict[str, Any]:  # noqa: ANN401 - of any command
        """Ask again while the error has one of these words.

        The agent may just have begun, and have seen nothing yet; or an arm is before the shelf.
        """
        end = time.monotonic() + PATIENCE_S
        while True:
            reply = self.ask(name, **payload)
            if not any(word in reply.get("error", "") for word in sorry) or time.monotonic() > end:
                return reply
            time.sleep(0.5)

    def tell(self, name: str, payload: bytes, *, retain: bool = False) -> None:
        """Send a command, whatever it is."""
        assert self._link.publish(Publication(TOPICS.command(name), payload, retain=retain)) is not None

    def hear(self, wanted: Any, what: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:  # noqa: ANN401 - a predicate
        """Return the next message that is wanted."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            for leaf, value in self._heard(0.2):
                if wanted(leaf, value):
                    return value
        message = f"no {what} in {patience_s} s; log: {self.log.read_text()}"
        raise UnheardError(message)

    def health(self, **wanted: object) -> dict[str, Any]:
        """Return the next health with these values."""
        return self.hear(
            lambda leaf, value: leaf == "health" and all(value.get(key) == wanted[key] for key in wanted),
            f"health with {wanted}",
        )

    def state(self, wanted: Any = lambda _: True) -> dict[str, Any]:  # noqa: ANN401 - a predicate
        """Return the next snapshot that is wanted."""
        return self.hear(lambda leaf, value: leaf == "state" and wanted(value), "state")

    def now(self, wanted: Any) -> dict[str, Any]:  # noqa: ANN401 - a predicate
        """Return the latest snapshot where it is wanted, else the next one that is."""
        latest = [value for leaf, value in self.said if leaf == "state"][-1:]
        return latest[0] if latest and wanted(latest[0]) else self.state(wanted)

    def replies(self, seconds: float) -> int:
        """Listen for a while; return how many replies came."""
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            count += sum(leaf.startswith("reply/") for leaf, _ in self._heard(0.2))
        return count

    def _heard(self, seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            notice = self._link.notices.get(timeout=seconds)
        except Empty:
            return
        if isinstance(notice, Received) and "/cmd/" not in notice.topic:
            leaf = notice.topic.split("/", 4)[4]
            value = json.loads(notice.payload) if notice.payload else {}
            self.said.append((leaf, value))
            yield leaf, value

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the process."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def again(self) -> None:
        """Start it once more."""
        self.process = self.started()


@contextmanager
def running(broker: Mosquitto, config: Path) -> Iterator[Running]:
    """Give a running agent; it is ended at the end."""
    with subscribed(broker.address, "shelfkit/#", client_id="operator") as link:
        agent = Running(config, link)
        try:
            yield agent
        finally:
            if agent.process.poll() is None:
                agent.kill()
