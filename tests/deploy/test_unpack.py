"""Archives of components: the same bytes for the same files, and nothing else gets onto a device."""

import io
import json
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.release.pack import files_below, pack
from edge_agent.contracts import release as releases
from edge_agent.contracts.errors import BundleError, DataError, DeviceError
from edge_agent.contracts.release import header
from edge_agent.update import unpack as unpacking
from edge_agent.update.refusals import DamagedError, EndlessError, RefusedError
from edge_agent.update.unpack import unpack

GOLDEN = Path(__file__).parents[1] / "golden" / "release.v1.json"
END = b"\0" * 1024


def source(folder: Path) -> Path:
    for name, content in {
        "a/b.py": b"x = 1\n",
        "a.py": b"",
        "run": b"#!",
        "z/y/x/w": os.urandom(2000),
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "run").chmod(0o750)
    (folder / "a" / "__pycache__").mkdir()
    (folder / "a" / "__pycache__" / "b.pyc").write_bytes(b"made by this machine")
    return folder


@pytest.mark.parametrize("xz", [False, True])
def test_what_is_packed_is_unpacked(tmp_path: Path, xz: bool) -> None:
    folder = source(tmp_path / "source")
    part = pack("agent", "1", files_below(folder), tmp_path / "components", xz=xz)
    archive = tmp_path / part.target
    assert archive.stat().st_size == part.size
    assert unpack(archive, tmp_path / "out") == part.unpacked
    for name in ("a/b.py", "a.py", "run", "z/y/x/w"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert stat.S_IMODE((tmp_path / "out" / "run").stat().st_mode) & 0o111
    assert not (tmp_path / "out" / "a" / "__pycache__").exists()


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    folder = source(tmp_path / "source")
    first = pack("agent", "1", files_below(folder), tmp_path / "components")
    os.utime(folder / "a.py", (1, 1))
    (folder / "run").chmod(0o700)
    backwards = dict(reversed(files_below(folder).items()))
    assert pack("agent", "1", backwards, tmp_path / "components") == first
    assert [path.name for path in (tmp_path / "components").iterdir()] == [f"{first.sha256}.tar"]


def test_any_tool_reads_an_archive(tmp_path: Path) -> None:
    part = pack("agent", "1", files_below(source(tmp_path / "source")), tmp_path / "components")
    with tarfile.open(tmp_path / part.target) as archive:
        assert archive.getnames() == ["a/b.py", "a.py", "run", "z/y/x/w"]


def test_a_link_is_not_packed(tmp_path: Path) -> None:
    (source(tmp_path / "source") / "link").symlink_to("run")
    with pytest.raises(DataError, match="plain files"):
        files_below(tmp_path / "source")


def member(name: str, content: bytes = b"", **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + b"\0" * (-len(content) % 512)


def pax() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("é" * 200))
    return out.getvalue()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        END[:512],
        END + b"\0" * 512,
        member("a") + END[:700],
        member("a", b"1234")[:700],
        member("a", b"1") + member("a", b"2") + END,
        member("b") + member("a") + END,
        member("a") + member("a/b") + END,
        member("../a") + END,
        member("/a") + END,
        member("a/../../b") + END,
        member("a//b") + END,
        member("./a") + END,
        member("a\nb") + END,
        member("/".join("a" * 40)) + END,
        member("a", type=tarfile.SYMTYPE, linkname="/etc/passwd") + END,
        member("a", type=tarfile.LNKTYPE, linkname="b") + END,
        member("a", type=tarfile.CHRTYPE) + END,
        member("a", type=tarfile.BLKTYPE) + END,
        member("a", type=tarfile.FIFOTYPE) + END,
        member("a", type=tarfile.DIRTYPE) + END,
        member("a", type=tarfile.GNUTYPE_SPARSE) + END,
        member("a", uid=1000) + END,
        member("a", mtime=1) + END,
        member("a", mode=0o4755) + END,
        member("a", mode=0o666) + END,
        header("a", 1) + b"1" + b"\1" * 511 + END,
        pax(),
    ],
)
def test_what_the_packer_does_not_write_is_refused(tmp_path: Path, payload: bytes) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(payload)
    with pytest.raises(DamagedError):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_more_than_it_may_hold_is_refused_before_it_is_written(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(header("a", 2**33 - 1) + END)
    with pytest.raises(EndlessError):
        unpack(archive, tmp_path / "out")
    small = tmp_path / "bomb.tar.xz"
    small.write_bytes(lzma.compress(header("a", 10**7) + b"\0" * 10**7 + END))
    assert small.stat().st_size < 10**4
    with pytest.raises(EndlessError):
        unpack(small, tmp_path / "out", most=10**6)
    assert not (tmp_path / "out").exists()


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_FILES", 3)
    archive = tmp_path / "x.tar"
    archive.write_bytes(b"".join(member(name) for name in "abcd") + END)
    with pytest.raises(EndlessError):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-9], lambda data: data + b"x", lambda data: b"x" + data]
)
def test_a_damaged_xz_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    archive = tmp_path / "x.tar.xz"
    archive.write_bytes(spoil(lzma.compress(member("a", b"1") + END)))
    with pytest.raises(DamagedError):
        unpack(archive, tmp_path / "out")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(member("a") + END)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(DeviceError):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "kept"


@given(st.data())
def test_any_change_of_a_header_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    room = tmp_path_factory.mktemp("fuzz")
    whole = bytearray(member("a/b", b"12345") + member("c", b"1", mode=0o755) + END)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    archive = room / "x.tar"
    archive.write_bytes(whole)
    try:
        unpack(archive, room / "out")
    except RefusedError:
        assert [path.name for path in room.iterdir()] == ["x.tar"]
    else:
        assert all(path.is_file() or path.is_dir() for path in (room / "out").rglob("*"))
        assert sorted(path.name for path in room.iterdir()) == ["out", "x.tar"]


@given(st.binary(max_size=3000))
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    room = tmp_path_factory.mktemp("fuzz")
    for name in ("x.tar", "x.tar.xz"):
        (room / name).write_bytes(noise)
        with pytest.raises(RefusedError):
            unpack(room / name, room / "out")


def test_the_golden_release_is_read_and_written_as_it_was() -> None:
    payload = GOLDEN.read_bytes()
    assert releases.encode(releases.decode(payload)) == payload


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(["number", "arch", "runtime", "bundle", "agent", "launcher", "downgrade", "format"]),
    _JSON,
)
def test_any_value_in_a_release_is_read_or_refused(key: str, value: object) -> None:
    changed = json.loads(GOLDEN.read_bytes()) | {key: value}
    try:
        found = releases.decode(json.dumps(changed).encode())
    except BundleError:
        return
    assert releases.decode(releases.encode(found)) == found


@given(st.binary(max_size=200))
def test_noise_is_no_release(noise: bytes) -> None:
    with pytest.raises(BundleError):
        releases.decode(noise)
