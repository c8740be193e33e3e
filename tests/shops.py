"""A shop under test: real processes of agent, broker and recorder, ended as power cuts end them."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from dashboard.queries import EventFilter, Queries
from dashboard.store import Store
from edge_agent.camera.shelf.layout import places
from edge_agent.camera.shelf.scene import Copy, shelf
from edge_agent.contracts.address import Address
from tests.brokers import Mosquitto, free_port
from tests.conftest import Kit, write_device

Found = list[dict[str, object]]


def restless_clip(folder: Path, seconds: float) -> Path:
    """Write a clip of a shelf where something changes in every half second, without hands."""
    rng = np.random.default_rng(5)
    contents: dict[str, Copy | None] = {
        slot: Copy.picked(place.product, rng) for slot, place in places().items()
    }
    full = dict(contents)
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (1280, 720))
    for number in range(round(seconds * 10)):
        if number % 5 == 0:
            for slot in rng.choice(list(contents), 3, replace=False):
                contents[slot] = None if contents[slot] else full[slot]
            picture = shelf(contents)
        noise = rng.integers(0, 6, picture.shape, np.uint8)
        writer.write(cv2.add(picture, noise))
    writer.release()
    return folder / "clip.avi"


class Life:
    """A process that is killed and started again."""

    def __init__(self, log: Path, *command: str) -> None:
        self._command, self._log = command, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._command], stdout=log, stderr=log, env=os.environ
            )

    def ended(self) -> bool:
        """Return whether it does not run."""
        return self._process is None or self._process.poll() is not None

    @property
    def code(self) -> int | None:
        """Its exit code; None while it lives."""
        assert self._process is not None
        return self._process.poll()

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it, and wait until it has ended."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
            self._process.wait()

    def told(self) -> str:
        """Return what it has written."""
        return self._log.read_text() if self._log.exists() else ""


class Shop:
    """A broker, a recorder, and an agent that sees a restless shelf. A context manager.

    Args:
        folder: For everything.
        bundle: The model.
        kit: Runs commands.
        broker: Already running.
        seconds: Length of the clip that the camera plays.
        port: Where the agent finds the broker; the broker's own if None.
        user: Name under which the recorder comes.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        kit: Kit,
        broker: Mosquitto,
        *,
        seconds: float = 30,
        port: int | None = None,
        user: str = "",
    ) -> None:
        kit("agent", "render", "--scene", folder, "--seed", 7)
        clip = restless_clip(folder, seconds)
        write_device(
            folder,
            bundle,
            port=port or broker.port,
            camera=f'{{source: "file:{clip}", fps: 10}}',
            rules="{confirm_s: 0.1, clear_s: 0.1}",
            delivery="{ack_timeout_s: 2}",
        )
        self.folder, self.database = folder, f"sqlite:///{folder / 'recorder.sqlite'}"
        self.agent = Life(folder / "agent.log", "edge_agent", "run", "--config", str(folder / "device.yaml"))
        self.recorder = recorder(folder, broker, user=user)

    @property
    def outbox(self) -> Path:
        """The agent's file."""
        return self.folder / "state" / "outbox.sqlite"

    def finish(self, patience_s: float = 120) -> None:
        """Let the agent see the clip to its end, until it leaves by itself with everything delivered."""
        end = time.monotonic() + patience_s
        while True:
            if self.agent.ended():
                self.agent.start()
            wait_until(self.agent.ended, max(end - time.monotonic(), 1))
            assert self.agent.code == 0, self.agent.told()[-2000:]
            if waiting_and_last(self.outbox)[0] == 0:
                return

    def __enter__(self) -> Self:
        self.recorder.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.agent.kill()
        self.recorder.kill(signal.SIGTERM)


def recorder(folder: Path, broker: Mosquitto, *, user: str = "") -> Life:
    """Return the recorder of record as a process."""
    url = f"mqtt://{user}@127.0.0.1:{broker.port}" if user else broker.url
    address = ("--broker", url, "--database", f"sqlite:///{folder / 'recorder.sqlite'}")
    return Life(folder / "recorder.log", "dashboard", *address, "--port", str(free_port()))


