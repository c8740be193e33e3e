"""Events a second that the recorder acknowledges: its batches against one commit for each event.

Usage: python benchmarks/recorder.py [--postgres URL] [--events 40000] [--result FILE.json]

A real mosquitto holds events of many devices for the recorder, which was away; then it comes, and takes
them. Clock: from its first acknowledgement to the last, on the topics where devices read them; an event
counts when it is acknowledged. Each turn is a process of its own with an empty database and a new broker:

    batch       as `shelfkit dashboard` does it, with a broker that sends 1000 messages unacknowledged
    batch-20    the same behind a broker that sends 20 (mosquitto's default)
    naive       one commit for each event, everything else the same

PostgreSQL is asked for by URL, and its tables are emptied. Both flush every commit to the disk. Beside the
rate stands how many events a second of the recorder's CPU is enough for, over the same while: on a machine
that does something else, too, the rate says little. `load` tells whether it did, before and after.
"""

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from typing import Annotated, Self

import typer

from benchmarks import fleet, measured
from dashboard.recorder import BATCH, Recorder
from dashboard.store import Store
from dashboard.tables import METADATA
from edge_agent.contracts import messages
from edge_agent.contracts.address import Address
from edge_agent.contracts.command import DefaultCommandGroup, new_app, run_command
from edge_agent.contracts.errors import ServiceError
from edge_agent.contracts.messages import Ack
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Delivered, Link, Publication, Received, Subscribed

_SCRIPT = "recorder.py"
_WAYS = {"batch": (BATCH, 1000), "batch-20": (BATCH, 20), "naive": (1, 1000)}
_EVERY = DeviceTopics("+", "+")
_SUBSCRIPTIONS = (_EVERY.event("+"), _EVERY.state, _EVERY.health)
_PATIENCE_S = 300
app = new_app(cls=DefaultCommandGroup, no_args_is_help=False, help="Events a second into the database.")


