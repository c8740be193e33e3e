"""An image gets onto a drive whole, or the drive cannot be booted: whatever interrupts it, and when."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.drives import Drive, OpenDisk, found, opened
from deploy.flash.image import HEAD, Table, chunks, table_of
from deploy.flash.inject import inject
from deploy.flash.writer import VerifyError, write
from edge_agent.contracts.errors import DataError, DeviceError
from tests.conftest import Made, find_program
from tests.deploy.flash.images import MIB, SIZE, has_table, make_image, on_boot, packed

FILES = {"device.yaml": b"device: cam-12-01\n", "device.key": b"secret" * 40}


@pytest.fixture(scope="module")
def images(made: Made) -> Path:
    find_program("mcopy")

    def maker(folder: Path) -> None:
        folder.mkdir()
        for label in ("gpt", "dos"):
            make_image(folder / f"{label}.img", label)

    return made("flash-images", maker)


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A used drive, somewhat larger than the image: it could be booted before."""
    path = make_image(tmp_path / "drive", "dos")
    with path.open("r+b") as file:
        file.truncate(SIZE + 5 * MIB)
    return path


def _write(image: Path, drive: Path) -> str:
    table = table_of(image)
    with opened(found(drive)) as disk:
        return write(disk, chunks(image), table, lambda: inject(disk.path, table.fat, FILES)).sha256


@pytest.mark.parametrize(("label", "suffix"), [("gpt", ".zst"), ("gpt", ".xz"), ("dos", ".img")])
def test_every_byte_arrives_and_the_boot_partition_has_the_devices_files(
    images: Path, drive: Path, tmp_path: Path, label: str, suffix: str
) -> None:
    raw = (images / f"{label}.img").read_bytes()
    (tmp_path / "a.img").write_bytes(raw)
    assert _write(packed(tmp_path / "a.img", suffix), drive) == hashlib.sha256(raw).hexdigest()
    fat = MIB if label == "gpt" else 8 * MIB
    for name, content in FILES.items():
        assert on_boot(drive, name, at=fat) == content
    found_bytes = drive.read_bytes()
    assert found_bytes[:fat] == raw[:fat]
    assert found_bytes[fat + 12 * MIB : SIZE - MIB] == raw[fat + 12 * MIB : SIZE - MIB]
    assert has_table(drive)


