"""The archive of a bundle: the same bytes everywhere, and nothing but a bundle ever comes out of one."""

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.contracts import archive, bundle
from edge_agent.contracts.bundle import MANIFEST, MODEL
from edge_agent.contracts.errors import BundleError
from tests.contracts.test_bundle_hostile import FILES, INSTEAD, SEVERAL, manifest, refused, sound, write

PACKED = (Path(__file__).parent.parent / "golden" / "bundle.v1.tar").read_bytes()
with tarfile.open(fileobj=io.BytesIO(PACKED)) as _tar:
    HELD = {name: file.read() for name in _tar.getnames() if (file := _tar.extractfile(name))}


def member(name: str, content: bytes = b"x", **fields: Any) -> bytes:  # noqa: ANN401 - also what is no good
    """Return one member: headers, content and padding; the header's fields, and its form, may be anything."""
    form = fields.pop("form", tarfile.USTAR_FORMAT)
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    return info.tobuf(form, "utf-8", "surrogateescape") + content + padding


def ended(*members: bytes) -> bytes:
    """Put members one after another, and the end mark behind them."""
    content = b"".join(members) + bytes(2 * tarfile.BLOCKSIZE)
    return content + bytes(-len(content) % tarfile.RECORDSIZE)


PARTS = [member(name, content) for name, content in sorted(HELD.items())]


def judge(content: bytes) -> BundleError | None:
    """Unpack: the very archive that was packed gives its bundle; all else is refused and leaves nothing."""
    with tempfile.TemporaryDirectory() as room:
        inner = Path(room) / "a" / "b"
        inner.mkdir(parents=True)
        (inner / "bundle.tar").write_bytes(content)
        before = set(Path(room).rglob("*"))
        refusal = refused(lambda: sound(archive.unpack(inner / "bundle.tar", inner / "out")))
        left = set(Path(room).rglob("*")) - before
        assert not Path("/escaped").exists()
        if refusal:
            assert left == set()
        else:
            assert left == {inner / "out", *(inner / "out" / name for name in HELD)}
            assert content == PACKED
    return refusal


# Packing ----------------------------------------------------------------------------------------------


def test_golden_bytes_come_out_and_go_in_again(tmp_path: Path) -> None:
    (tmp_path / "bundle.tar").write_bytes(PACKED)
    found = archive.unpack(tmp_path / "bundle.tar", tmp_path / "out" / "bundle")
    sound(found)
    assert found.path == tmp_path / "out" / "bundle"
    assert found == bundle.read(found.path)
    assert {file.name: file.read_bytes() for file in found.path.iterdir()} == HELD
    assert found.manifest.label_names == ["empty", "milk-1l", "tea"]
    assert found.golden()[0].shape == (2, 4, 4, 3)
    archive.pack(found.path, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == PACKED
    assert {file.name for file in tmp_path.iterdir()} == {"bundle.tar", "out", "again.tar"}


def test_the_form_is_plain_ustar_without_anything_of_the_machine() -> None:
    assert ended(*PARTS) == PACKED
    with tarfile.open(fileobj=io.BytesIO(PACKED), mode="r:") as tar:
        members = tar.getmembers()
    assert [item.name for item in members] == ["golden.npz", "manifest.json", "model.tflite"]
    for item in members:
        assert item.isreg()
        assert (item.mode, item.uid, item.gid, item.uname, item.gname) == (0o644, 0, 0, "", "")
        assert (item.mtime, item.pax_headers, item.linkname) == (0, {}, "")


def test_nothing_but_the_content_of_the_bundle_decides(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for number, name in enumerate(sorted(HELD, reverse=True)):
        (folder / name).write_bytes(HELD[name])
        (folder / name).chmod(0o600 + number)
        os.utime(folder / name, (10**9 + number, 10**9 + number))
    (folder / ".DS_Store").write_bytes(b"of the machine")
    (folder / "more").mkdir()
    archive.pack(folder, tmp_path / "bundle.tar")
    assert (tmp_path / "bundle.tar").read_bytes() == PACKED


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z").filter(lambda name: name != MANIFEST),
        st.binary(min_size=1, max_size=2000),
        max_size=4,
    )
)
def test_any_bundle_goes_there_and_back(more: dict[str, bytes]) -> None:
    files = FILES | more
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        archive.pack(write(room / "bundle", manifest(files), files), room / "one.tar")
        found = archive.unpack(room / "one.tar", room / "out")
        sound(found)
        assert {name: (found.path / name).read_bytes() for name in found.manifest.files} == files
        archive.pack(found.path, room / "two.tar")
        assert (room / "one.tar").read_bytes() == (room / "two.tar").read_bytes()


