"""Cameras: real files, a real HTTP server, and what each says when it cannot see."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.masked import Masked
from edge_agent.camera.open import open_camera
from edge_agent.camera.paced import Paced
from edge_agent.camera.rotated import Rotated
from edge_agent.contracts import config
from edge_agent.contracts.errors import ConfigError, DataError, DeviceError, KitError


def settings(source: str, fps: float = 10, rotate: int = 0) -> config.Camera:
    return config.Camera.model_validate({"source": source, "fps": fps, "rotate": rotate})


def frames(camera: Camera) -> list[Frame]:
    found = []
    with camera:
        while (frame := camera.read()) is not None:
            found.append(frame)
    return found


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds at 25 frames a second; each frame as bright as its number, times four."""
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(50):
        writer.write(np.full((48, 64, 3), number * 4, np.uint8))
    writer.release()
    return tmp_path / "clip.avi"


@pytest.mark.parametrize(
    ("fps", "numbers"), [(25, range(50)), (5, range(0, 50, 5)), (60, range(50)), (1, [0, 25])]
)
def test_a_clip_gives_the_frames_that_its_rate_asks_for(clip: Path, fps: float, numbers: list[int]) -> None:
    found = frames(open_camera(settings(f"file:{clip}", fps), live=False))
    assert [round(frame.image.mean() / 4) for frame in found] == list(numbers)
    assert [round(frame.at * 25) for frame in found] == list(numbers)


def test_the_real_clip_is_read_to_its_end(public_data: Path) -> None:
    found = frames(open_camera(settings(f"file:{public_data / 'bottles' / 'bottles.mp4'}", 60), live=False))
    assert len(found) == 502
    assert found[215].at == pytest.approx(215 / 29.8333, abs=0.01)


def test_a_folder_gives_its_pictures_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), np.full((20, 20, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    found = frames(open_camera(settings(f"folder:{tmp_path}", 2), live=False))
    assert [int(frame.image.mean()) for frame in found] == [1, 2, 10]
    assert [frame.at for frame in found] == [0, 0.5, 1.0]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_camera_on_its_side_is_turned(tmp_path: Path, degrees: int) -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:10, :10] = 255
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    (found,) = frames(open_camera(settings(f"folder:{tmp_path}", rotate=degrees), live=False))
    assert (found.image == np.rot90(picture, -degrees // 90)).all()


def test_private_places_are_black_in_px_of_the_raw_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.full((20, 40, 3), 200, np.uint8))
    masks = ([(0, 0), (9, 0), (9, 9), (0, 9)],)
    (found,) = frames(open_camera(settings(f"folder:{tmp_path}", rotate=90), live=False, masks=masks))
    assert found.image.shape == (40, 20, 3)
    assert found.image[:10, 10:].max() == 0
    assert found.image[10:].min() == 200


def test_a_live_clip_keeps_step_with_the_clock_and_skips_what_is_over() -> None:
    class Numbers(Camera):
        number = -1

        def read(self) -> Frame | None:
            self.number += 1
            if self.number >= 10:
                return None
            return Frame(np.full((8, 8, 3), self.number, np.uint8), self.number / 10)

    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    camera = Masked(Rotated(Paced(Numbers(), steady=lambda: now[0], sleep=sleep), 90), ())
    seen = []
    while (frame := camera.read()) is not None:
        seen.append((int(frame.image[0, 0, 0]), round(now[0], 2)))
        now[0] += 0.25
    assert seen == [(0, 100.0), (2, 100.25), (5, 100.5), (7, 100.75), (9, 101.0)]
    assert camera.dropped == 5


@pytest.mark.parametrize("kind", ["file", "folder", "shelf", "still"])
def test_a_picture_every_five_minutes(tmp_path: Path, clip: Path, pictures_over_http: str, kind: str) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.full((20, 20, 3), 9, np.uint8))
    source = {
        "file": f"file:{clip}",
        "folder": f"folder:{tmp_path}",
        "shelf": "shelf:",
        "still": f"{pictures_over_http}/good.jpg",
    }[kind]
    with open_camera(settings(source, 0.003), live=True) as camera:
        assert camera.read() is not None
        assert camera.dropped == 0


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("file:nowhere.mp4", DataError, "not there"),
        ("folder:nowhere", DataError, "pictures"),
        ("rtsp://127.0.0.1/x", ConfigError, "with an end"),
        ("shelf:seed=x", ConfigError, "seed"),
        ("shelf:colour=red", ConfigError, "Expected"),
        ("shelf:start=yesterday", ConfigError, "RFC 3339"),
    ],
)
def test_a_source_that_cannot_be(source: str, error: type[KitError], said: str) -> None:
    with pytest.raises(error, match=said):
        open_camera(settings(source), live=False)


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_a_file_that_is_no_clip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(DataError, match="OpenCV can decode"):
        open_camera(settings(f"file:{tmp_path / 'x.mp4'}"), live=False)


@pytest.fixture
def pictures_over_http() -> Iterator[str]:
    """A server with one good picture, one that is none, and nothing else."""
    _, good = cv2.imencode(".jpg", np.full((20, 30, 3), 200, np.uint8))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in {"/good.jpg", "/bad.jpg"} else 404)
            self.end_headers()
            self.wfile.write(good.tobytes() if self.path == "/good.jpg" else b"sorry")

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_picture_over_http(pictures_over_http: str) -> None:
    with open_camera(settings(f"{pictures_over_http}/good.jpg"), live=True) as camera:
        frame = camera.read()
    assert frame is not None
    assert frame.image.shape == (20, 30, 3)


@pytest.mark.parametrize("name", ["bad.jpg", "none.jpg"])
def test_no_picture_over_http_is_a_camera_that_gives_none(pictures_over_http: str, name: str) -> None:
    with (
        open_camera(settings(f"{pictures_over_http}/{name}"), live=True) as camera,
        pytest.raises(DeviceError, match="picture"),
    ):
        camera.read()


def test_a_camera_that_is_not_there_says_so_and_ends() -> None:
    begin = time.monotonic()
    with (
        open_camera(settings("v4l2:/dev/video97"), live=True) as camera,
        pytest.raises(DeviceError, match="no such device") as caught,
    ):
        camera.read()
    assert time.monotonic() - begin < 30
    assert "cable" in caught.value.hint


def test_the_board_camera_needs_its_board() -> None:
    with pytest.raises(DeviceError, match="picamera2"):
        open_camera(settings("picamera:"), live=True)
