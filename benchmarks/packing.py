"""What packing a device's runtime costs, and what it saves, with each preset of xz.

Usage: python benchmarks/packing.py WHEELS [--arch ARCH] [--presets 0,1,2,6] [--result FILE.json]

WHEELS is what `shelfkit deploy image wheels` has fetched. Seconds are those of all cores together, as the
system counts them: other work on the machine changes them little.
"""

import argparse
import lzma
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import measured
from deploy.release.parts import runtime_component
from deploy.release.xz import BLOCK, compressed


def runtime(wheels: Path, arch: str, room: Path) -> bytes:
    """Return the archive before it is compressed."""
    part = runtime_component(wheels, arch, room / "components", room)
    return lzma.decompress((room / part.target).read_bytes())


def figures(raw: bytes, preset: int) -> dict[str, float]:
    """Compress and unpack once."""
    began = time.process_time()
    packed = b"".join(compressed([raw], preset=preset))
    between = time.process_time()
    if lzma.decompress(packed) != raw:
        raise SystemExit("the archive is not what was packed")
    return {
        "mb": round(len(packed) / 1e6, 1),
        "pack_cpu_s": round(between - began, 1),
        "unpack_cpu_s": round(time.process_time() - between, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--arch", default="amd64")
    parser.add_argument("--presets", default="0,1,2,6")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        raw = runtime(options.wheels, options.arch, Path(name))
    found = {preset: figures(raw, int(preset)) for preset in options.presets.split(",")}
    made = {"arch": options.arch, "unpacked_mb": round(len(raw) / 1e6, 1), "block_mb": BLOCK / 1e6}
    measured.tell(made | {"presets": found}, options.result, script="packing.py", at=datetime.now(UTC))


if __name__ == "__main__":
    main()
