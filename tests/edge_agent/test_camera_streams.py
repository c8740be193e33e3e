"""Network streams through OpenCV: real servers that die in a frame, fall silent, and ask for a password."""

import base64
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.latest import Latest, Timing
from edge_agent.camera.open import open_camera
from edge_agent.camera.stream import StreamCamera
from edge_agent.contracts import config
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.preprocess import Image
from tests.rtsp import LEVELS, H264Camera, NetworkCamera, is_whole, number_of

USER = "mara:s3cr3t%21"
TOKEN = "mara:s3cr3t!"  # noqa: S105


def settings(source: str, fps: float = 10) -> config.Camera:
    return config.Camera.model_validate({"source": source, "fps": fps})


@pytest.fixture(params=[False, True], ids=["rtsp", "http"])
def server(request: pytest.FixtureRequest) -> Iterator[NetworkCamera]:
    """A network camera that speaks one of the two."""
    with NetworkCamera(http=request.param) as camera:
        yield camera


def first(camera: Camera, patience_s: float = 40) -> Frame:
    """Return the first frame that comes."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        try:
            found = camera.read()
        except DeviceError:
            continue
        assert found is not None
        return found
    message = f"no frame in {patience_s} s"
    raise AssertionError(message)


def lost(camera: Camera, patience_s: float = 40) -> DeviceError:
    """Read until the camera says that it is lost."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        try:
            found = camera.read()
        except DeviceError as exc:
            return exc
        assert found is not None
        assert is_whole(found.image)
    message = f"never lost in {patience_s} s"
    raise AssertionError(message)


def age(frame: Frame, sent: int) -> int:
    """Return how many frames the server had sent since, as far as the picture tells."""
    return (sent - number_of(frame.image)) % LEVELS


def test_a_slow_reader_sees_the_present(server: NetworkCamera) -> None:
    with open_camera(settings(server.url()), live=True) as camera:
        first(camera)
        for _ in range(3):
            time.sleep(0.7)
            asked = server.sent
            # A few may be on their way.
            found = first(camera)
            assert (number_of(found.image) - asked + 5) % LEVELS <= server.sent - asked + 5
        assert camera.dropped >= 20


def test_a_queue_of_old_frames_is_passed_over(server: NetworkCamera) -> None:
    """As after opening, where OpenCV looks at a second of frames first, or when the process was stopped."""
    with StreamCamera(settings(server.url())) as camera:
        assert age(camera.read(), server.sent) <= 15
        time.sleep(2.0)
        assert age(camera.read(), server.sent) <= 35
        assert age(camera.read(), server.sent) <= 35
        # One second of slack is allowed to a stream with a clock; then it has caught up.
        for _ in range(30):
            found = camera.read()
        assert age(found, server.sent) <= 15


@pytest.mark.parametrize("http", [False, True], ids=["rtsp", "http"])
def test_it_dies_in_a_frame_and_comes_back_on_the_same_port(http: bool) -> None:
    # Large enough that half of what is sent is half of a picture.
    with (
        NetworkCamera(http=http, size=(640, 480)) as server,
        open_camera(settings(server.url()), live=True) as camera,
    ):
        first(camera)
        dying = threading.Thread(target=server.die_in_a_frame)
        dying.start()
        error = lost(camera)
        dying.join()
        assert f"127.0.0.1:{server.port}" in str(error)
        assert error.hint
        server.start()
        first(camera)
        assert server.clients == 2


def test_h264_with_frames_out_of_order_is_as_fresh(public_data: Path) -> None:
    clip = public_data / "bottles" / "bottles.mp4"
    shown = []
    film = cv2.VideoCapture(str(clip))
    while film.grab():
        shown.append(small(np.asarray(film.retrieve()[1], np.uint8)))
    film.release()
    known = np.array(shown)

    def late(frame: Frame, sent: int) -> int:
        place = int(np.abs(known - small(frame.image)).mean(axis=(1, 2, 3)).argmin())
        return (sent - 1 - place) % len(known)

    with H264Camera(clip, fps=30) as server, StreamCamera(settings(server.url())) as camera:
        # FFmpeg looks at a second of frames before it gives the first, and keeps some to put in order.
        assert late(camera.read(), server.sent) <= 20
        time.sleep(2.0)
        assert late(camera.read(), server.sent) <= 50
        for _ in range(60):
            found = camera.read()
        assert late(found, server.sent) <= 20