def recorded(folder: Path) -> tuple[Found, list[dict[str, object]]]:
    """Return every event that the recorder has, in the order of its coming, and every gap."""
    store = Store(f"sqlite:///{folder / 'recorder.sqlite'}")
    queries = Queries(store.engine)
    found = [row["event"] for row in queries.all_events(EventFilter(), 0)]
    gaps = queries.gaps(0, 1_000_000)
    store.close()
    return found, gaps


def waiting_and_last(outbox: Path) -> tuple[int, int]:
    """Return how many events wait in an agent's file, and the latest sequence."""
    with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM event").fetchone()
        (last,) = database.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()
    return count, last


def wait_until(true: Callable[[], bool], patience_s: float) -> None:
    """Wait until something is true."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if true():
            return
        time.sleep(0.2)
    message = f"not within {patience_s} s"
    raise AssertionError(message)


def assert_whole(found: Found, last: int) -> None:
    """One stream, every sequence of it, none twice."""
    sequences = [int(str(event["sequence"])) for event in found]
    assert len({event["streamid"] for event in found}) == 1
    assert [number for number, count in Counter(sequences).items() if count > 1] == []
    assert sorted(sequences) == list(range(1, last + 1))


def assert_no_state_changed_without_an_event(found: Found, slots: int = 5) -> None:
    """Each change of a slot begins where the one before it ended: state and event were written together."""
    by_slot: dict[str, list[dict[str, str]]] = {}
    for event in sorted(found, key=lambda event: str(event["sequence"])):
        data = json.loads(json.dumps(event["data"]))
        if str(event["type"]).endswith("slot-changed.v1"):
            by_slot.setdefault(data["slot"], []).append(data)
    assert len(by_slot) > slots
    for changes in by_slot.values():
        assert all(later["previous"] == earlier["state"] for earlier, later in pairwise(changes))


class Swallower:
    """Stands before a broker and, while `swallows`, keeps every event for itself.

    Attributes:
        swallows: Whether it does.
        answers: Whether it says (PUBACK) that the broker has them.
        swallowed: How many events it kept.
    """

    def __init__(self, broker: Address, *, answers: bool) -> None:
        self._broker, self.answers = broker, answers
        self.swallows, self.swallowed = True, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self._open: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                device, _ = self._listener.accept()
                broker = socket.create_connection((self._broker.host, self._broker.port))
                self._open += [device, broker]
                for work in (self._forward, self._back):
                    threading.Thread(target=work, args=(device, broker), daemon=True).start()

    def _forward(self, device: socket.socket, broker: socket.socket) -> None:
        """Hand on what the device says, packet by packet."""
        with suppress(OSError), device.makefile("rb") as stream:
            for first, packet in packets(stream.read):
                place = packet.find(b"/event/", 0, 200)
                if first >> 4 != PUBLISH or place < 0 or not self.swallows:
                    broker.sendall(packet)
                    continue
                self.swallowed += 1
                if self.answers:
                    device.sendall(bytes([PUBACK << 4, 2]) + message_id(packet))
        with suppress(OSError):
            broker.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _back(device: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError):
            while data := broker.recv(65536):
                device.sendall(data)
        with suppress(OSError):
            device.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for channel in self._open:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
            channel.close()
        self._thread.join(timeout=5)


PUBLISH, PUBACK = 3, 4


def packets(read: Callable[[int], bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield first byte and bytes of each MQTT packet of a connection."""
    while head := read(1):
        length, shift, size = 0, 0, b""
        while True:
            byte = read(1)
            if not byte:
                return
            size += byte
            length |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
        yield head[0], head + size + read(length)


def message_id(publish: bytes) -> bytes:
    """Return the two bytes after the topic of a PUBLISH."""
    start = 1 + next(place for place in range(1, 5) if publish[place] < 0x80)
    end = start + 2 + int.from_bytes(publish[start : start + 2])
    return publish[end : end + 2]


@contextmanager
def small_disk(folder: Path, size: str = "16m") -> Iterator[Path]:
    """Give a disk that is soon full; nothing where this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take the last byte of a disk; return the file that has it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler
