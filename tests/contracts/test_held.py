"""Decoded photos in memory, or in a file that is gone when nobody needs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_agent.contracts import dataset, photos
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.held import available_bytes
from edge_agent.contracts.photos import Dataset, Photo
from tests.contracts.test_dataset import picture, save


def some(count: int) -> Dataset:
    made = [Photo(picture(row, 24, 36), row % 3, None, str(row), str(row)) for row in range(count)]
    return Dataset(Path("made"), [], made)


@pytest.fixture
def broken(tmp_path: Path) -> Dataset:
    """Every third photo cannot be used."""
    for row in range(700):
        path = tmp_path / "in" / "tea" / f"{row:03d}.png"
        if row % 3:
            save(path, row)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"broken")
    return dataset.read(tmp_path / "in")


def test_a_file_holds_what_memory_would(broken: Dataset, tmp_path: Path) -> None:
    held, listed = photos.decode(broken, 16, 16, memory_mb=1000)
    spilled, listed_too = photos.decode(broken, 16, 16, memory_mb=0, spill=tmp_path / "spill")
    assert (held.on_disk, spilled.on_disk) == (False, True)
    assert np.array_equal(held.images, spilled.images)
    assert held.ids == spilled.ids
    assert listed == listed_too
    assert len(held) + len(listed) == 700
    names = [photo.name for photo in held.photos]
    assert names == sorted(names)
    for row in (0, 300, 465):
        alone, _ = photos.decode(Dataset(broken.path, [], [held.photos[row]]), 16, 16)
        assert np.array_equal(alone.images[0], held.images[row])


def test_the_file_cannot_be_seen_and_what_is_written_over_it_stays_here(tmp_path: Path) -> None:
    pictures, _ = photos.decode(some(10), 16, 16, memory_mb=0, spill=tmp_path)
    assert list(tmp_path.iterdir()) == []
    kept = np.array(pictures.images)
    taken = pictures.take([3, 1])
    assert not taken.on_disk
    assert np.array_equal(taken.images, kept[[3, 1]])
    part = pictures.part(2, 5)
    assert part.on_disk
    assert np.array_equal(part.images, kept[2:5])
    assert part.ids == pictures.ids[2:5]


@pytest.mark.parametrize("memory_mb", [0, 1000])
def test_some_may_be_refused_after_all_are_known(tmp_path: Path, memory_mb: int) -> None:
    whole, _ = photos.decode(some(300), 16, 16)
    gone = dict.fromkeys((0, 1, 7, 255, 299), "for a reason")
    left, rejected = photos.decode(
        some(300), 16, 16, memory_mb=memory_mb, spill=tmp_path, refuse=lambda _photos, _ids: gone
    )
    rows = [row for row in range(300) if row not in gone]
    assert np.array_equal(left.images, whole.images[rows])
    assert left.ids == tuple(whole.ids[row] for row in rows)
    assert left.labels.tolist() == [row % 3 for row in rows]
    assert {int(item.name): item.reason for item in rejected} == gone


def test_nothing_at_all_can_be_held(tmp_path: Path) -> None:
    def everything(rows: Sequence[Photo], _ids: Sequence[str]) -> dict[int, str]:
        return dict.fromkeys(range(len(rows)), "no")

    for memory_mb in (0, 10):
        pictures, _ = photos.decode(
            some(3),
            16,
            16,
            memory_mb=memory_mb,
            spill=tmp_path,
            refuse=everything,
        )
        assert pictures.images.shape == (0, 16, 16, 3)


def test_half_of_what_is_available_is_some_of_it() -> None:
    assert 0 < available_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert not photos.decode(some(3), 16, 16)[0].on_disk


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"room for decoded photos.*exists") as told:
        photos.decode(some(3), 16, 16, memory_mb=0, spill=tmp_path / "file")
    assert "disk space" in told.value.hint


FULL = """
import resource, signal, sys
from pathlib import Path
from edge_agent.contracts import photos
from edge_agent.contracts.errors import DataError
from tests.contracts.test_held import some

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    photos.decode(some(400), 32, 32, memory_mb=0, spill=Path(sys.argv[1]))
except DataError as exc:
    print(exc)
"""


def test_a_file_that_may_not_grow_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "Expected: room for decoded photos" in done.stdout
    assert "too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from edge_agent.contracts import photos
from tests.contracts.test_held import some

pictures, _ = photos.decode(some(50), 16, 16, memory_mb=0, spill=Path(sys.argv[1]))
assert pictures.on_disk
print("ready", flush=True)
time.sleep(600)
"""


def test_nothing_stays_behind_when_the_process_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        maps = Path(f"/proc/{process.pid}/maps")
        assert not maps.exists() or f"{tmp_path}/" in maps.read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close() if process.stdout else None
    assert list(tmp_path.iterdir()) == []
