"""Recorder, broker and database killed (-9) again and again, a full disk: nothing lost, nothing doubled."""

import asyncio
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.fleet import Device, Figures, Traffic, happen
from dashboard.schema import open_engine
from edge_agent.contracts.topics import DeviceTopics
from tests.brokers import Mosquitto, free_port
from tests.conftest import find_program, missing
from tests.databases import PostgresServer, find_postgres

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]

TRAFFIC = Traffic(events_per_minute=120, snapshot_s=2, ack_timeout_s=1.5, longest_wait_s=1)
DEVICES = 20


class Recording:
    """The recorder of record as a process."""

    def __init__(self, folder: Path, broker: Mosquitto, database: str, largest: int | None = None) -> None:
        self._log = folder / "recorder.log"
        self._command = [sys.executable, "-m", "dashboard", "--broker", broker.url, "--database", database]
        self._command += ["--port", str(free_port()), "--no-login", "--files", str(folder / "files")]
        self.largest = largest
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; where `largest` is set no file of its may grow beyond."""

        def limit() -> None:
            # Python ignores SIGXFSZ: writing fails with EFBIG, as on a disk that is full.
            if self.largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest, self.largest))

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, preexec_fn=limit)  # noqa: PLW1509

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
            self._process.wait(30)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def told(self) -> str:
        """Return what it has written."""
        return self._log.read_text()


class Fleet:
    """Devices in a thread of their own."""

    def __init__(self, port: int, count: int = DEVICES, seed: int = 1) -> None:
        rng = random.Random(seed)
        self.figures = Figures()
        self.devices = [
            Device(
                DeviceTopics("0417", f"cam-{number}"),
                port,
                TRAFFIC,
                self.figures,
                random.Random(rng.random()),
            )
            for number in range(count)
        ]
        self._rng, self._stopping, self._ending = rng, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))
        self._thread.start()

    async def _live(self) -> None:
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for device in self.devices:
                tasks.create_task(device.live(ending))
            while not self._stopping.is_set():
                await happen(self.devices, TRAFFIC, time.monotonic() + 0.2, self._rng)
            await asyncio.to_thread(self._ending.wait)
            ending.set()
            for device in self.devices:
                device.leave()

    def quiet(self) -> None:
        """Nothing happens any more before the shelves."""
        self._stopping.set()

    @property
    def waiting(self) -> int:
        """How many events nobody has acknowledged."""
        return sum(device.last - device.acked for device in self.devices)

    def end(self) -> None:
        """Leave."""
        self._stopping.set()
        self._ending.set()
        self._thread.join(60)


@contextmanager
def fleet(broker: Mosquitto) -> Iterator[Fleet]:
    """Give a fleet."""
    made = Fleet(broker.port)
    try:
        yield made
    finally:
        made.end()


def until(true: Callable[[], bool], recorder: Recording, patience_s: float = 90) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, recorder.told()[-3000:]
        assert recorder.alive, recorder.told()[-3000:]
        time.sleep(0.1)


def assert_all_there(database: str, made: Fleet) -> None:
    engine = open_engine(database)
    with engine.connect() as connection:
        query = sa.text("SELECT stream, count(*), min(sequence), max(sequence) FROM event GROUP BY stream")
        found = {row[0]: tuple(row[1:]) for row in connection.execute(query)}
        gaps = connection.execute(sa.text("SELECT count(*) FROM gap")).scalar()
        bad = connection.execute(sa.text("SELECT count(*) FROM quarantine")).scalar()
    engine.dispose()
    assert (gaps, bad) == (0, 0)
    assert found == {device.stream: (device.last, 1, device.last) for device in made.devices if device.last}
    assert made.figures.events > 2 * DEVICES


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """One that can be killed."""
    with Mosquitto(find_program("mosquitto"), tmp_path / "broker") as found:
        yield found


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that flushes, as power cuts need it."""
    programs = find_postgres()
    if programs is None:
        missing("PostgreSQL", "install it, for example: apt install postgresql")
    else:
        found = PostgresServer(programs, durable=True)
        try:
            found.start()
            yield found
        finally:
            found.remove()


FEW = ("recorder", "broker", "recorder")
MANY = ("recorder", "broker", "recorder") * 10


@pytest.mark.parametrize("victims", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_recorder_and_broker_are_killed(tmp_path: Path, broker: Mosquitto, victims: tuple[str, ...]) -> None:
    database, rng = f"sqlite:///{tmp_path / 'recorder.sqlite'}", random.Random(len(victims))
    recorder = Recording(tmp_path, broker, database)
    lives: dict[str, Recording | Mosquitto] = {"recorder": recorder, "broker": broker}
    recorder.start()
    with fleet(broker) as made:
        until(lambda: any(device.acked for device in made.devices), recorder)
        for victim in victims:
            time.sleep(rng.uniform(0.1, 2))
            lives[victim].kill()
            time.sleep(rng.uniform(0, 0.5))
            lives[victim].start()
        made.quiet()
        until(lambda: made.waiting == 0, recorder)
    recorder.kill(signal.SIGTERM)
    assert_all_there(database, made)


@pytest.mark.parametrize(
    ("times", "away_s"),
    [(2, 1.5), pytest.param(12, 3, marks=pytest.mark.slow), pytest.param(1, 60, marks=pytest.mark.slow)],
)
def test_the_database_is_killed_and_stays_away(
    tmp_path: Path, broker: Mosquitto, server: PostgresServer, times: int, away_s: float
) -> None:
    recorder = Recording(tmp_path, broker, server.url)
    recorder.start()
    with fleet(broker) as made:
        until(lambda: any(device.acked for device in made.devices), recorder)
        for _ in range(times):
            time.sleep(0.7)
            server.kill()
            time.sleep(away_s)
            server.start()
            assert recorder.alive
        before = sum(device.acked for device in made.devices)
        until(lambda: sum(device.acked for device in made.devices) > before, recorder)
        made.quiet()
        until(lambda: made.waiting == 0, recorder)
    recorder.kill(signal.SIGTERM)
    assert_all_there(server.url, made)


@pytest.mark.slow
def test_the_disk_is_full_and_gets_room_again(tmp_path: Path, broker: Mosquitto) -> None:
    database = f"sqlite:///{tmp_path / 'recorder.sqlite'}"
    recorder = Recording(tmp_path, broker, database, largest=400_000)
    recorder.start()
    with fleet(broker) as made:
        until(lambda: "database:" in recorder.told(), recorder)
        assert recorder.alive
        standing = sum(device.acked for device in made.devices)
        time.sleep(2)
        assert recorder.alive
        assert sum(device.acked for device in made.devices) <= standing + DEVICES * 20
        # Another process with room stands for a disk that somebody has cleared.
        recorder.kill(signal.SIGTERM)
        recorder.largest = None
        recorder.start()
        made.quiet()
        until(lambda: made.waiting == 0, recorder)
    recorder.kill(signal.SIGTERM)
    assert_all_there(database, made)