def test_an_archive_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "bundle")
    (tmp_path / "bundle.tar").write_bytes(b"before")
    (folder / MODEL).write_bytes(b"damaged")
    with pytest.raises(BundleError, match=MODEL):
        archive.pack(folder, tmp_path / "bundle.tar")
    assert (tmp_path / "bundle.tar").read_bytes() == b"before"
    archive.pack(write(folder), tmp_path / "bundle.tar")
    assert (tmp_path / "bundle.tar").read_bytes() != b"before"
    assert {file.name for file in tmp_path.iterdir()} == {"bundle", "bundle.tar"}


@pytest.mark.parametrize("target", ["bundle", "bundle/manifest.json/x", "null\0"])
def test_an_archive_that_cannot_be_written_is_told(tmp_path: Path, target: str) -> None:
    folder = write(tmp_path / "bundle")
    assert refused(lambda: archive.pack(folder, tmp_path / target))
    sound(bundle.read(folder))
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


# Unpacking --------------------------------------------------------------------------------------------

NAMES = [
    *["", ".", "..", "/", "/escaped", "//escaped", "../escaped", "../../../escaped", "a/../../../../escaped"],
    *[
        "./model.tflite",
        "folder/model.tflite",
        "folder/",
        "model.tflite/",
        "a/b/c/d/e",
        ".hidden",
        "-rf",
        "~",
    ],
    *["C:\\escaped", "..\\escaped", "a b", "a\n", "é", "\udcff", "\x1b[2J", "x" * 101, "x/" * 120 + "x"],
]
KINDS = {
    "a hard link": tarfile.LNKTYPE,
    "a symbolic link": tarfile.SYMTYPE,
    "a character device": tarfile.CHRTYPE,
    "a block device": tarfile.BLKTYPE,
    "a folder": tarfile.DIRTYPE,
    "a pipe": tarfile.FIFOTYPE,
    "a contiguous file": tarfile.CONTTYPE,
    "an old file": tarfile.AREGTYPE,
    "a sparse file": tarfile.GNUTYPE_SPARSE,
    "a long name": tarfile.GNUTYPE_LONGNAME,
    "a long link": tarfile.GNUTYPE_LONGLINK,
    "an extended header": tarfile.XHDTYPE,
    "a global header": tarfile.XGLTYPE,
    "another extended header": tarfile.SOLARIS_XHDTYPE,
    "a volume": b"V",
    "something unknown": b"\xff",
}
FIELDS: list[dict[str, Any]] = [
    {"mtime": 1},
    {"mode": 0o755},
    {"mode": 0o4644},
    {"uid": 1000},
    {"gid": 1000},
    {"uname": "root"},
    {"gname": "root"},
    {"linkname": "/etc/passwd"},
    {"form": tarfile.GNU_FORMAT},
    {"form": tarfile.PAX_FORMAT, "pax_headers": {"path": "/escaped"}},
    {"form": tarfile.PAX_FORMAT, "pax_headers": {"size": "1"}},
    {"form": tarfile.PAX_FORMAT, "pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}},
    {"size": 0},
    {"size": 1},
    {"size": 10**6},
    {"size": 8**11 - 1},
    {"size": -1, "form": tarfile.GNU_FORMAT},
    {"size": -(10**6), "form": tarfile.GNU_FORMAT},
    {"size": 2**87, "form": tarfile.GNU_FORMAT},
]


def forms(name: str) -> list[bytes]:
    """Return a member with this name in each form that can hold it."""
    made = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        try:
            made.append(member(name, form=form))
        except ValueError:
            continue  # too long for ustar
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_member_with_another_name_is_refused(name: str) -> None:
    for more in forms(name):
        for place in (0, 2, 3):
            assert judge(ended(*PARTS[:place], more, *PARTS[place:]))
        assert judge(ended(more))


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_is_no_plain_file_is_refused(kind: str) -> None:
    for link in ("", "manifest.json", "/etc/passwd", "../../../escaped"):
        fields: dict[str, Any] = {"type": KINDS[kind], "linkname": link}
        for place in (0, 3):
            assert judge(ended(*PARTS[:place], member("nosuch", **fields), *PARTS[place:]))
        assert judge(ended(*PARTS[:2], member(MODEL, HELD[MODEL], **fields)))


def test_a_file_is_never_written_through_a_link() -> None:
    for target in ("../../../escaped", "/escaped", "manifest.json"):
        link = member(MODEL, b"", type=tarfile.SYMTYPE, linkname=target)
        assert judge(ended(*PARTS[:2], link, PARTS[2]))


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_a_header_that_says_anything_else_is_refused(fields: dict[str, Any]) -> None:
    for place, name in enumerate(sorted(HELD)):
        changed = member(name, HELD[name], **fields)
        assert judge(ended(*PARTS[:place], changed, *PARTS[place + 1 :]))


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("bundle.tar", content)
    return file.getvalue()


def _checksum(content: bytes, place: int) -> bytes:
    return content[: place + 148] + b"0000000\0" + content[place + 156 :]


UNENDED = b"".join(PARTS)
SECOND = len(PARTS[0])
OTHERWISE: dict[str, bytes] = {
    "nothing": b"",
    "half a block": bytes(256),
    "no members": bytes(tarfile.RECORDSIZE),
    "garbage": random.Random(7).randbytes(20_000),
    "text": b"Expected: an archive. " * 1000,
    "gzip": gzip.compress(PACKED),
    "gzip of gigabytes": gzip.compress(bytes(2**24)),
    "bzip2": bz2.compress(PACKED),
    "xz": lzma.compress(PACKED),
    "zip": _zip(PACKED),
    "no end mark": UNENDED,
    "half an end mark": UNENDED + bytes(tarfile.BLOCKSIZE),
    "an end mark without what fills the record": UNENDED + bytes(2 * tarfile.BLOCKSIZE),
    "a second end": PACKED + bytes(tarfile.RECORDSIZE),
    "a byte behind": PACKED + b"\0",
    "words behind": PACKED + b"trailing data",
    "words in the last record": PACKED[:-4] + b"data",
    "words in what fills a block": PACKED[: SECOND - 4] + b"data" + PACKED[SECOND:],
    "another archive behind": PACKED + PACKED,
    "a wrong first checksum": _checksum(PACKED, 0),
    "a wrong second checksum": _checksum(PACKED, SECOND),
    "a name in Latin-1": PACKED.replace(b"model.tflite\0", b"mod\xe9l.tflite\0"),
    "a file twice": ended(*PARTS, PARTS[-1]),
    "every file twice": ended(*PARTS, *PARTS),
    "another order": ended(*reversed(PARTS)),
    "a file that the manifest does not name": ended(*PARTS, member("zebra")),
    "a file that the manifest does not name, first": ended(member("aardvark"), *PARTS),
    "no golden vectors": ended(*PARTS[1:]),
    "no manifest": ended(PARTS[0], PARTS[2]),
    "no model": ended(*PARTS[:2]),
    "another model": ended(*PARTS[:2], member(MODEL, HELD[MODEL][:-1] + b"x")),
    "a shorter model": ended(*PARTS[:2], member(MODEL, HELD[MODEL][:-1])),
    "a bad manifest": ended(PARTS[0], member(MANIFEST, b"{}"), PARTS[2]),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_anything_else_than_what_is_packed_is_refused(what: str) -> None:
    assert judge(OTHERWISE[what])


def test_where_an_archive_ends_too_soon_it_is_refused() -> None:
    for size in {*range(0, len(PACKED), 509), *range(0, len(PACKED), 512)}:
        assert judge(PACKED[:size])


@SEVERAL
@given(
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4),
    st.just(len(PACKED)) | st.integers(0, len(PACKED)),
    st.just(b"") | st.binary(max_size=20),
)
def test_an_archive_with_bytes_flipped_cut_off_or_appended(
    flips: list[tuple[int, int]], size: int, more: bytes
) -> None:
    changed = bytearray(PACKED)
    for place, byte in flips:
        changed[place] = byte
    content = bytes(changed[:size]) + more
    assert (judge(content) is None) == (content == PACKED)


headers = st.fixed_dictionaries(
    {"form": st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])},
    optional={
        "type": st.sampled_from(list(KINDS.values())) | st.binary(min_size=1, max_size=1),
        "size": st.integers(-(2**40), 2**70),
        "linkname": st.sampled_from(NAMES) | st.text("./a", max_size=8),
        "mode": st.integers(0, 0o7777),
        "mtime": st.integers(0, 2**34),
        "pax_headers": st.dictionaries(
            st.sampled_from(["path", "linkpath", "size", "GNU.sparse.map", "GNU.sparse.name", "hdrcharset"]),
            st.sampled_from(["/escaped", "../escaped", "-1", "1", "0,1", "BINARY", "9" * 5000]),
            max_size=3,
        ),
    },
)
members = st.builds(
    lambda name, content, fields: member(name, content, **fields),
    st.sampled_from([*NAMES, *HELD]) | st.text("./am\\\n\u00e9", max_size=12),
    st.binary(max_size=40) | st.sampled_from(list(HELD.values())),
    headers,
)


