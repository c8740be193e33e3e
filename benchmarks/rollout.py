"""What a rollout costs the operator's machine, for each device: messages, bytes, processor time.

Usage: python benchmarks/rollout.py [--devices 10000] [--result FILE.json]

Devices live in memory, the logic of rollouts is the real one, and messages are the real bytes (topic and
payload; MQTT's own headers are not counted). Processor time is that of deciding, reading what devices say,
keeping the file on the disk at each look, and finding what to tell; that of a broker is not in it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from benchmarks import measured
from deploy.fleet import Fleet
from deploy.rollout.brokers import to_tell
from deploy.rollout.kept import Kept
from deploy.rollout.logic import step, wanted
from deploy.rollout.model import Rollout, State
from tests.fleet_simulator import Chances, FleetSimulator

CASES = {
    "good": Chances(bad=0.002, stuck=0.002, offline=0.03),
    "bad": Chances(bad=1.0, offline=0.03),
    "bad_for_one_in_ten": Chances(bad=0.1, offline=0.03),
}
T = TypeVar("T")


class Timed:
    """Processor time of what the operator's machine does."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.longest = 0.0

    def __call__(self, do: Callable[[], T]) -> T:
        """Do something, and count its time."""
        begun = time.process_time()
        made = do()
        spent = time.process_time() - begun
        self.seconds += spent
        self.longest = max(self.longest, spent)
        return made


def measure(count: int, chances: Chances, folder: Path, seed: int) -> dict[str, object]:
    """Run one rollout to its end."""
    fleet = FleetSimulator(count, chances, seed=seed)
    kept = Kept(Fleet(folder))
    rollout = fleet.begin()
    kept.add(rollout)
    timed, looks = Timed(), 0

    def look() -> Rollout:
        return kept.change(rollout.id, lambda item: step(item, fleet.views, fleet.now))

    while rollout.state == State.RUNNING and looks < 1000:  # noqa: PLR2004 - a week of minutes has ended long before
        rollout = timed(look)
        timed(lambda: to_tell(fleet.devices, wanted(rollout), fleet.views, {rollout.id}))  # noqa: B023 - at once
        fleet.look(rollout)
        fleet.later(5)
        looks += 1
    running = fleet.running()
    return {
        "state": rollout.state.value,
        "wave": rollout.wave + 1,
        "waves": list(rollout.sizes),
        "looks": looks,
        "devices_that_began": fleet.touched(),
        "devices_on_the_new_release": running.get(2, 0),
        "messages_per_device": round(fleet.messages / count, 2),
        "bytes_per_device": round(fleet.bytes / count),
        "cpu_ms_per_device": round(1000 * timed.seconds / count, 3),
        "cpu_ms_of_the_longest_look": round(1000 * timed.longest),
        "file_bytes_per_device": round((folder / "rollouts" / f"{rollout.id}.json").stat().st_size / count),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    figures: dict[str, object] = {"devices": options.devices}
    for name, chances in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = measure(options.devices, chances, Path(folder), options.seed)
    measured.tell(figures, options.result, script="rollout.py", at=datetime.now(UTC))


if __name__ == "__main__":
    main()
