"""A network camera under test: RTSP 1.0 with MJPEG (RFC 2435) or H.264 (RFC 6184), and HTTP MJPEG.

Plain sockets on 127.0.0.1. It can die in the middle of a frame and come back on the same port, ask for
a password, or fall silent. Each picture is as bright as its number, so that a test can tell its age,
and as dark at its lower end, so that one can tell whether it is whole.
"""

import base64
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from edge_agent.contracts.preprocess import Image

LEVELS = 60
_STEP = 4
_WHITE = 252
_CLOCK_HZ = 90_000
_PACKET_BYTES = 1_000
_SDP = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=shelf", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*")
_JPEG = ("m=video 0 RTP/AVP 26", "a=control:track0")
_H264 = (
    "m=video 0 RTP/AVP 96",
    "a=rtpmap:96 H264/90000",
    "a=fmtp:96 packetization-mode=1",
    "a=control:track0",
)


def number_of(image: Image) -> int:
    """Return the number of a picture, modulo LEVELS."""
    return round(float(image[:16].mean()) / _STEP) % LEVELS


def is_whole(image: Image) -> bool:
    """Return whether a picture has come to its end."""
    return abs(_WHITE - float(image[-16:].mean()) - float(image[:16].mean())) < _STEP


class NetworkCamera:
    """One camera; every client gets frames from the moment that it asks, inside its connection.

    Args:
        fps: Frames in a second.
        user: "name:password" that a client must give (Basic), or nothing.
        http: Speak HTTP multipart instead of RTSP.
        size: Width and height, px.
    """

    medium: tuple[str, ...] = _JPEG

    def __init__(
        self, *, fps: float = 25, user: str = "", http: bool = False, size: tuple[int, int] = (64, 48)
    ) -> None:
        self.silent = threading.Event()
        self.clients = 0
        self.sent = 0
        self._fps, self._http, self._size = fps, http, size
        self._token = base64.b64encode(user.encode()).decode() if user else ""
        self._dying = threading.Event()
        self._ended = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port = 0

    def start(self) -> None:
        """Listen; on the same port as before."""
        self._dying.clear()
        self._ended.clear()
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = int(listener.getsockname()[1])
        self._open.append(listener)
        self._spawn(self._accept, listener)

    def stop(self) -> None:
        """Be gone at once."""
        self._ended.set()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(timeout=10)
        self._open, self._threads = [], []

    def die_in_a_frame(self) -> None:
        """Be gone when half of the next frame has been sent."""
        self._dying.set()
        assert self._ended.wait(timeout=10), "no client to whom half a frame could be sent"
        self.stop()

    def url(self, user: str = "") -> str:
        """Return where it is, with a name and password if given."""
        scheme = "http" if self._http else "rtsp"
        return f"{scheme}://{user + '@' if user else ''}127.0.0.1:{self.port}/shelf"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while not self._ended.is_set():
                client, _ = listener.accept()
                self._open.append(client)
                self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        # A client that goes in the middle of anything is no failure of the test.
        with suppress(OSError), client:
            if self._http:
                self._answer_http(client)
            else:
                self._answer_rtsp(client)

    def _answer_http(self, client: socket.socket) -> None:
        asked = _request(client)
        if not self._allowed(asked):
            client.sendall(
                b'HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="shelf"\r\n'
                b"Content-Length: 0\r\n\r\n"
            )
            return
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        for _, data in self._pictures():
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            self._send(client, head + data + b"\r\n")

    def _answer_rtsp(self, client: socket.socket) -> None:
        while asked := _request(client):
            method = asked.split(" ", 1)[0]
            lines = [f"CSeq: {_header(asked, 'CSeq')}"]
            body = ""
            status = "200 OK"
            if method != "OPTIONS" and not self._allowed(asked):
                status = "401 Unauthorized"
                lines.append('WWW-Authenticate: Basic realm="shelf"')
            elif method == "DESCRIBE":
                body = "\r\n".join([*_SDP, *self.medium, ""])
                lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            elif method == "SETUP":
                if "TCP" not in _header(asked, "Transport"):
                    status = "461 Unsupported Transport"
                lines += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
            elif method == "OPTIONS":
                lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            client.sendall("\r\n".join([f"RTSP/1.0 {status}", *lines, "", body]).encode())
            if method == "PLAY" and status == "200 OK":
                self._play(client)
                return

    def _allowed(self, asked: str) -> bool:
        return not self._token or _header(asked, "Authorization") == f"Basic {self._token}"

    def _play(self, client: socket.socket) -> None:
        sequence = 0
        for at, data in self._pictures():
            packets = self._packets(data, sequence, round(at * _CLOCK_HZ))
            sequence += len(packets)
            self._send(client, b"".join(struct.pack(">cBH", b"$", 0, len(one)) + one for one in packets))

    def _packets(self, data: bytes, sequence: int, stamp: int) -> list[bytes]:
        return jpeg_packets(data, sequence, stamp)

    def _pictures(self) -> Iterator[tuple[float, bytes]]:
        """Yield the moment, seconds, and the JPEG of each frame in step with the clock."""
        self.clients += 1
        begin = time.monotonic()
        for turn in count():
            if self._ended.wait(max(begin + turn / self._fps - time.monotonic(), 0)):
                return
            if self.silent.is_set():
                continue
            self.sent += 1
            yield turn / self._fps, self._picture(self.sent)

    def _picture(self, number: int) -> bytes:
        wide, tall = self._size
        image = np.full((tall, wide, 3), number % LEVELS * _STEP, np.uint8)
        image[-16:] = _WHITE - image[-16:]
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

    def _send(self, client: socket.socket, data: bytes) -> None:
        if self._dying.is_set():
            client.sendall(data[: len(data) // 2])
            self._ended.set()
        else:
            client.sendall(data)


class H264Camera(NetworkCamera):
    """A camera that shows a clip again and again.

    Args:
        clip: H.264.
        fps: Frames in a second of it.
    """

    medium = _H264

    def __init__(self, clip: Path, *, fps: float) -> None:
        super().__init__(fps=fps)
        self.clip: list[tuple[float, bytes]] = []
        capture = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG)
        capture.set(cv2.CAP_PROP_FORMAT, -1)
        while capture.grab():
            data = np.asarray(capture.retrieve()[1], np.uint8).tobytes()
            self.clip.append((capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, data))
        capture.release()

    def _pictures(self) -> Iterator[tuple[float, bytes]]:
        for _ in super()._pictures():
            # When a frame is shown is not when it is sent: some are made of later ones.
            turn, place = divmod(self.sent - 1, len(self.clip))
            at, data = self.clip[place]
            yield 1 + turn * len(self.clip) / self._fps + at, data

    def _packets(self, data: bytes, sequence: int, stamp: int) -> list[bytes]:
        units = [unit for unit in re.split(rb"\x00\x00\x00?\x01", data) if unit]
        pieces = [piece for unit in units for piece in _h264_pieces(unit)]
        return [
            _rtp_head(96, sequence + number, stamp, last=number == len(pieces) - 1) + piece
            for number, piece in enumerate(pieces)
        ]


def _h264_pieces(unit: bytes) -> list[bytes]:
    """Return a unit as it is, or cut into fragments (FU-A)."""
    if len(unit) <= _PACKET_BYTES:
        return [unit]
    pieces = [unit[begin : begin + _PACKET_BYTES] for begin in range(1, len(unit), _PACKET_BYTES)]
    marks = [0x80, *[0] * (len(pieces) - 2), 0x40]
    return [
        bytes([unit[0] & 0xE0 | 28, unit[0] & 0x1F | mark]) + piece
        for mark, piece in zip(marks, pieces, strict=True)
    ]


def _rtp_head(kind: int, sequence: int, stamp: int, *, last: bool) -> bytes:
    marked = kind | (0x80 if last else 0)
    return struct.pack(">BBHII", 0x80, marked, sequence & 0xFFFF, stamp & 0xFFFFFFFF, 7)


def jpeg_packets(jpeg: bytes, sequence: int, stamp: int) -> list[bytes]:
    """Cut a baseline JPEG with OpenCV's default tables into RTP packets (RFC 2435).

    Args:
        jpeg: Whole file, 4:2:0, both sides a multiple of 8 px and at most 2040.
        sequence: Of the first packet.
        stamp: RTP time, 1/90000 s.
    """
    tables, size, at = b"", (0, 0), 2
    while (marker := jpeg[at + 1]) != 0xDA:
        (length,) = struct.unpack(">H", jpeg[at + 2 : at + 4])
        part = jpeg[at + 4 : at + 2 + length]
        if marker == 0xDB:
            tables += b"".join(part[begin + 1 : begin + 65] for begin in range(0, len(part), 65))
        if marker == 0xC0:
            tall, wide = struct.unpack(">HH", part[1:5])
            size = (wide // 8, tall // 8)
        at += 2 + length
    scan = jpeg[at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0] : -2]
    packets: list[bytes] = []
    for begin in range(0, len(scan), _PACKET_BYTES):
        piece = scan[begin : begin + _PACKET_BYTES]
        last = begin + len(piece) == len(scan)
        head = _rtp_head(26, sequence + len(packets), stamp, last=last)
        # Type 1 is 4:2:0; Q 255 says that the tables come with the first packet.
        head += struct.pack(">I", begin) + bytes([1, 255, *size])
        if begin == 0:
            head += struct.pack(">BBH", 0, 0, len(tables)) + tables
        packets.append(head + piece)
    return packets


def _request(client: socket.socket) -> str:
    """Return the head of the next request, or nothing when the client has gone."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        if not piece:
            return ""
        data += piece
    return data.decode()


def _header(asked: str, name: str) -> str:
    for line in asked.split("\r\n"):
        key, _, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()
    return ""