@SEVERAL
@given(st.lists(st.sampled_from(PARTS) | members | st.binary(max_size=600), max_size=6))
def test_an_archive_of_any_members(made: list[bytes]) -> None:
    content = ended(*made)
    assert (judge(content) is None) == (content == PACKED)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", INSTEAD)
def test_something_else_instead_of_the_archive_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    INSTEAD[kind](tmp_path / "in" / "bundle.tar")
    assert refused(lambda: archive.unpack(tmp_path / "in" / "bundle.tar", tmp_path / "out"))
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".tmp-*"))


THERE: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a folder with something in it": lambda path: (path / "mine").mkdir(parents=True),
    "a file": Path.touch,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("what", THERE)
def test_what_is_there_already_is_never_replaced(tmp_path: Path, what: str) -> None:
    (tmp_path / "bundle.tar").write_bytes(PACKED)
    THERE[what](tmp_path / "out")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match="one that is there"):
        archive.unpack(tmp_path / "bundle.tar", tmp_path / "out")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("folder", ["bundle.tar/out", "x" * 300, "null\0"])
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, folder: str) -> None:
    (tmp_path / "bundle.tar").write_bytes(PACKED)
    assert refused(lambda: archive.unpack(tmp_path / "bundle.tar", tmp_path / folder))
    assert [file.name for file in tmp_path.iterdir()] == ["bundle.tar"]


