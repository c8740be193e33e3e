"""The folder of hard examples: one JPEG each that carries all that is known of it, in bounded room.

- One file is one example: what the model said stands in the picture's own comment (ITU-T T.81, B.2.4.5), so
  that nothing can be without the other. Slot, time and reason stand in the name as well: who goes first can
  be told from a listing.
- A file is written beside under one fixed name, and renamed: a kill leaves whole examples, and one leftover
  that the next start removes. There is no index: the files are it.
- Room is counted as the disk does, in blocks, and never exceeded: others go before a new one comes. Of the
  slot that takes the most room, doubts go first, then flickers and turns; the oldest first.
- Others may remove files at any time: they are counted anew before any has to go.
- Nothing is flushed: a power cut may cost the last examples, and a flush would hold up the camera.
"""

import base64
import errno
import os
import re
import shutil
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from edge_agent.contracts.times import Timestamp

FOLDER = "hard"
"""In the device's `state_dir`."""
THUMB_PX = 8
_THUMB_BYTES = THUMB_PX * THUMB_PX * 3
_BLOCK = 4096
_STAGED = ".tmp-example"
_HEAD = 64 * 1024 + 256
"""A comment has 64 KiB at most; only a thumbnail of the format's own may stand before it."""
_MORE_SHARE = 0.05
"""Made free at once when room is short, so that the folder is not listed for each new example."""


class Why(StrEnum):
    """What makes an example hard."""

    DOUBT = "doubt"
    FLICKER = "flicker"
    TURNED = "turned"


def _from_base64(value: object) -> object:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


Packed = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(lambda data: base64.b64encode(data).decode(), return_type=str),
    Field(min_length=_THUMB_BYTES, max_length=_THUMB_BYTES),
]


class Example(BaseModel):
    """What is known of a crop: where and when, what the model said, and which model it was.

    `confirmed` is what counted in the slot until then, null where that is nothing or unknown; `thumb` are
    8x8 px of three channels, base64.
    """

    model_config = ConfigDict(frozen=True)

    slot: str
    time: Timestamp
    why: Why
    guess: str
    confidence: float
    second: str | None = None
    second_confidence: float | None = None
    confirmed: str | None = None
    model: str
    version: str
    thumb: Packed


def packed(picture: bytes, example: Example) -> bytes:
    """Return a JPEG with an example in its comment."""
    text = example.model_dump_json().encode()
    # Behind the first segment, which must follow the start of the picture (JFIF).
    place = 4 + int.from_bytes(picture[4:6])
    comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text
    return picture[:place] + comment + picture[place:]


def unpacked(picture: bytes) -> Example | None:
    """Return the example in a JPEG's comment; None where there is none that can be read."""
    place = 2
    while picture[place : place + 1] == b"\xff" and picture[place + 1 : place + 2] not in {b"\xda", b""}:
        end = place + 2 + int.from_bytes(picture[place + 2 : place + 4])
        if picture[place + 1] == 0xFE:  # noqa: PLR2004 - the marker of a comment
            try:
                return Example.model_validate_json(picture[place + 4 : end])
            except ValidationError:
                return None
        place = end
    return None


@dataclass(frozen=True, slots=True)
class Kept:
    """A file as a listing shows it.

    Attributes:
        name: In the folder.
        ms: Time, milliseconds since 1970.
        slot: Its slot.
        why: Its reason.
        room: What it takes on the disk, bytes.
    """

    name: str
    ms: int
    slot: str
    why: Why
    room: int


_NAME = re.compile(rf"(\d{{13}})_(.+)_({'|'.join(Why)})\.jpg")


def listed(folder: Path) -> list[Kept]:
    """Return the examples in a folder, oldest first.

    Raises:
        OSError: It cannot be listed; a folder that is not there has none.
    """
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None:
                continue
            # Whoever exports may remove it meanwhile.
            with suppress(FileNotFoundError):
                size = entry.stat(follow_symlinks=False).st_size
                found.append(Kept(entry.name, int(match[1]), match[2], Why(match[3]), room_of(size)))
    return sorted(found, key=lambda kept: (kept.ms, kept.name))


