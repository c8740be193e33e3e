"""The preview's web server: a handful of fixed addresses, over the standard library alone."""

import ipaddress
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edge_agent.contracts.errors import UsageError
from edge_agent.preview.door import Answer, Door
from edge_agent.preview.watch import Watch

log = logging.getLogger(__name__)

_COOKIE = "shelfkit-preview"
_CONNECTIONS = 24
_IDLE_S = 15.0
_WAIT_S = 2.0
_MAX_FORM = 256
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with none at all, browsers hide the origin of a form
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_FOR_ALL = {"/style.css", "/icon.svg"}
_SAID = {
    Answer.WRONG: (HTTPStatus.FORBIDDEN, "That is not the code. Look at the terminal again."),
    Answer.USED: (HTTPStatus.FORBIDDEN, "This code was used already. Start the preview again for a new one."),
    Answer.OVER: (HTTPStatus.GONE, "The preview has ended. Start it again for a new code."),
}


@dataclass(frozen=True, slots=True)
class House:
    """What the server shows, and to whom.

    Attributes:
        watch: Gives pictures.
        door: Who may look; None: everybody on this machine.
        names: Under which this machine may be asked for, besides its addresses.
        steady: The clock of the door.
    """

    watch: Watch
    door: Door | None = None
    names: frozenset[str] = frozenset({"localhost"})
    steady: Callable[[], float] = time.monotonic


def asked_rightly(host: str | None, names: frozenset[str], *, loopback: bool) -> bool:
    """Return whether a Host header names this machine: other names are a page's trick (DNS rebinding).

    Args:
        host: The header. Its port does not matter: a tunnel changes it.
        names: Of this machine.
        loopback: Whether nothing but loopback addresses may be named.
    """
    try:
        name = urlsplit(f"//{host}").hostname if host else None
    except ValueError:
        return False
    if name is None:
        return False
    if name.lower() in names:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not loopback


class Server(ThreadingHTTPServer):
    """Serves one house; no more than a few connections at a time."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], house: House) -> None:
        super().__init__(address, Handler)
        self.house = house
        self._free = threading.BoundedSemaphore(_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the library's types
        """Take a connection, or hang up where there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the library's types
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the library's types
        """Say nothing on the terminal: browsers hang up when they like."""
        log.debug("%s hung up", client_address, exc_info=True)  # noqa: LOG014 - called while it is handled


class Handler(BaseHTTPRequestHandler):
    """Answers one browser."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    server: Server
    server_version, sys_version = "shelfkit", ""

    def do_GET(self) -> None:
        """Show the page and what belongs to it."""
        if not self._welcome():
            return
        path, _, query = self.path.partition("?")
        number = _number(query)
        house = self.server.house
        if path in _FILES and (path in _FOR_ALL or self._inside()):
            name, kind = _FILES[path]
            self._send(HTTPStatus.OK, _read(name), kind)
        elif path == "/" and house.door is not None:
            over = house.door.over(house.steady())
            self._ask(*_SAID[Answer.OVER]) if over else self._ask(HTTPStatus.OK, "")
        elif not self._inside():
            self._send(HTTPStatus.UNAUTHORIZED, b"enter the code first")
        elif path == "/status.json":
            told = json.dumps(house.watch.status(number, _WAIT_S) | {"left_s": self._left_s()})
            self._send(HTTPStatus.OK, told.encode(), "application/json")
        elif path in {"/frame.jpg", "/reference.jpg"}:
            self._picture(path, number)
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is nothing here")

    def _picture(self, path: str, number: int) -> None:
        shot = self.server.house.watch.shot(number)
        if shot is None:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"no picture yet")
        elif path == "/frame.jpg":
            self._send(HTTPStatus.OK, shot.jpeg, "image/jpeg")
        else:
            saved = {"Content-Disposition": 'attachment; filename="reference.jpg"'}
            self._send(HTTPStatus.OK, shot.best_jpeg, "image/jpeg", saved)

    def do_POST(self) -> None:
        """Take a code."""
        if not self._welcome():
            return
        house, door = self.server.house, self.server.house.door
        length = self.headers.get("Content-Length", "")
        if self.path != "/code" or door is None or not length.isdecimal() or int(length) > _MAX_FORM:
            self.close_connection = True
            self._send(HTTPStatus.BAD_REQUEST, b"expected a code")
            return
        form = parse_qs(self.rfile.read(int(length)).decode("latin-1"))
        answer, token = door.enter(form.get("code", [""])[0], house.steady())
        if answer is not Answer.IN:
            self._ask(*_SAID[answer])
            return
        left = max(round(door.ends - house.steady()), 1)
        cookie = f"{_COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={left}"
        self._send(HTTPStatus.SEE_OTHER, b"", extra={"Set-Cookie": cookie, "Location": "/"})

    def _welcome(self) -> bool:
        """Refuse requests under a foreign name, and those that another site's page has made."""
        house, host = self.server.house, self.headers.get("Host")
        if not asked_rightly(host, house.names, loopback=house.door is None):
            self.close_connection = True
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"this machine is not called that")
            return False
        if self._foreign(host):
            self.close_connection = True
            self._send(HTTPStatus.FORBIDDEN, b"not from a page of another site")
            return False
        return True

    def _foreign(self, host: str | None) -> bool:
        """Return whether another site's page asks; a link to the page itself is none of its business."""
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return True
        linked = self.command == "GET" and self.headers.get("Sec-Fetch-Dest") == "document"
        return self.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"} and not linked

    def _inside(self) -> bool:
        house = self.server.house
        if house.door is None:
            return True
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        except CookieError:
            return False
        return cookie is not None and house.door.knows(cookie.value, house.steady())

    def _left_s(self) -> int | None:
        house = self.server.house
        return None if house.door is None else max(round(house.door.ends - house.steady()), 0)

    def _ask(self, status: HTTPStatus, said: str) -> None:
        page = Template(_read("code.html").decode()).substitute(said=escape(said))
        self._send(status, page.encode(), "text/html; charset=utf-8")

    def _send(
        self,
        status: HTTPStatus,
        body: bytes,
        kind: str = "text/plain; charset=utf-8",
        extra: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, **(extra or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
        """Keep the terminal for what people need."""
        log.debug(format, *arguments)


def _read(name: str) -> bytes:
    return (files("edge_agent.preview") / name).read_bytes()


def _number(query: str) -> int:
    """Return the number of a shot that a query names, 0 for none."""
    text = parse_qs(query).get("number", [""])[0]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < len(str(2**63)) else 0


@contextmanager
def served(house: House, host: str, port: int) -> Iterator[int]:
    """Serve in threads of their own; give the port.

    Args:
        house: What, and to whom.
        host: Address to listen on.
        port: 0: any that is free.

    Raises:
        UsageError: The port is taken.
    """
    try:
        server = Server((host, port), house)
    except OSError as exc:
        raise UsageError(
            f"Expected: a free --port. Received: {port}: {exc.strerror}.",
            hint="--port 0 takes any port that is free",
        ) from exc
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="preview-web", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
