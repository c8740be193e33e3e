"""An image file: its bytes, whatever it is packed with, and the table of its parts."""

import itertools
import json
import lzma
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import zstandard

from edge_agent.contracts.errors import DataError

HEAD = 4 * 1024 * 1024
"""What is written last: with the table of parts in it there is nothing to boot before."""
CHUNK = 4 * 1024 * 1024
_SUFFIXES = (".img", ".xz", ".zst")
_FAT = frozenset({"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"})
"""The types of the EFI system partition and of basic data; those of an MBR follow."""
_SIGNATURE = b"\x55\xaa"
_FAT_MBR = frozenset({"1", "4", "6", "b", "c", "e", "ef"})
_BACKUP_SECTORS = 33


@dataclass(frozen=True, slots=True)
class Table:
    """Where the parts of an image are, in bytes.

    Attributes:
        first: Where the first part begins; before it lies the table itself.
        needs: How large a drive must be.
        fat: Where the first partition with a FAT file system begins.
    """

    first: int
    needs: int
    fat: int


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of an image, unpacked, the first of them `HEAD` long.

    Raises:
        DataError: It is damaged, or of a kind that is not known.
    """
    if path.suffix not in _SUFFIXES:
        raise DataError(f"Expected: an image as {', '.join(_SUFFIXES)}. Received: {path.name}.")
    try:
        with path.open("rb") as file, _unpacked(path, file) as reader:
            while chunk := _full(reader, CHUNK):
                yield chunk
    except (lzma.LZMAError, zstandard.ZstdError, EOFError) as exc:
        raise DataError(f"Expected: a whole image. Received: {path}: {exc}.", hint=_AGAIN) from exc
    except OSError as exc:
        raise DataError(f"Expected: an image that can be read. Received: {path}: {exc.strerror}.") from exc


_AGAIN = "fetch or build the image again"


@contextmanager
def _unpacked(path: Path, file: object) -> Iterator[_Reader]:
    if path.suffix == ".xz":
        with lzma.open(file) as reader:  # type: ignore[call-overload]  # a file is what it takes
            yield reader
    elif path.suffix == ".zst":
        # One that was cut short ends early here, and is found out by the table of its parts.
        with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as packed:  # type: ignore[arg-type]  # the same
            yield packed
    else:
        yield file  # type: ignore[misc]  # the same


def _full(reader: _Reader, size: int) -> bytes:
    parts, left = [], size
    while left and (part := reader.read(left)):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def table_of(path: Path) -> Table:
    """Read the table of parts, and find the boot partition: by its type and what is in it, never by a number.

    Raises:
        DataError: There is none, or no FAT partition in it.
    """
    stream = chunks(path)
    try:
        head = next(stream, b"")
        return _parsed(_table(head, path.name), path.name, itertools.chain([head], stream))
    finally:
        stream.close()  # type: ignore[attr-defined]  # it is a generator


def _table(head: bytes, name: str) -> dict[str, object]:
    """Return what sfdisk says of the beginning of an image."""
    with tempfile.NamedTemporaryFile(suffix=".img") as file:
        file.write(head)
        # The parts lie beyond its end: for sfdisk it is as long as they need.
        file.truncate(1 << 42)
        file.flush()
        command = ["sfdisk", "--json", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(
            f"Expected: an image of a whole drive. Received: {name}: {done.stderr.strip()[-200:]}",
            hint=_AGAIN,
        )
    found: dict[str, object] = json.loads(done.stdout)["partitiontable"]
    return found


def _parsed(table: dict[str, object], name: str, content: Iterable[bytes]) -> Table:
    sector = int(str(table.get("sectorsize", 512)))
    rows: list[dict[str, object]] = table.get("partitions", [])  # type: ignore[assignment]  # of sfdisk
    gpt = table["label"] == "gpt"
    wanted = _FAT if gpt else _FAT_MBR
    fat = _first_fat([int(str(row["start"])) * sector for row in rows if str(row["type"]) in wanted], content)
    if fat is None:
        raise DataError(
            f"Expected: an image with a FAT partition to boot from. Received: {name}, without.",
            hint="take the image of `shelfkit deploy image build`",
        )
    starts = [int(str(row["start"])) for row in rows]
    ends = [start + int(str(row["size"])) for start, row in zip(starts, rows, strict=True)]
    # A GPT says itself how large the image is: its last sector holds the other copy of the table.
    last = int(str(table["lastlba"])) + 1 + _BACKUP_SECTORS if gpt else 0
    needs = max([*ends, last]) * sector
    return Table(min(starts) * sector, needs, fat)


def _first_fat(offsets: Iterable[int], content: Iterable[bytes]) -> int | None:
    """Return where the first FAT file system begins; no more is unpacked than it takes to see that."""
    stream, begin, chunk = iter(content), 0, b""
    for offset in sorted(offsets):
        while offset >= begin + len(chunk):
            begin, chunk = begin + len(chunk), next(stream, b"")
            if not chunk:
                return None
        if _is_fat(chunk[offset - begin :][:512]):
            return offset
    return None


def _is_fat(block: bytes) -> bool:
    # The name of the kind stands at another place in FAT32 than in its forerunners.
    return block[510:] == _SIGNATURE and (block[82:87] == b"FAT32" or block[54:57] == b"FAT")