def test_an_image_that_was_cut_short_leaves_nothing_to_boot(
    images: Path, drive: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.img").write_bytes((images / "gpt.img").read_bytes())
    for suffix in (".xz", ".zst", ".img"):
        short = packed(tmp_path / "a.img", suffix)
        short.write_bytes(short.read_bytes()[: short.stat().st_size * 3 // 4])
        with pytest.raises(DataError):
            _write(short, drive)
        assert not has_table(drive)
    _write(images / "gpt.img", drive)
    assert has_table(drive)


@pytest.mark.parametrize("content", [b"", b"no image at all" * 1000, bytes(5 * MIB)])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    for suffix in (".img", ".xz", ".zst", ".iso") if content else (".img",):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError):
            table_of(path)


def test_an_image_without_a_boot_partition_is_refused(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a.img", "dos")
    raw = bytearray(image.read_bytes())
    raw[446 + 4] = 0x83
    image.write_bytes(raw)
    with pytest.raises(DataError, match="FAT"):
        table_of(image)


def test_a_partition_that_is_no_fat_for_all_its_type_is_not_booted_from(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a.img", "dos")
    with image.open("r+b") as file:
        # A third entry before the others on the drive: of FAT's type, with something else in it.
        file.seek(446 + 2 * 16)
        file.write(
            bytes([0, 0, 0, 0, 0x0C, 0, 0, 0]) + (2048).to_bytes(4, "little") + (2048).to_bytes(4, "little")
        )
    for suffix in (".img", ".xz", ".zst"):
        assert table_of(packed(image, suffix)) == Table(1 * MIB, SIZE, 8 * MIB)


class FaultyDisk(OpenDisk):
    """Gives back another byte than was written at one place."""

    at = 0

    def read_at(self, offset: int, size: int) -> bytes:
        data = bytearray(super().read_at(offset, size))
        if offset <= self.at < offset + len(data):
            data[self.at - offset] ^= 1
        return bytes(data)


@pytest.mark.parametrize("at", [0, 600, 2 * MIB, HEAD + 5, SIZE - 700])
def test_a_drive_that_gives_back_other_bytes_is_found_out(images: Path, drive: Path, at: int) -> None:
    table = table_of(images / "gpt.img")
    with drive.open("r+b") as file:
        disk = FaultyDisk(found(drive), file.fileno())
        disk.at = at
        with pytest.raises(VerifyError):
            write(disk, chunks(images / "gpt.img"), table, lambda: None)
    assert not has_table(drive)


def test_a_drive_that_is_smaller_than_it_says_is_no_end_in_silence(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(bytes(SIZE - MIB))
    with pytest.raises(DeviceError, match="room for the image"):
        _write(images / "gpt.img", path)
    assert not has_table(path)


class PowerCutError(Exception):
    """The power is gone."""


class MortalDisk(OpenDisk):
    """The power is cut before the operation with a number: of what was not flushed, chance decides.

    Each block of 64 KiB that was written since the last flush is there, or is not.
    """

    def __init__(self, drive: Drive, handle: int, at: int) -> None:
        super().__init__(drive, handle)
        self.left, self.chance = at, random.Random(at)
        self._undo: list[tuple[int, bytes]] = []

    def step(self) -> None:
        if self.left == 0:
            for offset, before in reversed(self._undo):
                if self.chance.random() < 0.5:
                    super().write_at(offset, before)
            raise PowerCutError
        self.left -= 1

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        self.step()
        for start in range(0, len(data), 65536):
            part = memoryview(data)[start : start + 65536]
            self._undo.append((offset + start, super().read_at(offset + start, len(part))))
            super().write_at(offset + start, part)

    def sync(self) -> None:
        self.step()
        super().sync()
        self._undo.clear()


def _mortal(image: Path, table: Table, drive: Path, at: int) -> bool:
    """Write with a power cut; tell whether it came."""

    def steps() -> Iterator[bytes]:
        # Small steps: as many moments as a large image has.
        for chunk in chunks(image):
            for start in range(0, len(chunk), 2 * MIB):
                yield chunk[start : start + 2 * MIB]

    with drive.open("r+b") as file:
        disk = MortalDisk(found(drive), file.fileno(), at)

        def put() -> None:
            disk.step()
            inject(drive, table.fat, FILES)
            disk.step()

        try:
            write(disk, steps(), table, put)
        except PowerCutError:
            return True
    return False


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_power_cut_at_any_moment_leaves_a_drive_that_cannot_be_booted_or_is_whole(
    images: Path, drive: Path, label: str
) -> None:
    image = images / f"{label}.img"
    raw, table = image.read_bytes(), table_of(image)
    rest = slice(14 * MIB, 30 * MIB) if label == "gpt" else slice(20 * MIB, SIZE)
    older, as_before, whole = drive.read_bytes(), 0, 0
    for at in range(100):
        if not _mortal(image, table, drive, at):
            break
        after = drive.read_bytes()
        if after == older and not whole:
            as_before += 1
        elif has_table(drive):
            # The last flush alone is open: what it flushes may be there already.
            whole += 1
            assert after[: table.first] == raw[: table.first]
            assert after[rest] == raw[rest]
            assert on_boot(drive, "device.key", at=table.fat) == FILES["device.key"]
    assert 20 < at < 99
    assert 1 <= as_before <= 2
    assert whole <= 2
    assert on_boot(drive, "device.yaml", at=table.fat) == FILES["device.yaml"]
    assert drive.read_bytes()[rest] == raw[rest]
