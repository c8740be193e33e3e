"""A .xz that several cores have made: one stream, the same bytes whatever their number."""

import lzma
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.release.xz import compressed
from tests.conftest import find_program

CONTENT = bytes(random.Random(1).choices(b"shelf\0", k=200_000))


def made(content: bytes, *, block: int, cores: int = 2, part: int = 1000) -> bytes:
    parts = (content[at : at + part] for at in range(0, len(content), part))
    return b"".join(compressed(parts, cores=cores, block=block))


@settings(max_examples=50)
@given(st.binary(max_size=5000), st.integers(50, 6000), st.integers(1, 700))
def test_what_goes_in_comes_out_of_one_stream(content: bytes, block: int, part: int) -> None:
    inner = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    assert inner.decompress(made(content, block=block, part=part)) == content
    assert inner.eof
    assert not inner.unused_data


@pytest.mark.parametrize("block", [1000, 4096, 199_999, 200_000, 10**6])
def test_the_program_xz_reads_it_too(tmp_path: Path, block: int) -> None:
    path = tmp_path / "a.xz"
    path.write_bytes(made(CONTENT, block=block))
    done = subprocess.run(
        [find_program("xz"), "--decompress", "--stdout", path], capture_output=True, check=True
    )
    assert done.stdout == CONTENT
    said = subprocess.run(
        ["xz", "--robot", "--list", path], capture_output=True, text=True, check=True
    ).stdout
    # One stream, and so many blocks: whoever has several cores can also unpack it with all of them.
    totals = said.splitlines()[-1].split()
    assert totals[1:3] == ["1", str(-(-len(CONTENT) // block))]


def test_it_is_the_same_bytes_on_any_number_of_cores() -> None:
    assert len({made(CONTENT, block=5000, cores=cores) for cores in (1, 2, 7)}) == 1


def test_a_file_that_cannot_be_read_ends_it() -> None:
    def parts() -> "list[bytes]":
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(compressed(part for _ in range(1) for part in parts()))
