"""A fleet of simulated devices for some minutes, a reconnect storm in the middle: nothing lost.

Usage: python benchmarks/fleet_load.py [--devices 10000] [--minutes 5] [--postgres URL] [--result FILE.json]

Every device has a connection and an outbox of its own (`fleet.py`); hands in shelves make bursts of
events. A third in, the broker is killed (-9) and started again: all devices come back at once. Two thirds
in, the recorder is killed and started again. In the end every event of every device must be in the database
exactly once; the script fails if not. It prints delays from the shelf to the acknowledgement.
"""

import asyncio
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from benchmarks import measured
from benchmarks.fleet import Device, Figures, Traffic, happen
from benchmarks.recorder import Broker
from dashboard.schema import open_engine
from edge_agent.contracts.command import new_app, run_command
from edge_agent.contracts.errors import GateError
from edge_agent.contracts.topics import DeviceTopics

_SCRIPT = "fleet_load.py"
_PER_STORE = 20
_PATIENCE_S = 900.0
app = new_app()


@app.command()
def main(
    devices: Annotated[int, typer.Option(min=1, help="How many.")] = 10_000,
    minutes: Annotated[float, typer.Option(help="How long something happens.")] = 5.0,
    rate: Annotated[float, typer.Option(help="Events a minute of a device.")] = 2.0,
    postgres: Annotated[str, typer.Option(help="An empty database; else SQLite.")] = "",
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Run the fleet, and see whether everything arrived."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        database = postgres or f"sqlite:///{folder / 'recorder.sqlite'}"
        # What else the machine did: others on it make every delay longer.
        load = os.getloadavg()[0]
        figures = asyncio.run(_run(folder, database, devices, minutes * 60, Traffic(events_per_minute=rate)))
    figures["load"] = {"before": load, "after": os.getloadavg()[0]}
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))
    if figures["lost"] or figures["doubled"] or figures["gaps"]:
        raise GateError(f"Expected: every event once. Received: {figures}.")


class _Recorder:
    def __init__(self, folder: Path, database: str, port: int) -> None:
        self._line = [sys.executable, "-m", "dashboard", "--broker", f"mqtt://127.0.0.1:{port}"]
        self._line += ["--database", database, "--port", "0", "--no-login"]
        self._log = folder / "recorder.log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._line, stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


async def _run(folder: Path, database: str, count: int, seconds: float, traffic: Traffic) -> dict[str, Any]:
    rng, figures, ending = random.Random(1), Figures(), asyncio.Event()  # noqa: S311 - a simulation
    with Broker(folder, 1000) as broker:
        recorder = _Recorder(folder, database, broker.port)
        fleet = [
            Device(
                DeviceTopics(f"{number // _PER_STORE:04d}", f"cam-{number:05d}"),
                broker.port,
                traffic,
                figures,
                random.Random(rng.random()),  # noqa: S311 - a simulation
            )
            for number in range(count)
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                for device in fleet:
                    tasks.create_task(device.live(ending))
                try:
                    arrived = await _until(lambda: figures.connections >= count, _PATIENCE_S)
                    begun = time.monotonic()
                    tasks.create_task(_storms(broker, recorder, seconds))
                    await happen(fleet, traffic, begun + seconds, rng)
                    drained = await _until(lambda: all(one.acked == one.last for one in fleet), _PATIENCE_S)
                finally:
                    # Also where it failed: devices may miss that they are cancelled.
                    ending.set()
                    for device in fleet:
                        device.leave()
        finally:
            recorder.kill()
    delays = sorted(figures.delays_s)
    return {
        "devices": count,
        "seconds": seconds,
        "connected_after_s": arrived,
        "drained_after_s": drained,
        "events": figures.events,
        "sent": figures.sent,
        "connections": figures.connections,
        "delay_s": {name: delays[int(len(delays) * part)] for name, part in (("p50", 0.5), ("p95", 0.95))},
        "delay_mean_s": statistics.fmean(delays),
        **_counted(database, fleet),
    }


async def _storms(broker: Broker, recorder: _Recorder, seconds: float) -> None:
    await asyncio.sleep(seconds / 3)
    broker.kill()
    await asyncio.sleep(2)
    broker.start()
    await asyncio.sleep(seconds / 3)
    recorder.kill()
    await asyncio.sleep(2)
    recorder.start()


async def _until(true: Callable[[], bool], patience_s: float) -> float:
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > patience_s:
            raise GateError(f"Expected: within {patience_s:.0f} s. Received: not yet.")
        await asyncio.sleep(0.2)
    return time.monotonic() - begun


def _counted(database: str, fleet: list[Device]) -> dict[str, int]:
    """Return how many events are missing, or there twice, and the gaps."""
    engine = open_engine(database)
    with engine.connect() as connection:
        query = sa.text("SELECT stream, count(*), count(DISTINCT sequence) FROM event GROUP BY stream")
        found = {row[0]: (row[1], row[2]) for row in connection.execute(query)}
        gaps = int(connection.execute(sa.text("SELECT count(*) FROM gap")).scalar() or 0)
    engine.dispose()
    there = [(device.last, *found.get(device.stream, (0, 0))) for device in fleet]
    lost = sum(last - different for last, _, different in there)
    return {"lost": lost, "doubled": sum(count - different for _, count, different in there), "gaps": gaps}


if __name__ == "__main__":
    sys.exit(run_command(app))
