"""Writing a .zst image as `shelfkit deploy flash` does, against `zstd -dc IMAGE | dd` with the same flush.

Usage: python benchmarks/flash.py [--from FOLDER] [--size MIB] [--rounds N] [--target FILE]
                                  [--result FILE.json]

An image with a table of parts, a FAT partition and the bytes of the files of a folder (those of this
Python, so that it packs as a root file system does) goes onto the same file or drive in turns. The
kit's time until everything is flushed stands beside that of dd; what the kit does more (reading back,
the device's own files, the table of parts) is told apart.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import measured
from deploy.drives import found
from deploy.flash.image import table_of
from deploy.flash.plan import Job
from deploy.flash.several import flash

MIB = 1024 * 1024
_LAYOUT = "label: gpt\nstart=1MiB,size=128MiB,type=U,name=boot\nstart=129MiB,type=L\n"


def make_image(path: Path, folder: Path, size: int) -> Path:
    """Write an image, and pack it with the usual program."""
    with path.open("wb") as file:
        file.truncate(size * MIB)
    subprocess.run(["sfdisk", "--quiet", path], input=_LAYOUT, text=True, check=True)
    command = ["mkfs.vfat", "-F", "16", "--offset=2048", str(path), str(128 * 1024)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with path.open("r+b") as image:
        image.seek(130 * MIB)
        for file in sorted(folder.rglob("*")):
            left = (size - 2) * MIB - image.tell()
            if left <= 0:
                break
            if file.is_file() and not file.is_symlink():
                image.write(file.read_bytes()[:left])
    packed = path.with_suffix(".img.zst")
    subprocess.run(["zstd", "-3", "-q", "-f", str(path), "-o", str(packed)], check=True)
    return packed


def by_dd(image: Path, target: Path) -> float:
    """Return the seconds that the usual pipe takes."""
    began = time.perf_counter()
    with subprocess.Popen(["zstd", "-dcq", str(image)], stdout=subprocess.PIPE) as unpack:
        command = ["dd", f"of={target}", "bs=4M", "iflag=fullblock", "conv=fsync,notrunc", "status=none"]
        subprocess.run(command, stdin=unpack.stdout, check=True)
    return time.perf_counter() - began


def by_kit(image: Path, target: Path) -> tuple[float, float]:
    """Return the seconds until everything is flushed, and those for the proof."""
    seen: dict[str, float] = {}

    def report(_device: str, phase: str, _done: int) -> None:
        seen.setdefault(phase, time.perf_counter())

    began = time.perf_counter()
    job = Job("measured", found(target))
    (outcome,) = flash(image, table_of(image), [job], {"measured": {"device.yaml": b"device: x\n"}}, report)
    if outcome.error is not None:
        raise outcome.error
    return seen["verifying"] - began, time.perf_counter() - seen["verifying"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path, default=Path(sys.prefix))
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.target.parent if options.target else None) as name:
        image = make_image(Path(name) / "a.img", options.folder, options.size)
        (Path(name) / "a.img").unlink()
        target = options.target or Path(name) / "target"
        if not target.exists():
            target.write_bytes(bytes(options.size * MIB))
        by_dd(image, target)  # every block of the target has its place from here on
        dd, kit, proof = [], [], []
        for _ in range(options.rounds):
            dd.append(by_dd(image, target))
            written, proven = by_kit(image, target)
            kit.append(written)
            proof.append(proven)
        figures = {
            "image_mib": options.size,
            "packed_mib": round(image.stat().st_size / MIB, 1),
            "rounds": options.rounds,
            "zstd_dd_s": round(statistics.median(dd), 2),
            "flash_s": round(statistics.median(kit), 2),
            "proof_s": round(statistics.median(proof), 2),
            "speed_of_zstd_dd_percent": round(100 * statistics.median(dd) / statistics.median(kit), 1),
            "each_zstd_dd_s": [round(item, 2) for item in dd],
            "each_flash_s": [round(item, 2) for item in kit],
        }
    measured.tell(figures, options.result, script="flash.py", at=datetime.now(UTC))


if __name__ == "__main__":
    main()
