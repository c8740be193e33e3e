"""Memory that decoded photos take: held in memory against read from a file, each in its own process.

Usage: python benchmarks/memory.py [--photos N] [--px SIDE] [--result FILE.json]

Photos are rendered once and listed again and again until there are N. Each process decodes them,
then reads every row in batches of a shuffled order, as an epoch of training does. Prints JSON:
`anonymous` is what the process cannot give back, `peak` also counts pages of the file that happen
to be mapped, which the kernel takes back when it needs them. MB are 10^6 bytes, `base` subtracted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks import measured
from edge_agent.camera.shelf.files import write_photos
from edge_agent.contracts import dataset, photos

_BATCH = 64
_INTERVAL_S = 0.02


def status(name: str) -> float:
    """Return a figure of this process, MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e6


class Watched:
    """The most anonymous memory that there is while a block runs."""

    def __init__(self) -> None:
        self.most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory")

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL_S):
            self.most = max(self.most, status("RssAnon"))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, status("RssAnon"))


def measure(folder: Path, px: int, memory_mb: int) -> dict[str, float]:
    """Decode, then read all rows in a shuffled order."""
    found = dataset.read(folder)
    before = {name: status(name) for name in ("RssAnon", "VmHWM")}
    with Watched() as watched:
        pictures, _ = photos.decode(found, px, px, memory_mb=memory_mb, spill=folder)
        order = np.random.default_rng(0).permutation(len(pictures))
        total = sum(
            int(pictures.images[order[start : start + _BATCH]].sum(dtype=np.int64))
            for start in range(0, len(order), _BATCH)
        )
    return {
        "on_disk": pictures.on_disk,
        "anonymous_mb": round(watched.most - before["RssAnon"], 1),
        "peak_mb": round(status("VmHWM") - before["VmHWM"], 1),
        "base_mb": round(before["RssAnon"], 1),
        "sum_of_pixels": total,
    }


def main() -> None:
    """Render, then measure both ways."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--memory-mb", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.px, options.memory_mb)))
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        write_photos(folder / "rendered", seed=1, count=20, progress=lambda items, _total: items)
        files = sorted((folder / "rendered").rglob("*.jpg"))
        chosen = [files[row % len(files)].relative_to(folder) for row in range(options.photos)]
        dataset.write_index(folder, [{"path": str(file), "label": file.parent.name} for file in chosen])
        figures = {
            way: json.loads(
                subprocess.run(
                    [sys.executable, __file__, "--px", str(options.px), "--measure", name, "--memory-mb", mb],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for way, mb in (("in_memory", "1000000"), ("spilled", "0"))
        }
    size = options.photos * options.px**2 * 3 / 1e6
    figures = {"photos": options.photos, "px": options.px, "pixels_mb": size, **figures}
    measured.tell(figures, options.result, script="memory.py", at=datetime.now(tz=UTC))


if __name__ == "__main__":
    main()
