"""Agent, broker and recorder killed (-9), again and again: nothing lost, nothing doubled."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from dashboard.store import Store
from edge_agent.camera.shelf.layout import places
from edge_agent.camera.shelf.scene import Copy, shelf
from tests.brokers import Mosquitto, free_port
from tests.conftest import Kit, find_program, write_device

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]


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
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._command], stdout=log, stderr=log, env=os.environ
            )

    def ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()


def waiting_and_last(folder: Path) -> tuple[int, int]:
    database = sqlite3.connect(f"file:{folder / 'state' / 'outbox.sqlite'}?mode=ro", uri=True)
    try:
        (count,) = database.execute("SELECT count(*) FROM event").fetchone()
        (last,) = database.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()
    finally:
        database.close()
    return count, last


def wait_until(true: Callable[[], bool], patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if true():
            return
        time.sleep(0.5)
    message = f"not within {patience_s} s"
    raise AssertionError(message)


def test_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path, bundle_folder: Path, kit: Kit) -> None:
    kit("agent", "render", "--scene", tmp_path, "--seed", 7)
    clip = restless_clip(tmp_path, 30)
    database = f"sqlite:///{tmp_path / 'recorder.sqlite'}"
    with Mosquitto(find_program("mosquitto"), tmp_path / "broker") as broker:
        write_device(
            tmp_path,
            bundle_folder,
            port=broker.port,
            camera=f'{{source: "file:{clip}", fps: 10}}',
            rules="{confirm_s: 0.1, clear_s: 0.1}",
            delivery="{ack_timeout_s: 2}",
        )
        config = str(tmp_path / "device.yaml")
        agent = Life(tmp_path / "agent.log", "edge_agent", "run", "--config", config)
        address = ("--broker", broker.url, "--database", database, "--port", str(free_port()))
        recorder = Life(tmp_path / "recorder.log", "dashboard", *address)
        recorder.start()
        for victim in ("agent", "broker", "agent", "recorder", "broker", "agent"):
            agent.start()
            time.sleep(5)
            if victim == "broker":
                broker.kill()
                time.sleep(1)
                broker.start()
            if victim == "recorder":
                recorder.kill()
                time.sleep(1)
                recorder.start()
            time.sleep(2)
            agent.kill()
        # The last life sees the clip to its end, and leaves by itself with everything delivered.
        agent.start()
        wait_until(agent.ended, 120)
        waits, last = waiting_and_last(tmp_path)
        recorder.kill(signal.SIGTERM)
    assert waits == 0
    assert last > 40
    store = Store(database)
    found = [row["event"] for row in store.events(0, 100_000)]
    assert store.gaps() == []
    store.close()
    sequences = [int(event["sequence"]) for event in found]
    assert len(sequences) == len(set(sequences))
    assert len({event["streamid"] for event in found}) == 1
    assert sorted(sequences) == list(range(1, last + 1))
    assert_no_state_changed_without_an_event(sorted(found, key=lambda event: str(event["sequence"])))


def assert_no_state_changed_without_an_event(found: list[dict[str, object]]) -> None:
    """Each change of a slot begins where the one before it ended: state and event were written together."""
    by_slot: dict[str, list[dict[str, str]]] = {}
    for event in found:
        data = json.loads(json.dumps(event["data"]))
        if str(event["type"]).endswith("slot-changed.v1"):
            by_slot.setdefault(data["slot"], []).append(data)
    assert len(by_slot) > 5
    for changes in by_slot.values():
        assert all(later["previous"] == earlier["state"] for earlier, later in pairwise(changes))
