"""A .xz that all cores work on: blocks that are compressed side by side, in one stream.

The same bytes come out whatever the number of cores. Whoever unpacks it needs nothing but the standard
library, and no more memory than for one block's dictionary.
"""

import lzma
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

BLOCK = 16 * 1024 * 1024
PRESET = 1
"""Of a runtime preset 6 makes a sixth less, and takes four times as long (benchmarks/packing.py)."""
_MOST_CORES = 16
_HEADER, _FOOTER = 12, 12
_HIGH = 0x80
_Done = Future[tuple[bytes, bytes]]


def compressed(
    parts: Iterable[bytes], *, preset: int = PRESET, cores: int | None = None, block: int = BLOCK
) -> Iterator[bytes]:
    """Yield a .xz of what the parts are together.

    Args:
        parts: Bytes, in order.
        preset: Of xz.
        cores: To use; None: all.
        block: Bytes that are compressed by themselves.
    """
    workers = min(cores or os.cpu_count() or 1, _MOST_CORES)
    empty = lzma.compress(b"", format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64)
    yield empty[:_HEADER]
    records = []
    with ThreadPoolExecutor(workers, thread_name_prefix="xz") as pool:
        # A few blocks ahead, and no more: an archive need not fit into memory.
        futures = (pool.submit(_one, piece, preset) for piece in _pieces(parts, block))
        for done in _ahead(futures, workers + 1):
            body, record = done.result()
            yield body
            records.append(record)
    index = b"\0" + _number(len(records)) + b"".join(records)
    index += bytes(-len(index) % 4)
    index += _crc(index)
    end = (len(index) // 4 - 1).to_bytes(4, "little") + empty[-4:-2]
    yield index + _crc(end) + end + b"YZ"


def _ahead(futures: Iterator[_Done], most: int) -> Iterator[_Done]:
    waiting: deque[_Done] = deque()
    for future in futures:
        waiting.append(future)
        if len(waiting) >= most:
            yield waiting.popleft()
    yield from waiting


def _pieces(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut what the parts are together into pieces of a size."""
    held = bytearray()
    for part in parts:
        held += part
        while len(held) > size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _one(piece: bytes, preset: int) -> tuple[bytes, bytes]:
    """Compress a piece; return its block, and the record of it in the index."""
    made = lzma.compress(piece, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=preset)
    index = (int.from_bytes(made[-8:-4], "little") + 1) * 4
    body = made[_HEADER : -_FOOTER - index]
    # Behind the block stand 0 to 3 zeros, which its record does not count.
    unpadded = _read_number(made[-_FOOTER - index + 2 : -_FOOTER])
    return body, _number(unpadded) + _number(len(piece))


def _number(value: int) -> bytes:
    """Seven bits to a byte, the lowest first."""
    found = bytearray()
    while value >= _HIGH:
        found.append(value % _HIGH | _HIGH)
        value //= _HIGH
    return bytes([*found, value])


def _read_number(data: bytes) -> int:
    value = 0
    for place, byte in enumerate(data):
        value |= byte % _HIGH << 7 * place
        if byte < _HIGH:
            break
    return value


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
