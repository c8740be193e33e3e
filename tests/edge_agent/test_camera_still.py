"""Pictures over HTTP from servers that mean harm, or are merely broken: bytes that drip, and redirects."""

import base64
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import cv2
import numpy as np
import pytest

from edge_agent.camera.open import open_camera
from edge_agent.camera.still import StillCamera
from edge_agent.contracts import config
from edge_agent.contracts.errors import ConfigError, DeviceError
from edge_agent.contracts.sources import shown

PICTURE = cv2.imencode(".jpg", np.full((20, 30, 3), 200, np.uint8))[1].tobytes()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 1000000\r\n"


@contextmanager
def dripping(at_once: bytes, drop: bytes) -> Iterator[str]:
    """Serve something at once, and then a few bytes again and again for as long as anybody listens."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(at_once)
                while not ended.wait(0.05):
                    client.sendall(drop)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/still.jpg"
    ended.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize(
    ("at_once", "drop"),
    [
        (HEAD + b"\r\n" + PICTURE, b"\0"),
        (HEAD, b"X-Padding: 1\r\n"),
        (HEAD + b"X-Padding: ", b"1"),
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["body", "headers", "one header", "status", "chunks"],
)
def test_an_answer_that_drips_for_ever_is_given_up_as_a_whole(at_once: bytes, drop: bytes) -> None:
    with dripping(at_once, drop) as url, StillCamera(url, whole_s=1.0) as camera:
        begin = time.monotonic()
        with pytest.raises(DeviceError, match="picture"):
            camera.read()
        assert time.monotonic() - begin < 15


class Host(http.server.ThreadingHTTPServer):
    """Answers each path in its own way, and remembers who gave a password."""

    def __init__(self, answer: Callable[[str, str], tuple[int, dict[str, str]]]) -> None:
        self.heard: list[tuple[str, str]] = []
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization", "")
                host.heard.append((self.path, given))
                status, headers = answer(self.path, given)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(PICTURE if status == 200 else b"")

            def log_message(self, *_arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve, and give the address."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{self.server_port}"
        self.shutdown()
        self.server_close()
        thread.join()


ASK = {"WWW-Authenticate": 'Basic realm="shelf"'}
BASIC = f"Basic {base64.b64encode(b'mara:s3cr3t').decode()}"


def test_a_password_goes_to_the_camera_and_to_nobody_it_points_to() -> None:
    thief = Host(lambda _path, _given: (401, ASK))
    with ExitStack() as stack:
        elsewhere = stack.enter_context(thief.serving())

        def answer(path: str, given: str) -> tuple[int, dict[str, str]]:
            if not given:
                return 401, ASK
            if path == "/moved.jpg":
                return 302, {"Location": "/other/good.jpg"}
            if path == "/away.jpg":
                return 302, {"Location": f"http://{elsewhere}/away.jpg"}
            return 200, {}

        host = Host(answer)
        place = stack.enter_context(host.serving())
        assert StillCamera(f"http://mara:s3cr3t@{place}/good.jpg").read().image.shape == (20, 30, 3)
        assert StillCamera(f"http://mara:s3cr3t@{place}/moved.jpg").read().image.shape == (20, 30, 3)
        assert ("/other/good.jpg", BASIC) in host.heard
        with pytest.raises(DeviceError, match="401") as caught:
            StillCamera(f"http://mara:s3cr3t@{place}/away.jpg").read()
        assert "s3cr3t" not in str(caught.value)
    assert [given for _, given in thief.heard] == [""]


def test_a_redirect_leads_to_http_and_nowhere_else() -> None:
    host = Host(lambda path, _given: (302, {"Location": path[1:]}))
    with host.serving() as place:
        for target in ("ftp://127.0.0.1:1/x.jpg", "file:///etc/hostname"):
            with pytest.raises(DeviceError, match="picture"):
                StillCamera(f"http://{place}/{target}").read()


def test_what_is_wrong_with_an_address_is_said_without_its_password() -> None:
    for url in ("http://127.0.0.1:1/x.jpg?pwd=s3 cr3t", "http://mara:s3%20cr3t@127.0.0.1:1/x y.jpg"):
        with pytest.raises(DeviceError, match=r"127\.0\.0\.1:1") as caught:
            StillCamera(url).read()
        assert "cr3t" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rtsp://cam/1", "rtsp://cam/1"),
        ("rtsp://cam:554/live@main", "rtsp://cam:554/live@main"),
        ("rtsp://[fe80::1]:554/1", "rtsp://[fe80::1]:554/1"),
        ("rtsp://mara:s3cr3t@cam:554/1", "rtsp://cam:554/1"),
        ("rtsp://mara:s3@cr3t@cam/1", "rtsp://cam/1"),
        ("rtsp://mara:s3/cr3t@cam/1", "rtsp://cam/1"),
        ("rtsp://mara:s3?cr3t@cam/1", "rtsp://cam/1"),
        ("http://cam/video.cgi?usr=mara&pwd=s3cr3t#x", "http://cam/video.cgi"),
        (
            "rtsp://cam:554/user=mara&password=s3cr3t&channel=1",
            "rtsp://cam:554/user=...&password=...&channel=1",
        ),
        ("v4l2:/dev/video0", "v4l2:/dev/video0"),
        ("file:/clips/a@b?.mp4", "file:/clips/a@b?.mp4"),
    ],
)
def test_what_may_be_shown_of_an_address(source: str, expected: str) -> None:
    assert shown(source) == expected


def test_a_source_that_is_refused_is_named_without_its_password() -> None:
    settings = config.Camera(source="rtsp://mara:s3cr3t@cam/1")
    with pytest.raises(ConfigError, match="rtsp://cam/1") as caught:
        open_camera(settings, live=False)
    assert "s3cr3t" not in str(caught.value)
