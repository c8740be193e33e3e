"""Picture files as phones, scanners, web shops and broken disks make them."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.contracts.errors import DataError
from edge_agent.contracts.photos import Photo
from edge_agent.contracts.pictures import kind_of, read_picture

ENDINGS = (".jpg", ".png", ".webp", ".bmp", ".tif")


def scene(height: int = 60, width: int = 90) -> np.ndarray:
    """Smooth colours that survive a lossy format, with a bright top left corner."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    made = np.dstack([200 - x, 60 + y, 40 + x + y])
    made[: height // 3, : width // 3] = 250
    return made.clip(0, 255).astype(np.uint8)


def encoded(ending: str, made: np.ndarray | None = None) -> bytes:
    return cv2.imencode(ending, scene() if made is None else made)[1].tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_orientation(data: bytes, value: int) -> bytes:
    """Insert an EXIF segment with one tag, big endian."""
    tag = b"\x01\x12\x00\x03\x00\x00\x00\x01" + struct.pack(">H", value) + b"\x00\x00"
    exif = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01" + tag + b"\x00\x00\x00\x00"
    return data[:2] + segment(0xE1, exif) + data[2:]


def cmyk(cyan: int, magenta: int, yellow: int, black: int, blocks: int = 4) -> bytes:
    """Write a JPEG of one colour in four components, inverted as Adobe's programs do (255: no ink).

    Baseline, as ITU-T T.81 has it. Only the first block of each component differs from the one before.
    """
    side = 8 * blocks
    bits = "".join(
        difference(value - 128 if block == 0 else 0) + "0"
        for block in range(blocks * blocks)
        for value in (cyan, magenta, yellow, black)
    )
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))
    components = range(1, 5)
    sampled = b"".join(bytes([component, 0x11, 0]) for component in components)
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)),
            segment(0xDB, b"\x00" + bytes([8] * 64)),
            segment(0xC0, struct.pack(">BHHB", 8, side, side, 4) + sampled),
            # Nine codes of four bits for differences of up to eight bits; one of one bit: nothing more.
            segment(0xC4, b"\x00" + bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))),
            segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\x00"),
            segment(0xDA, b"\x04" + b"".join(bytes([c, 0]) for c in components) + b"\x00\x3f\x00"),
            scan.replace(b"\xff", b"\xff\x00"),
            b"\xff\xd9",
        ]
    )


def difference(value: int) -> str:
    """Return the code of a difference: its length, then its bits, those of negative ones less one."""
    size = abs(value).bit_length()
    bits = value if value > 0 else value + (1 << size) - 1
    return f"{size:04b}" + (f"{bits:0{size}b}" if size else "")


@pytest.mark.parametrize(
    ("ink", "bgr"),
    [
        ((255, 255, 255, 255), (255, 255, 255)),
        ((255, 100, 50, 255), (50, 100, 255)),
        ((255, 255, 255, 0), (0, 0, 0)),
        ((0, 255, 255, 128), (128, 128, 0)),
    ],
)
def test_cmyk_becomes_bgr(tmp_path: Path, ink: tuple[int, int, int, int], bgr: tuple[int, int, int]) -> None:
    (tmp_path / "x.jpg").write_bytes(cmyk(*ink))
    read = read_picture(tmp_path / "x.jpg", as_named=True)
    assert read.shape == (32, 32, 3)
    assert np.abs(read.reshape(-1, 3).mean(0) - bgr).max() <= 3


@pytest.mark.parametrize("value", range(1, 9))
def test_every_exif_orientation_is_upright(tmp_path: Path, value: int) -> None:
    """EXIF 2.3, tag Orientation: which side of the stored picture is the top, and which the left."""
    upright = scene()
    turned: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda image: image,
        2: np.fliplr,
        3: lambda image: np.rot90(image, 2),
        4: np.flipud,
        5: lambda image: image.swapaxes(0, 1),
        6: lambda image: np.rot90(image, 1),
        7: lambda image: np.rot90(image.swapaxes(0, 1), 2),
        8: lambda image: np.rot90(image, -1),
    }
    stored = np.ascontiguousarray(turned[value](upright))
    (tmp_path / "x.jpg").write_bytes(with_orientation(encoded(".jpg", stored), value))
    read = read_picture(tmp_path / "x.jpg").astype(int)
    assert read.shape == upright.shape
    assert np.abs(read - upright).mean() < 6


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4], ids=["grey", "colour", "alpha"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16], ids=["8 bit", "16 bit"])
def test_every_kind_of_pixel(tmp_path: Path, ending: str, channels: int, depth: type) -> None:
    colour = np.array([40, 90, 200, 255])[:channels] if channels > 1 else np.array([90])
    made: np.ndarray = np.full((20, 30, channels), colour * (257 if depth is np.uint16 else 1)).astype(depth)
    (tmp_path / f"x{ending}").write_bytes(encoded(ending, made))
    read = read_picture(tmp_path / f"x{ending}", as_named=True)
    assert read.dtype == np.uint8
    assert read.shape == (20, 30, 3)
    wanted = [40, 90, 200] if channels > 1 else [90] * 3
    assert np.abs(read.reshape(-1, 3).mean(0) - wanted).max() <= 1


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_what_was_cut_short_is_told(tmp_path: Path, ending: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    data = encoded(ending, noise)
    (tmp_path / f"x{ending}").write_bytes(data)
    assert read_picture(tmp_path / f"x{ending}", as_named=True).shape == (80, 90, 3)
    (tmp_path / f"x{ending}").write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"cut short|no picture"):
        read_picture(tmp_path / f"x{ending}", as_named=True)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", ENDINGS)
def test_a_name_must_say_what_is_inside(tmp_path: Path, ending: str, content: str) -> None:
    photo = Photo(tmp_path / f"x{ending}", 0, None, "x", "x")
    (tmp_path / f"x{ending}").write_bytes(encoded(content))
    if ending == content:
        assert photo.decode().shape == (60, 90, 3)
        return
    with pytest.raises(DataError, match=f"as {ending} says. Received: {kind_of(encoded(content))}"):
        photo.decode()
    assert read_picture(tmp_path / f"x{ending}").shape == (60, 90, 3), "who asks for no photo may read it"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 bytes"),
        (b"hello, I am a text", "no picture that the kit knows"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", "MP4 video"),
        (b"\x00\x00\x00\x20ftypheic\x00\x00\x00\x00", "HEIC"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "AVI video"),
        (b"\x1aE\xdf\xa3\x01\x00\x00\x00", "Matroska"),
        (b"GIF89a", "GIF"),
        (b"<html><body>404</body></html>", "no picture"),
        (b"\xff\xd8\xff", "cut short"),
        (b"\xff\xd8\xff\xe0" + bytes(40) + b"\xff\xd9", "no picture|a photo"),
    ],
)
def test_what_is_no_photo(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(DataError, match=said):
        Photo(tmp_path / "x.jpg", 0, None, "x", "x").decode()


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name, said in [
        ("folder.jpg", "no file"),
        ("pipe.jpg", "no file"),
        ("loop.jpg", "symbolic links"),
        ("gone.jpg", "No such file"),
        ("n" * 300 + ".jpg", "too long"),
    ]:
        with pytest.raises(DataError, match=said):
            read_picture(tmp_path / name)
