"""A small image of a whole drive under test: a table of parts, a FAT partition, a part with other bytes."""

import json
import lzma
import random
import subprocess
from pathlib import Path

import zstandard

from tests.conftest import find_program

MIB = 1024 * 1024
SIZE = 32 * MIB
_LAYOUTS = {
    "gpt": "label: gpt\nstart=1MiB,size=12MiB,type=U,name=boot\nstart=14MiB,size=16MiB,type=L\n",
    # As Raspberry Pi OS has it: the FAT partition begins behind what is written last.
    "dos": "label: dos\nstart=8MiB,size=12MiB,type=c\nstart=20MiB,size=12MiB,type=83\n",
}
_FAT_AT = {"gpt": 1 * MIB, "dos": 8 * MIB}
_REST_AT = {"gpt": 14 * MIB, "dos": 20 * MIB}


def make_image(path: Path, label: str = "gpt") -> Path:
    """Write one."""
    with path.open("wb") as file:
        file.truncate(SIZE)
    sfdisk, mkfs = find_program("sfdisk"), find_program("mkfs.vfat")
    subprocess.run([sfdisk, "--quiet", path], input=_LAYOUTS[label], text=True, check=True)
    offset = str(_FAT_AT[label] // 512)
    command = [mkfs, "-n", "SHELFBOOT", f"--offset={offset}", str(path), str(12 * 1024)]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("r+b") as file:
        file.seek(_REST_AT[label])
        file.write(random.Random(label).randbytes(3 * MIB))
    return path


def packed(image: Path, suffix: str) -> Path:
    """Pack it, or not."""
    out = image.with_name(image.name + suffix) if suffix != ".img" else image
    if suffix == ".xz":
        out.write_bytes(lzma.compress(image.read_bytes(), preset=0))
    if suffix == ".zst":
        raw = image.read_bytes()
        # Two frames, as a packer with several threads writes them.
        half = len(raw) // 2
        out.write_bytes(b"".join(zstandard.compress(part, 1) for part in (raw[:half], raw[half:])))
    return out


def has_table(drive: Path) -> bool:
    """Tell whether anything on the drive may be booted: a table of parts, at either end."""
    done = subprocess.run(["sfdisk", "--json", drive], capture_output=True, text=True, check=False)
    return done.returncode == 0 and bool(json.loads(done.stdout)["partitiontable"])


def on_boot(drive: Path, name: str, *, at: int = MIB) -> bytes:
    """Return a file of the boot partition."""
    command = ["mtype", "-i", f"{drive}@@{at}", f"::{name}"]
    return subprocess.run(command, capture_output=True, check=True).stdout
