"""Hard examples come in, as a folder or a zip of one; a data set for `train` goes out.

Names in an archive are read and never written to: pictures are kept under the hash of their pixels.
"""

import csv
import io
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from dashboard.labelling.queue import Queue, fitting
from dashboard.queries import Queries
from edge_agent.contracts import messages
from edge_agent.contracts.dataset import INDEX, write_index
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.messages import State
from edge_agent.contracts.photos import MIN_SIDE_PX
from edge_agent.contracts.pictures import kind_of, read_picture, size_of
from edge_agent.contracts.preprocess import Image

MOST_BYTES = 256 * 1024 * 1024
"""Of an archive."""

_MOST_ROWS = 20_000
_MOST_INDEX = 16 * 1024 * 1024
_MOST_PICTURE = 8 * 1024 * 1024
_MOST_TEXT = 200
_MOST_SIDE = 4096
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}
_SHOWN = 20
_PICTURES = "pictures"

Read = Callable[[str, int], bytes]
"""Returns a file's content, given its name and how large it may be. Raises DataError."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes:
        new: Pictures that were not there yet.
        known: Pictures that were.
        refused: Why rows were left out, with their lines; the first of them.
        left_out: How many rows were.
    """

    new: int
    known: int
    refused: tuple[str, ...]
    left_out: int


def import_from(source: Path | IO[bytes], queue: Queue, by: str) -> Imported:
    """Take the pictures of an exported folder, or of a zip of one, into the queue.

    Args:
        source: Folder, zip file, or an open zip.
        queue: Where they go.
        by: Who gives labels that are there already.

    Raises:
        DataError: It is neither, or has no index.csv with a column `path`.
    """
    if isinstance(source, Path) and source.is_dir():
        return _take(_in_folder(source), queue, by)
    with _unzipped(source) as read:
        return _take(read, queue, by)


def export_to(out: Path, queue: Queue, names: Mapping[str, tuple[str, str]]) -> int:
    """Write every labelled picture as a data set; return how many.

    Args:
        out: New folder; it appears whole or not at all.
        queue: Where they are.
        names: Name and GTIN of labels that have some.

    Raises:
        DataError: Nothing is labelled yet, or it cannot be written.
    """
    items = queue.items("labelled", _MOST_ROWS * 10)
    if not items:
        raise DataError(
            "Expected: labelled pictures. Received: none yet.", hint="label some on the page first"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"Expected: a new folder. Received: {out}, which is there.", hint="name another one")
    try:
        with written_beside(out) as staged:
            (staged / _PICTURES).mkdir(parents=True)
            rows = []
            for item in items:
                file = f"{_PICTURES}/{item['name']}.png"
                (staged / file).write_bytes(queue.path(item["name"]).read_bytes())
                title, gtin = names.get(item["label"], ("", ""))
                row = {"path": file, "label": item["label"], "group": item["group"] or item["name"]}
                rows.append(row | {"name": _plain(title), "gtin": _plain(gtin)})
            write_index(staged, rows)
    except OSError as exc:
        raise DataError(f"Expected: to write {out}. Received: {exc.strerror}.") from exc
    return len(items)


def names(queries: Queries) -> dict[str, tuple[str, str]]:
    """Return name and GTIN of every product that a device knows."""
    found = {}
    for store in queries.stores():
        for _, text, _ in queries.latest(store["store"]):
            for one in messages.decode(State, text.encode()).products if text else ():
                found[one.label] = one.name, one.gtin or ""
    return found


