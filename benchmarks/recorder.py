"""Events a second that the recorder acknowledges: its batches against one commit for each event.

Usage: python benchmarks/recorder.py [--postgres URL] [--events 40000] [--result FILE.json]

A real mosquitto holds events of many devices for the recorder, which was away; then it comes, and takes
them. Clock: from its first acknowledgement to the last, on the topics where devices read them; an event
counts when it is acknowledged. Each turn is a process of its own with an empty database and a new broker:

    batch       as `shelfkit dashboard` does it, with a broker that sends 1000 messages unacknowledged
    batch-20    the same behind a broker that sends 20 (mosquitto's default)
    naive       one commit for each event, everything else the same

PostgreSQL is asked for by URL, and its tables are emptied. Both flush every commit to the disk.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from typing import Annotated, Any

import typer

from benchmarks import measured
from dashboard.recorder import BATCH, Recorder
from dashboard.store import Store
from dashboard.tables import METADATA
from edge_agent.contracts import events, messages
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
    for _ in range(rounds):
        for name, url in databases.items():
            for way, (batch, inflight) in _WAYS.items():
                # One commit for each event is slow: fewer of them say as much.
                count = events_ if way != "naive" else events_ // 4
                rate = _turn(url, batch, inflight, count // devices, devices)
                print(f"{name} {way}: {rate:.0f}/s", file=sys.stderr, flush=True)
                turns[name][way].append(rate)
    medians = {
        name: {way: sorted(rates)[len(rates) // 2] for way, rates in ways.items()}
        for name, ways in turns.items()
    }
    figures = {
        "events": events_,
        "devices": devices,
        "events_per_s": medians,
        "ratios": {name: {"batch/naive": ways["batch"] / ways["naive"]} for name, ways in medians.items()},
        "turns": turns,
    }
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


@app.command()
def record(url: str, port: int, batch: int) -> None:
    """Be the recorder, until ended."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    store = Store(url)
    with _recorders_link(port) as link:
        Recorder(link, store, lambda: None, batch).run(stopping)
    store.close()


def _turn(url: str, batch: int, inflight: int, each: int, devices: int) -> float:
    with tempfile.TemporaryDirectory(prefix="recorder-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        url = url or f"sqlite:///{folder / 'store.sqlite'}"
        store = Store(url)
        with store.engine.begin() as connection:
            for table in METADATA.tables:
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        store.close()
        with broker(folder, inflight) as port:
            with _recorders_link(port) as link:
                _until(link, Subscribed)
            publish(port, each, devices)
            topics = (_EVERY.ack,)
            with Link(Address("127.0.0.1", port), client_id="watch", subscriptions=topics) as link:
                _until(link, Subscribed)
                line = [sys.executable, __file__, "record", url, str(port), str(batch)]
                process = subprocess.Popen(line)
                try:
                    return _rate(link, each * devices)
                finally:
                    process.terminate()
                    process.wait()


def _rate(link: Link, total: int) -> float:
    """Return acknowledged events a second, from the first acknowledgement to the last."""
    upto: dict[str, int] = {}
    first: tuple[float, int] | None = None
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        notice = link.notices.get(timeout=_PATIENCE_S)
        if not isinstance(notice, Received):
            continue
        upto[notice.topic] = messages.decode(Ack, notice.payload).upto
        done = sum(upto.values())
        first = first or (time.perf_counter(), done)
        if done == total:
            return (done - first[1]) / (time.perf_counter() - first[0])
    raise ServiceError(f"Expected: {total} events acknowledged. Received: {sum(upto.values())}.")


@contextlib.contextmanager
def broker(folder: Path, inflight: int) -> Iterator[int]:
    """Give the port of a mosquitto of its own."""
    port = _free_port()
    lines = (
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "max_queued_messages 0",
        f"max_inflight_messages {inflight}",
        *(("user root",) if os.geteuid() == 0 else ()),
    )
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    program = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if program is None:
        raise ServiceError("Expected: mosquitto. Received: none.", hint="apt install mosquitto")
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-c", str(folder / "mosquitto.conf")], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        time.sleep(0.5)
        yield port
    finally:
        process.kill()
        process.wait()


def publish(port: int, each: int, devices: int) -> None:
    """Publish so many events of each device, in the order of its sequence."""
    with Link(Address("127.0.0.1", port), client_id="devices") as link:
        answered, sent = 0, 0
        for sequence in range(1, each + 1):
            for number in range(devices):
                topics = DeviceTopics("0417", f"cam-{number:05d}")
                body = event(topics, sequence, number)
                while link.publish(Publication(topics.event("restocked"), body)) is None:
                    time.sleep(0.05)
                sent += 1
                while sent - answered > 2000:  # noqa: PLR2004 - paho keeps the others in its memory
                    answered += isinstance(link.notices.get(timeout=60), Delivered)
        while answered < sent:
            with contextlib.suppress(Empty):
                answered += isinstance(link.notices.get(timeout=60), Delivered)


def event(topics: DeviceTopics, sequence: int, number: int) -> bytes:
    """Return an event as an agent makes it."""
    now = int(time.time() * 1000)
    identity = uuid.UUID(int=(now << 80) | (7 << 76) | (2 << 62) | uuid.uuid4().int & (2**62 - 1))
    stamp = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    value: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(identity),
        "source": events.source(topics.store, topics.device),
        "type": events.Kind.RESTOCKED.type,
        "subject": "shelf/12/product/milk-1l",
        "time": stamp,
        "datacontenttype": "application/json",
        "sequence": f"{sequence:016d}",
        "streamid": f"{number:032x}",
        "data": {
            "store": topics.store,
            "shelf": "12",
            "slot": "A3",
            "state": "present",
            "previous": "empty",
            "label": "milk-1l",
            "since": stamp,
            "product": {"label": "milk-1l", "name": "Milk 1 l", "gtin": "09506000134352"},
            "confidence": 0.93,
            "model": {"name": "dairy", "version": "1.4.2"},
            "facings": 4,
            "filled": 4,
        },
    }
    return json.dumps(value, separators=(",", ":")).encode()


def _recorders_link(port: int) -> Link:
    return Link(
        Address("127.0.0.1", port),
        client_id="svc-recorder",
        subscriptions=_SUBSCRIPTIONS,
        session_expiry_s=3600,
        manual_ack=True,
    )


def _until(link: Link, kind: type[object]) -> None:
    while not isinstance(link.notices.get(timeout=10), kind):
        pass


def _free_port() -> int:
    import socket  # noqa: PLC0415 - here alone

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(run_command(app))
