"""How long a shop waits: cold start to the first state on MQTT, and an event from decision to recorder.

Usage: python benchmarks/agent_latency.py BUNDLE [--result FILE]

BUNDLE knows the products of the rendered shelf, as `make demo` makes one. Everything is real and on this
machine: agent, mosquitto, recorder (SQLite). Beside them stands what one would write instead: a script that
opens camera and model, classifies each slot once and publishes what it saw, without a gate, a plan for
faults or a durable queue; and a message that is published and received, without being written down.

An event counts as delivered when the recorder's acknowledgement is back at the device: the recorder has
committed it by then.
"""

import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from typing import Annotated, Any

import measured
import numpy as np
import typer

from deploy.demo.stages import broker_command, free_port, running, wait_for_port
from edge_agent.camera.shelf.files import write_scene
from edge_agent.contracts import events
from edge_agent.contracts.address import Address
from edge_agent.contracts.command import new_app, run_command
from edge_agent.contracts.events import Kind
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.memory import Draft, Memory
from edge_agent.mqtt import Connected, Link, Publication, Received, Subscribed
from edge_agent.outbox import Limits, Outbox
from edge_agent.publisher import Publisher

_SCRIPT = "agent_latency.py"
_TOPICS = DeviceTopics("0417", "cam-12-01")
_PATIENCE_S = 60.0
_SETTLE_S = 15.0
_INSTEAD = """
import sys, time
import cv2, numpy as np, paho.mqtt.client as mqtt
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(sys.argv[1], num_threads=1)
model.allocate_tensors()
(inp,), (out,) = model.get_input_details(), model.get_output_details()
picture = cv2.imread(sys.argv[2])
said = []
for number in range(16):
    crop = cv2.resize(picture[100:300, 60 * number:60 * number + 140], tuple(inp["shape"][2:0:-1]))
    model.set_tensor(inp["index"], crop[None, ..., ::-1].astype(inp["dtype"]))
    model.invoke()
    said.append(int(model.get_tensor(out["index"]).argmax()))
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.connect("127.0.0.1", int(sys.argv[3]))
client.loop_start()
client.publish(sys.argv[4], str(said), qos=1, retain=True).wait_for_publish()
time.sleep(60)
"""
app = new_app(help="Cold start, memory, and the way of an event.")


@dataclass(frozen=True, slots=True)
class Place:
    """A broker, a camera that serves its latest picture over HTTP, and where everything lies."""

    folder: Path
    port: int
    pictures: int

    def config(self, bundle: Path) -> Path:
        """Write a `device.yaml` for the rendered shelf; its state is new each time."""
        state = tempfile.mkdtemp(prefix="state-", dir=self.folder)
        path = self.folder / "device.yaml"
        path.write_text(
            f"device: cam-12-01\nstore: '0417'\nstate_dir: {state}\nbundle: {bundle.resolve()}\n"
            f"camera: {{source: 'http://127.0.0.1:{self.pictures}/reference.jpg', fps: 2}}\n"
            "planogram: planogram.yaml\n"
            f"broker: {{host: 127.0.0.1, port: {self.port}}}\nmetrics: {{port: 0}}\n"
        )
        return path


@app.command()
def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle that knows the rendered products.")],
    starts: Annotated[int, typer.Option(min=1, help="Cold starts of each.")] = 7,
    count: Annotated[int, typer.Option(min=10, help="Events, and messages without any.")] = 1000,
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Start the agent again and again, then send events one after another."""
    with tempfile.TemporaryDirectory() as name, _broker(Path(name)) as place:
        write_scene(place.folder, seed=7)
        figures = _cold(place, bundle, starts) | {"event": _events(place, count)}
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


@contextmanager
def _broker(folder: Path) -> Iterator[Place]:
    port = free_port()
    command = broker_command(folder / "broker", port, folder / "setup.log")
    camera = free_port()
    serving = [
        sys.executable,
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        "--directory",
        str(folder),
        str(camera),
    ]
    with (
        running("broker", folder / "broker.log", command) as broker,
        running("camera", folder / "camera.log", serving) as still,
    ):
        wait_for_port(broker, port)
        wait_for_port(still, camera)
        yield Place(folder, port, camera)


def _cold(place: Place, bundle: Path, starts: int) -> dict[str, Any]:
    """Start both in turns, from nothing to their first word; look at the agent's memory a while later."""
    took: dict[str, list[float]] = {"agent": [], "script": []}
    held: list[float] = []
    with _heard(place, _TOPICS.state, "script") as link:
        for turn in range(starts):
            agent = [sys.executable, "-m", "edge_agent", "run", "--config", str(place.config(bundle))]
            with _started(agent) as process:
                took["agent"].append(_until(link, _TOPICS.state))
                if turn == starts - 1:
                    time.sleep(_SETTLE_S)
                    held.append(_memory_mb(process.pid))
            place_of_picture = str(place.folder / "reference.jpg")
            words = (str(bundle / "model.tflite"), place_of_picture, str(place.port), "script")
            with _started([sys.executable, "-c", _INSTEAD, *words]):
                took["script"].append(_until(link, "script"))
    medians = {name: round(statistics.median(seconds), 3) for name, seconds in took.items()}
    return {
        "cold_start_s": medians | {"ratio": round(medians["agent"] / medians["script"], 2)},
        "resident_mb": round(held[0], 1),
    }


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _heard(place: Place, *topics: str) -> Iterator[Link]:
    with Link(Address("127.0.0.1", place.port), client_id="benchmark", subscriptions=topics) as link:
        _wait(link, lambda notice: isinstance(notice, Subscribed))
        yield link