def test_a_larger_archive_than_is_allowed_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar"
    file.write_bytes(PACKED)
    with pytest.raises(BundleError, match=f"at most {len(PACKED) - 1} bytes"):
        archive.unpack(file, tmp_path / "out", max_bytes=len(PACKED) - 1)
    os.truncate(file, archive.MAX_BYTES + 1)  # a hole, which takes no room
    with pytest.raises(BundleError, match=f"at most {archive.MAX_BYTES} bytes"):
        archive.unpack(file, tmp_path / "out")
    file.write_bytes(PACKED)
    sound(archive.unpack(file, tmp_path / "out", max_bytes=len(PACKED)))


def test_more_files_than_are_allowed_are_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar"
    file.write_bytes(PACKED)
    with pytest.raises(BundleError, match="at most 1 files"):
        archive.unpack(file, tmp_path / "out", max_files=1)
    sound(archive.unpack(file, tmp_path / "out", max_files=2))
    file.write_bytes(ended(*(member(f"{number:06}") for number in range(20_000))))
    with pytest.raises(BundleError, match="000065 as number 66"):
        archive.unpack(file, tmp_path / "other")
    assert {item.name for item in tmp_path.iterdir()} == {"bundle.tar", "out"}


def test_the_largest_bundle_fits(tmp_path: Path) -> None:
    files = FILES | {f"{number:02}".rjust(100, "n"): b"x" for number in range(bundle.MAX_FILES - len(FILES))}
    archive.pack(write(tmp_path / "bundle", manifest(files), files), tmp_path / "bundle.tar")
    content = sum(file.stat().st_size for file in (tmp_path / "bundle").iterdir())
    overhead = archive.MAX_BYTES - bundle.MAX_BYTES - bundle.MAX_MANIFEST_BYTES
    assert (tmp_path / "bundle.tar").stat().st_size - content <= overhead
    sound(archive.unpack(tmp_path / "bundle.tar", tmp_path / "out"))