@app.command()
def main(
    postgres: Annotated[str, typer.Option(help="postgresql://user@host/name to be emptied.")] = "",
    events_: Annotated[int, typer.Option("--events", min=1000, help="Events of one turn.")] = 40_000,
    devices: Annotated[int, typer.Option(min=1, help="Devices that they come from.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each way.")] = 3,
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Measure all ways in turns and print medians and ratios."""
    databases = {"sqlite": ""} | ({"postgresql": postgres} if postgres else {})
    turns: dict[str, dict[str, list[float]]] = {name: {way: [] for way in _WAYS} for name in databases}
    cpu: dict[str, dict[str, list[float]]] = {name: {way: [] for way in _WAYS} for name in databases}
    load = os.getloadavg()[0]
    for _ in range(rounds):
        for name, url in databases.items():
            for way, (batch, inflight) in _WAYS.items():
                # One commit for each event is slow: fewer of them say as much.
                count = events_ if way != "naive" else events_ // 4
                rate, by_cpu = _turn(url, batch, inflight, count // devices, devices)
                print(f"{name} {way}: {rate:.0f}/s, {by_cpu:.0f} a CPU second", file=sys.stderr, flush=True)
                turns[name][way].append(rate)
                cpu[name][way].append(by_cpu)
    medians, by_cpu_s = _medians(turns), _medians(cpu)
    figures = {
        "events": events_,
        "devices": devices,
        "load": {"before": load, "after": os.getloadavg()[0]},
        "events_per_s": medians,
        "events_per_cpu_s": by_cpu_s,
        "ratios": {name: {"batch/naive": ways["batch"] / ways["naive"]} for name, ways in medians.items()},
        "turns": turns,
    }
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _medians(turns: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {way: statistics.median(rates) for way, rates in ways.items()} for name, ways in turns.items()
    }


@app.command()
def record(url: str, port: int, batch: int) -> None:
    """Be the recorder, until ended."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    store = Store(url)
    with _recorders_link(port) as link:
        Recorder(link, store, lambda _sources: None, batch).run(stopping)
    store.close()


def _turn(url: str, batch: int, inflight: int, each: int, devices: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="recorder-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        url = url or f"sqlite:///{folder / 'store.sqlite'}"
        store = Store(url)
        with store.engine.begin() as connection:
            for table in METADATA.tables:
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        store.close()
        with Broker(folder, inflight) as broker:
            port = broker.port
            with _recorders_link(port) as link:
                _until(link, Subscribed)
            publish(port, each, devices)
            topics = (_EVERY.ack,)
            with Link(Address("127.0.0.1", port), client_id="watch", subscriptions=topics) as link:
                _until(link, Subscribed)
                line = [sys.executable, __file__, "record", url, str(port), str(batch)]
                process = subprocess.Popen(line)
                try:
                    return _rates(link, each * devices, process.pid)
                finally:
                    process.terminate()
                    process.wait()


def _rates(link: Link, total: int, pid: int) -> tuple[float, float]:
    """Return acknowledged events a second and a CPU second, from the first acknowledgement to the last."""
    upto: dict[str, int] = {}
    first: tuple[float, float, int] | None = None
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        notice = link.notices.get(timeout=_PATIENCE_S)
        if not isinstance(notice, Received):
            continue
        upto[notice.topic] = messages.decode(Ack, notice.payload).upto
        done = sum(upto.values())
        first = first or (time.perf_counter(), _cpu_s(pid), done)
        if done == total:
            count = done - first[2]
            return count / (time.perf_counter() - first[0]), count / (_cpu_s(pid) - first[1])
    raise ServiceError(f"Expected: {total} events acknowledged. Received: {sum(upto.values())}.")


def _cpu_s(pid: int) -> float:
    """Return how long all threads of a process have run."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Broker:
    """A mosquitto of its own on a free port. A context manager.

    Args:
        folder: For its configuration.
        inflight: How many messages it sends without an answer.
    """

    def __init__(self, folder: Path, inflight: int) -> None:
        self.port = _free_port()
        lines = (
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "max_queued_messages 0",
            f"max_inflight_messages {inflight}",
            *(("user root",) if os.geteuid() == 0 else ()),
        )
        self._folder = folder
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self) -> None:
        """Start it.

        Raises:
            ServiceError: There is none.
        """
        program = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
        if program is None:
            raise ServiceError("Expected: mosquitto. Received: none.", hint="apt install mosquitto")
        line = [program, "-c", str(self._folder / "mosquitto.conf")]
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT)
        time.sleep(0.5)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()


def publish(port: int, each: int, devices: int) -> None:
    """Publish so many events of each device, in the order of its sequence."""
    with Link(Address("127.0.0.1", port), client_id="devices") as link:
        answered, sent = 0, 0
        for sequence in range(1, each + 1):
            for number in range(devices):
                topics = DeviceTopics("0417", f"cam-{number:05d}")
                body = fleet.event(topics, f"{number:032x}", sequence)
                while link.publish(Publication(topics.event("restocked"), body)) is None:
                    time.sleep(0.05)
                sent += 1
                while sent - answered > 2000:  # noqa: PLR2004 - paho keeps the others in its memory
                    answered += isinstance(link.notices.get(timeout=60), Delivered)
        while answered < sent:
            with contextlib.suppress(Empty):
                answered += isinstance(link.notices.get(timeout=60), Delivered)


def _recorders_link(port: int) -> Link:
    return Link(
        Address("127.0.0.1", port),
        client_id="svc-recorder",
        subscriptions=_SUBSCRIPTIONS,
        session_expiry_s=3600,
        manual_ack=True,
        deliveries=False,
        receive_maximum=BATCH,
    )


def _until(link: Link, kind: type[object]) -> None:
    while not isinstance(link.notices.get(timeout=10), kind):
        pass


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(run_command(app))