def _until(link: Link, topic: str) -> float:
    """Return how long the next fresh message of a topic takes from now, seconds."""
    begin = time.monotonic()
    _wait(link, lambda item: isinstance(item, Received) and item.topic == topic and not item.retain)
    return time.monotonic() - begin


def _wait(link: Link, wanted: Callable[[object], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        try:
            if wanted(link.notices.get(timeout=1)):
                return
        except Empty:
            continue
    message = f"nothing came in {_PATIENCE_S:g} s"
    raise SystemExit(message)


def _memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _events(place: Place, count: int) -> dict[str, Any]:
    """Send events through outbox, publisher, broker and recorder, and messages through the broker alone."""
    database = f"sqlite:///{place.folder / 'recorder.sqlite'}"
    recorder = [sys.executable, "-m", "dashboard", "--database", database, "--port", str(free_port())]
    recorder += ["--broker", f"mqtt://127.0.0.1:{place.port}"]
    with running("recorder", place.folder / "recorder.log", recorder):
        whole = _delivered(place, count)
    bare = _echoed(place, count)
    return {
        "delivered_ms": _spread(whole),
        "message_alone_ms": _spread(bare),
        "ratio_of_medians": round(statistics.median(whole) / statistics.median(bare), 2),
        "count": count,
    }


def _delivered(place: Place, count: int) -> list[float]:
    source = events.source(_TOPICS.store, _TOPICS.device)
    data = events.DeviceData(
        store=_TOPICS.store, agent="benchmark", model=events.ModelRef(name="none", version="0")
    )
    path = place.folder / "benchmark.sqlite"
    with (
        Outbox(path, source=source, limits=Limits(2**30, 30)) as outbox,
        _heard(place, _TOPICS.ack) as link,
    ):
        publisher = Publisher(
            outbox,
            link,
            topics=_TOPICS,
            ack_timeout_s=10,
            by_broker=False,
            rng=random.Random(1),  # noqa: S311
        )
        # The link has said so before, while nobody but us listened.
        publisher.on(Connected(20, "5"), time.monotonic())
        took = []
        for number in itertools.count():
            draft = Draft(kind=Kind.DEVICE_STARTED, subject="device", time=datetime.now(UTC), data=data)
            begin = time.monotonic()
            outbox.record([draft], Memory(), datetime.now(UTC))
            _deliver(outbox, publisher, link)
            # The first wait for the recorder to be there.
            if number >= count // 10:
                took.append(1000 * (time.monotonic() - begin))
            if len(took) == count:
                return took
            time.sleep(0.005)
    return took


def _deliver(outbox: Outbox, publisher: Publisher, link: Link) -> None:
    end = time.monotonic() + _PATIENCE_S
    while outbox.depth and time.monotonic() < end:
        publisher.pump(time.monotonic())
        try:
            publisher.on(link.notices.get(timeout=0.25), time.monotonic())
        except Empty:
            continue


def _echoed(place: Place, count: int) -> list[float]:
    took = []
    with _heard(place, "echo") as link:
        for _ in range(count):
            begin = time.monotonic()
            link.publish(Publication("echo", b"x" * 500))
            _wait(link, lambda item: isinstance(item, Received) and item.topic == "echo")
            took.append(1000 * (time.monotonic() - begin))
            time.sleep(0.005)
    return took


def _spread(took: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(took), 2),
        "p95": round(float(np.percentile(took, 95)), 2),
        "p99": round(float(np.percentile(took, 99)), 2),
    }


if __name__ == "__main__":
    sys.exit(run_command(app))