def small(image: Image) -> NDArray[np.int16]:
    """Return a picture small enough to compare with hundreds."""
    return cv2.resize(image, (80, 45), interpolation=cv2.INTER_AREA).astype(np.int16)


@pytest.mark.slow
def test_it_falls_silent_and_speaks_again(server: NetworkCamera) -> None:
    with open_camera(settings(server.url()), live=True) as camera:
        first(camera)
        server.silent.set()
        begin = time.monotonic()
        lost(camera)
        assert time.monotonic() - begin < 20
        # The connection is given up, and another one made, which is as silent.
        while server.clients < 2:
            lost(camera)
            assert time.monotonic() - begin < 40
        server.silent.clear()
        first(camera)


def test_a_stream_that_nobody_asks_is_let_go_and_taken_up_again(server: NetworkCamera) -> None:
    timing = Timing(patience_s=20, rest_s=0.5)
    with Latest(lambda: StreamCamera(settings(server.url())), name="x", timing=timing) as camera:
        camera.read()
        sent = -1
        end = time.monotonic() + 20
        while sent != server.sent:
            assert time.monotonic() < end, "the server still sends"
            sent = server.sent
            time.sleep(0.5)
        begun = server.sent
        assert (number_of(camera.read().image) - begun) % LEVELS <= server.sent - begun
        assert server.clients == 2


SCRIPT = """
import os, sys, time
from edge_agent.camera.open import open_camera
from edge_agent.contracts import config
from edge_agent.contracts.errors import DeviceError

with open_camera(config.Camera(source=sys.stdin.readline().strip(), fps=10), live=True) as camera:
    for line in sys.stdin:
        end = time.monotonic() + 40
        said = "nothing"
        while said != line.strip() and time.monotonic() < end:
            try:
                camera.read()
                said = "frame"
            except DeviceError as exc:
                said = "lost"
                print(exc, repr(exc), exc.hint, exc.__cause__, file=sys.stderr)
        # Not where FFmpeg and OpenCV write to, who may be in the middle of a line.
        os.write(int(sys.argv[1]), said.encode() + b"\\n")
"""
LOUD = {
    "OPENCV_LOG_LEVEL": "VERBOSE",
    "OPENCV_VIDEOIO_DEBUG": "1",
    "OPENCV_FFMPEG_DEBUG": "1",
    "OPENCV_FFMPEG_LOGLEVEL": "56",
}


@pytest.mark.parametrize("http", [False, True], ids=["rtsp", "http"])
@pytest.mark.parametrize("loud", [{}, LOUD], ids=["as it is", "debugging"])
def test_no_password_is_ever_said(http: bool, loud: dict[str, str]) -> None:
    told, tell = os.pipe()
    with (
        NetworkCamera(http=http, user=TOKEN) as server,
        tempfile.TemporaryFile() as noise,
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tell)],
            stdin=subprocess.PIPE,
            stdout=noise,
            stderr=noise,
            pass_fds=(tell,),
            text=True,
            env=os.environ | loud,
        ) as process,
        os.fdopen(told) as words,
    ):
        os.close(tell)
        assert process.stdin is not None
        heard: list[str] = []
        process.stdin.write(server.url(USER) + "?password=s3cr3t%21\n")
        for word, change in (("frame", server.die_in_a_frame), ("lost", server.start), ("frame", None)):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            heard.append(words.readline().strip())
            if change is not None:
                change()
        process.stdin.close()
        assert process.wait(60) == 0
        assert heard == ["frame", "lost", "frame"]
        noise.seek(0)
        said = noise.read().decode(errors="replace")
    assert "127.0.0.1" in said
    for secret in ("s3cr3t", "mara", base64.b64encode(TOKEN.encode()).decode()[:-2]):
        assert secret not in said


def test_a_wrong_password_is_a_camera_that_is_lost_and_says_so() -> None:
    with (
        NetworkCamera(user=TOKEN) as server,
        open_camera(settings(server.url("mara:no")), live=True) as camera,
    ):
        error = lost(camera)
    assert "mara" not in str(error)
    assert "password" in error.hint


@pytest.mark.parametrize("fps", [0.003, 30])
def test_every_rate_gets_its_picture_at_once(server: NetworkCamera, fps: float) -> None:
    with open_camera(settings(server.url(), fps), live=True) as camera:
        assert first(camera).image.shape == (48, 64, 3)
