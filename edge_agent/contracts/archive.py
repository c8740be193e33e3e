"""The tar of a bundle that a release packs: one folder, one sequence of bytes.

Plain ustar: the manifest and the files that it names, sorted by name, each mode 0644, owner 0 and time 0.
Other files that may lie in the folder stay out, so every machine makes the same bytes of one bundle.

The other way, an archive is good only if packing what came out of it gives the same bytes again. That
leaves no room for anything else: other headers, another order, something between or behind the files.

The headers are read one by one with `tarfile.TarInfo`. `tarfile.TarFile` follows long names, extended
headers and sparse maps, in as much memory as they ask for, before anyone can refuse them.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge_agent.contracts import bundle
from edge_agent.contracts.bundle import Bundle
from edge_agent.contracts.errors import BundleError
from edge_agent.contracts.files import written_beside

MAX_BYTES = bundle.MAX_BYTES + bundle.MAX_MANIFEST_BYTES + 2**17
"""The largest bundle, with 1 KiB of header and padding for each file and two blocks at the end."""
_CHUNK = 2**16
_SHOWN = 200
_HINT = "fetch the archive again, or pack its bundle again"


def pack(folder: Path, target: Path) -> None:
    """Write a bundle as an archive; it appears whole or not at all, and replaces one that is there.

    Args:
        folder: The bundle.
        target: The archive.

    Raises:
        BundleError: The folder is no good bundle, or the archive cannot be written.
    """
    checked = bundle.read(folder)
    try:
        with written_beside(target) as staged, staged.open("wb") as file:
            _write(checked, file)
    except (OSError, ValueError) as exc:
        raise _refused(f"an archive that can be written at {target}", exc) from exc


def unpack(
    archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES, max_files: int = bundle.MAX_FILES
) -> Bundle:
    """Make a bundle folder of an archive from anywhere; it appears whole and checked, or not at all.

    Args:
        archive: A file that `pack` wrote.
        folder: The bundle. It must not be there yet, not even empty; the folder that it lies in is made.
        max_bytes: What the archive, and so what comes out of it, may take.
        max_files: How many files may come out, the manifest left out.

    Raises:
        BundleError: The archive is damaged, too large, or anything else than what `pack` makes of a good
            bundle; the folder is there already; or it cannot be written.
    """
    if os.path.lexists(folder):
        raise BundleError(f"Expected: no {folder} yet. Received: one that is there.", hint="remove it first")
    try:
        with bundle.open_plain(archive, hint=_HINT) as file:
            _refuse_size(archive, file, max_bytes)
            with written_beside(folder) as staged:
                staged.mkdir()
                _extract(file, staged, max_files)
                checked = bundle.read(staged)
                _refuse_other(archive, file, checked)
    except (OSError, ValueError, tarfile.TarError) as exc:
        raise _refused(f"a bundle's archive at {archive} that can be unpacked to {folder}", exc) from exc
    return replace(checked, path=folder)


def _refused(expected: str, exc: Exception) -> BundleError:
    said = getattr(exc, "strerror", None) or str(exc)
    return BundleError(f"Expected: {expected}. Received: {said[:_SHOWN]}.", hint=_HINT)


def _write(checked: Bundle, file: io.BufferedWriter | io.RawIOBase) -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT, encoding="ascii") as tar:
        for name in sorted([bundle.MANIFEST, *checked.manifest.files]):
            with bundle.open_plain(checked.path / name) as source:
                member = tarfile.TarInfo(name)
                member.mode, member.uid, member.gid, member.mtime = 0o644, 0, 0, 0
                member.size = os.fstat(source.fileno()).st_size
                tar.addfile(member, source)


def _refuse_size(archive: Path, file: io.BufferedReader, max_bytes: int) -> None:
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        raise BundleError(f"Expected: {archive} of at most {max_bytes} bytes. Received: {size}.", hint=_HINT)


def _extract(file: io.BufferedReader, folder: Path, max_files: int) -> None:
    last = ""
    for count, member in enumerate(_members(file)):
        if count > max_files or member.name <= last:
            raise BundleError(
                f"Expected: a manifest and at most {max_files} files, sorted by name. Received: "
                f"{member.name} as number {count + 1}, after {last or 'none'}.",
                hint=_HINT,
            )
        last = member.name
        with (folder / member.name).open("xb") as out:
            _copy(file, out, member.size)
        file.seek(-member.size % tarfile.BLOCKSIZE, os.SEEK_CUR)


def _members(file: io.BufferedReader) -> Iterator[tarfile.TarInfo]:
    """Give each header up to the end mark; whoever asks for the next has read all that follows this one."""
    while (block := file.read(tarfile.BLOCKSIZE)).strip(tarfile.NUL):
        member = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        plain = member.type == tarfile.REGTYPE and re.fullmatch(bundle.FILE_NAME, member.name)
        if not plain or member.size < 1:
            raise BundleError(
                "Expected: plain files with plain names in a bundle's archive. Received: "
                f"{member.name[:_SHOWN]!a} of type {member.type!r} and {member.size} bytes.",
                hint=_HINT,
            )
        yield member


def _copy(file: io.BufferedReader, out: io.BufferedWriter, size: int) -> None:
    """Copy so many bytes.

    Raises:
        ValueError: The file has fewer.
    """
    left = size
    while left:
        content = file.read(min(left, _CHUNK))
        if not content:
            msg = f"an archive that ends within a file of {size} bytes"
            raise ValueError(msg)
        out.write(content)
        left -= len(content)


def _refuse_other(archive: Path, file: io.BufferedReader, checked: Bundle) -> None:
    """Refuse an archive that is not what packing this bundle gives."""
    packed = _Digest()
    _write(checked, packed)
    file.seek(0)
    received = hashlib.file_digest(file, "sha256").hexdigest()
    if (expected := packed.sha256.hexdigest()) != received:
        raise BundleError(
            f"Expected: {archive} as a bundle is packed, sha256 {expected}. Received: {received}.", hint=_HINT
        )


class _Digest(io.RawIOBase):
    """A file that keeps nothing of what is written but the hash."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, content: bytes, /) -> int:  # type: ignore[override] # a tar is written as bytes
        self.sha256.update(content)
        return len(content)