def zipped(queue: Queue, names: Mapping[str, tuple[str, str]]) -> IO[bytes]:
    """Return the same as a zip, in a file that is gone once it is closed.

    Raises:
        DataError: Nothing is labelled yet, or it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="shelfkit-") as room:
        folder = Path(room) / "labelled"
        export_to(folder, queue, names)
        out = tempfile.TemporaryFile(prefix="shelfkit-")  # noqa: SIM115 - whoever sends it closes it
        # PNG does not become smaller.
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.rglob("*.*")):
                archive.write(path, PurePosixPath("labelled", *path.relative_to(folder).parts))
        out.seek(0)
        return out


def _take(read: Read, queue: Queue, by: str) -> Imported:
    new = known = left_out = 0
    refused: list[str] = []
    for line, row in _rows(read(INDEX, _MOST_INDEX)):
        try:
            picture = _picture(read(row.get("path", ""), _MOST_PICTURE))
            label = fitting(row["label"]) if row.get("label") else ""
            added = queue.add(picture, _told(row), label, by)
        except (DataError, UsageError) as exc:
            left_out += 1
            refused.append(f"{INDEX}:{line}  {exc}")
            continue
        new, known = new + added, known + (not added)
    return Imported(new, known, tuple(refused[:_SHOWN]), left_out)


def _told(row: Mapping[str, str]) -> dict[str, str]:
    """Return what a row says of its picture; its device stands in its group."""
    told = {key: _plain(value) for key, value in row.items() if key not in {"path", "label"}}
    group = told.get("group", "")
    return {"device": group.split("/")[0] if group.count("/") else "", **told}


def _plain(text: str) -> str:
    """Return a text without what has a meaning to a spreadsheet or a screen."""
    kept = "".join(sign for sign in text[:_MOST_TEXT] if sign.isprintable())
    return kept.lstrip(" =+-@\t")


def _rows(data: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), restval="")
        if "path" not in (reader.fieldnames or ()):
            raise DataError(f"Expected: a column path in {INDEX}. Received: {str(reader.fieldnames)[:200]}.")
        for number, row in enumerate(reader):
            if number >= _MOST_ROWS:
                raise DataError(f"Expected: at most {_MOST_ROWS} rows. Received: more.")
            yield reader.line_num, {str(key): str(value or "").strip() for key, value in row.items() if key}
    except (UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"Expected: {INDEX} as UTF-8 CSV. Received: {exc}.") from exc


def _picture(data: bytes) -> Image:
    kind, size = kind_of(data), size_of(data)
    suffix = _SUFFIXES.get(kind)
    if suffix is None or size is None:
        raise DataError(f"Expected: a picture, JPEG or PNG. Received: {kind}, {len(data)} bytes.")
    if max(size) > _MOST_SIDE or min(size) < MIN_SIDE_PX:
        raise DataError(
            f"Expected: a picture of {MIN_SIDE_PX} to {_MOST_SIDE} px a side. Received: {size[0]}x{size[1]}."
        )
    with tempfile.TemporaryDirectory(prefix="shelfkit-") as room:
        path = Path(room) / f"picture{suffix}"
        path.write_bytes(data)
        return read_picture(path, as_named=True)


def _in_folder(folder: Path) -> Read:
    root = folder.resolve()

    def read(name: str, most: int) -> bytes:
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise DataError(f"Expected: a file in the folder. Received: {name!r:.120}, which is none.")
        if path.stat().st_size > most:
            raise DataError(f"Expected: at most {most} bytes. Received: {path.stat().st_size}, {name!r:.80}.")
        return path.read_bytes()

    return read


@contextmanager
def _unzipped(source: Path | IO[bytes]) -> Iterator[Read]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield _in_archive(archive)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError) as exc:
        raise DataError(
            f"Expected: a folder of `agent collect --hard`, or a zip of one. Received: {exc}.",
            hint="zip the whole folder, its index.csv included",
        ) from exc


def _in_archive(archive: zipfile.ZipFile) -> Read:
    entries = {item.filename: item for item in archive.infolist()[: 2 * _MOST_ROWS]}
    indexes = sorted((name for name in entries if PurePosixPath(name).name == INDEX), key=len)
    root = indexes[0].removesuffix(INDEX) if indexes else ""

    def read(name: str, most: int) -> bytes:
        item = entries.get(root + name.replace("\\", "/"))
        if item is None or item.is_dir():
            raise DataError(f"Expected: {name[:120]!r} in the archive. Received: none.")
        try:
            with archive.open(item) as file:
                # What its head says of its size may be a lie.
                data = file.read(most + 1)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as exc:
            raise DataError(f"Expected: {name[:120]!r}, whole. Received: {exc}.") from exc
        if len(data) > most:
            raise DataError(f"Expected: at most {most} bytes. Received: more, {name[:80]!r}.")
        return data

    return read
