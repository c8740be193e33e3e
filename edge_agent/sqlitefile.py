"""Reads what is left of a SQLite file without SQLite: the rows of every leaf page that still is one.

SQLite gives a table up when a page above its rows is broken, and the whole file when its first page
is. The rows themselves lie on pages that say what they are, in the file and in its write-ahead log
(https://www.sqlite.org/fileformat2.html). Nothing here is trusted: what comes out is a row that can
be read, and whoever asks decides whether it makes sense.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

Value = None | int | float | str | bytes

_USUAL_PAGE = 4096
_LEAF = 0x0D
_FILE_HEADER = 100
_LOG_HEADER, _FRAME_HEADER = 32, 24
_LOG_MAGIC = (0x377F0682, 0x377F0683)
_LARGEST_ROW = 4 * 1024 * 1024
_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_REAL, _ZERO, _ONE, _FIRST_BLOB = 7, 8, 9, 12


@dataclass(frozen=True, slots=True)
class Cell:
    """One row: where it lies, its rowid, and its columns."""

    page: int
    index: int
    rowid: int
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """One page in the log."""

    offset: int
    number: int
    commits: bool


@dataclass(frozen=True, slots=True)
class Log:
    """The write-ahead log of a file: its frames of this round, and how far SQLite would believe them."""

    page_size: int
    frames: tuple[_Frame, ...]
    sound: int

    @property
    def committed(self) -> tuple[_Frame, ...]:
        """Every frame up to the last that ends a transaction, also behind a broken one."""
        ends = [place for place, frame in enumerate(self.frames, start=1) if frame.commits]
        return self.frames[: ends[-1]] if ends else ()

    @property
    def cut(self) -> bool:
        """Whether SQLite would silently leave out transactions, because a frame before them is broken."""
        return len(self.committed) > self.sound

    @classmethod
    def read(cls, file: BinaryIO) -> "Log | None":
        """Read a log, None where there is none; where its header is broken, most frames decide."""
        header = _read(file, 0, _LOG_HEADER)
        if len(header) < _LOG_HEADER:
            return None
        magic, _, size, _, *salts, sum_1, sum_2 = struct.unpack(">8I", header)
        order = ">" if magic & 1 else "<"
        state = _checksum(header[:24], (0, 0), order)
        whole = magic in _LOG_MAGIC and _plausible(size) and state == (sum_1, sum_2)
        if not whole:
            size, salts = _USUAL_PAGE, _most_salts(file)
        frames, sound, offset = [], 0, _LOG_HEADER
        while len(frame := _read(file, offset, _FRAME_HEADER + size)) == _FRAME_HEADER + size:
            number, pages, *own, sum_1, sum_2 = struct.unpack_from(">6I", frame)
            offset += len(frame)
            # Frames with other salts are left over from an earlier round, or broken.
            ours = own == salts
            whole = whole and ours
            if whole:
                state = _checksum(frame[_FRAME_HEADER:], _checksum(frame[:8], state, order), order)
                whole = state == (sum_1, sum_2)
                sound += whole
            if ours:
                frames.append(_Frame(offset - size, number, commits=pages > 0))
        return cls(size, tuple(frames), sound)


class Remains:
    """What is left of a database file and of its log. A context manager.

    Rows that were deleted may show up again, and a row that was moved may show up twice; a row that
    was never committed does not.

    Args:
        path: The file; it and the log beside it may be missing, cut off, or anything.
    """

    def __init__(self, path: Path) -> None:
        self._main = _opened(path)
        self._log_file = _opened(path.with_name(f"{path.name}-wal"))
        log = Log.read(self._log_file) if self._log_file else None
        header = _read(self._main, 0, _FILE_HEADER) if self._main else b""
        own = int.from_bytes(header[16:18]) if header.startswith(b"SQLite format 3\0") else 0
        stated = 65536 if own == 1 else own
        self._size = stated if _plausible(stated) else log.page_size if log else _USUAL_PAGE
        self._usable = self._size - (header[20] if _plausible(stated) else 0)
        length = path.stat().st_size if self._main else 0
        self._count = -(-length // self._size)
        self._frames = log.committed if log and log.page_size == self._size else ()
        self._latest = {frame.number: place for place, frame in enumerate(self._frames)}

    def cells(self) -> Iterator[Cell]:
        """Yield every row that can be read, of whatever table, older versions of a page first."""
        for page in range(self._count + len(self._frames)):
            content, start = self._content(page), self._start(page)
            if content[start : start + 1] != bytes([_LEAF]):
                continue
            count = int.from_bytes(content[start + 3 : start + 5])
            # A pointer takes two bytes: a page that claims more of them than fit says nothing true.
            for index in range(min(count, (self._size - start - 8) // 2)):
                cell = self._cell(content, page, index)
                if cell is not None:
                    yield cell

    def cell(self, page: int, index: int) -> Cell | None:
        """Return one row again; None where it cannot be read any more."""
        return self._cell(self._content(page), page, index)

    def _start(self, page: int) -> int:
        first = page == 0 if page < self._count else self._frames[page - self._count].number == 1
        return _FILE_HEADER if first else 0

    def _content(self, page: int) -> bytes:
        """Return a page: those of the file first, then the frames of the log."""
        if page < self._count:
            return _read(self._main, page * self._size, self._size)
        return _read(self._log_file, self._frames[page - self._count].offset, self._size)

    def _numbered(self, number: int) -> bytes:
        """Return the latest version of a page by its number, from 1."""
        place = self._latest.get(number)
        if place is not None:
            return self._content(self._count + place)
        return self._content(number - 1) if 1 <= number <= self._count else b""

    def _cell(self, content: bytes, page: int, index: int) -> Cell | None:
        pointer = self._start(page) + 8 + 2 * index
        try:
            (offset,) = struct.unpack_from(">H", content, pointer)
            length, offset = _varint(content, offset)
            rowid, offset = _varint(content, offset)
            payload = self._payload(content, offset, length)
            return Cell(page, index, rowid, _record(payload))
        except (IndexError, struct.error, ValueError):
            return None

    def _payload(self, content: bytes, offset: int, length: int) -> bytes:
        """Return the bytes of a row, those on pages of their own included."""
        if length > _LARGEST_ROW:
            raise ValueError(length)
        local = self._local(length)
        found = content[offset : offset + local]
        if local == length:
            return found
        parts, missing = [found], length - local
        (number,) = struct.unpack_from(">I", content, offset + local)
        while missing > 0:
            more = self._numbered(number)
            part = more[4 : min(self._usable, missing + 4)]
            if not part:
                raise ValueError(number)
            parts.append(part)
            missing -= len(part)
            (number,) = struct.unpack_from(">I", more)
        return b"".join(parts)

    def _local(self, length: int) -> int:
        """Return how many bytes of a row lie on its leaf page itself."""
        most = self._usable - 35
        if length <= most:
            return length
        least = (self._usable - 12) * 32 // 255 - 23
        wanted = least + (length - least) % (self._usable - 4)
        return wanted if wanted <= most else least

    def close(self) -> None:
        """Close the files."""
        for file in (self._main, self._log_file):
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except OSError:
        return None


def _read(file: BinaryIO | None, offset: int, length: int) -> bytes:
    """Return what can be read there; nothing where the disk will not."""
    if file is None:
        return b""
    try:
        file.seek(offset)
        return file.read(length)
    except OSError:
        return b""


def _most_salts(file: BinaryIO) -> list[int]:
    """Return the two numbers that most frames of a log carry."""
    seen: Counter[bytes] = Counter()
    offset = _LOG_HEADER + 8
    while len(salts := _read(file, offset, 8)) == 8:  # noqa: PLR2004 - two numbers of four bytes
        seen[salts] += any(salts)
        offset += _FRAME_HEADER + _USUAL_PAGE
    return list(struct.unpack(">2I", max(seen, key=seen.__getitem__, default=bytes(8))))


def _plausible(size: int) -> bool:
    return 512 <= size <= 65536 and size & (size - 1) == 0  # noqa: PLR2004 - as the format says


def _checksum(data: bytes, state: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = state
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, and where it ends."""
    value = 0
    for place in range(9):
        byte = data[offset + place]
        if place == 8:  # noqa: PLR2004 - the ninth byte counts whole
            return value << 8 | byte, offset + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follows
            return value, offset + place + 1
    raise ValueError(offset)


def _record(payload: bytes) -> tuple[Value, ...]:
    """Return the columns of a row."""
    size, offset = _varint(payload, 0)
    kinds = []
    while offset < size:
        kind, offset = _varint(payload, offset)
        kinds.append(kind)
    values: list[Value] = []
    for kind in kinds:
        value, offset = _value(payload, offset, kind)
        values.append(value)
    return tuple(values)


def _value(payload: bytes, offset: int, kind: int) -> tuple[Value, int]:
    if kind in {0, _ZERO, _ONE}:
        return (None if kind == 0 else kind - _ZERO), offset
    if kind >= _FIRST_BLOB:
        length = (kind - _FIRST_BLOB) // 2
    else:
        length = 8 if kind == _REAL else _INTEGER_SIZES.get(kind, -1)
    raw = payload[offset : offset + length] if length >= 0 else b""
    if len(raw) != length:
        raise ValueError(kind)
    value: Value = raw
    if kind == _REAL:
        (value,) = struct.unpack(">d", raw)
    elif kind < _FIRST_BLOB:
        value = int.from_bytes(raw, signed=True)
    elif kind % 2:
        value = raw.decode()
    return value, offset + length