def room_of(size: int) -> int:
    """Return what a file of so many bytes takes on a disk."""
    return -(-size // _BLOCK) * _BLOCK


def leaving(kept: Iterable[Kept], most: int) -> Iterator[Kept]:
    """Yield which examples go, in order, until the rest takes no more than `most` bytes."""
    queues: defaultdict[str, deque[Kept]] = defaultdict(deque)
    rooms: defaultdict[str, int] = defaultdict(int)
    for item in sorted(kept, key=lambda item: (item.why is not Why.DOUBT, item.ms, item.name)):
        queues[item.slot].append(item)
        rooms[item.slot] += item.room
    total = sum(rooms.values())
    while total > most:
        largest = max(sorted(rooms), key=rooms.__getitem__)
        item = queues[largest].popleft()
        rooms[largest] -= item.room
        total -= item.room
        yield item


class Folder:
    """Where examples are kept. Belongs to one thread; others may read, and remove what they have read.

    Args:
        path: Of the folder; made with the first example, for this user alone.
        max_bytes: What all of them may take on the disk.
        spare_bytes: What must be left free there for others.
    """

    def __init__(self, path: Path, max_bytes: int, *, spare_bytes: int) -> None:
        self.path = path
        self._max_bytes, self._spare_bytes = max_bytes, spare_bytes
        self._used: int | None = None

    def keep(self, example: Example, picture: bytes) -> None:
        """Write an example, and let others go for it where room is short.

        Args:
            example: What is known of it.
            picture: JPEG.

        Raises:
            OSError: The disk is full or cannot be written; what was kept before is whole.
        """
        data = packed(picture, example)
        room = room_of(len(data))
        if room > self._max_bytes:
            return
        name = f"{round(example.time.timestamp() * 1000):013d}_{example.slot}_{example.why}.jpg"
        # Where this fails, somebody may have removed the folder: next time it is looked at anew.
        used, self._used = self._used, None
        if used is None:
            self._prepare()
        if used is None or used + room > self._max_bytes:
            used = self._make_room(room)
        self._refuse_little(room)
        self._write(name, data)
        self._used = used + room

    def latest(self, count: int) -> dict[str, list[Example]]:
        """Return the latest examples of each slot, oldest first.

        Raises:
            OSError: The folder cannot be read.
        """
        names: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=count))
        for kept in listed(self.path):
            names[kept.slot].append(kept.name)
        read = {slot: [head(self.path / name) for name in some] for slot, some in names.items()}
        return {slot: [example for example in some if example] for slot, some in read.items()}

    def _prepare(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        (self.path / _STAGED).unlink(missing_ok=True)

    def _make_room(self, room: int) -> int:
        """Count what is there, and remove what must go; return what the rest takes."""
        kept = listed(self.path)
        used = sum(item.room for item in kept)
        if used + room <= self._max_bytes:
            return used
        most = self._max_bytes - max(room, int(_MORE_SHARE * self._max_bytes))
        for item in leaving(kept, most):
            (self.path / item.name).unlink(missing_ok=True)
            used -= item.room
        return used

    def _refuse_little(self, room: int) -> None:
        if shutil.disk_usage(self.path).free < self._spare_bytes + room:
            raise OSError(errno.ENOSPC, f"less than {self._spare_bytes} bytes would be left free")

    def _write(self, name: str, data: bytes) -> None:
        staged = self.path / _STAGED
        try:
            handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            staged.replace(self.path / name)
        except OSError:
            staged.unlink(missing_ok=True)
            raise


def head(path: Path) -> Example | None:
    """Return what a file's comment says; None where it is gone or damaged."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return unpacked(file.read(_HEAD))
    return None
