"""One HTTP answer within one span of time, however slowly it drips in.

The time-out of `urllib` is for each piece; a server that sends a byte now and then would hold the
agent for ever. Here every wait gets what is left of the whole.
"""

import http.client
import io
import socket
import time
import urllib.request
from typing import TYPE_CHECKING, ClassVar, cast
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Fetcher:
    """Fetches one address again and again.

    Name and password go to the host that the address names, and to no other that it redirects to.

    Args:
        url: http or https; may carry user and password.
        span_s: For the whole answer, redirects and all; looking up the host's name is not in it.
    """

    def __init__(self, url: str, *, span_s: float) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._url = parts._replace(netloc=host).geturl()
        self._span = _Span(span_s)
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if parts.username is not None:
            name, password = unquote(parts.username), unquote(parts.password or "")
            passwords.add_password(None, f"{parts.scheme}://{host}/", name, password)
        self._opener = urllib.request.OpenerDirector()
        # Not `build_opener`: it would follow a redirect to ftp, where nothing bounds the time.
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
            _Handler(self._span),
        ):
            self._opener.add_handler(handler)

    def fetch(self, most: int) -> bytes:
        """Return the body of the answer, at most so many bytes of it.

        Raises:
            OSError: No answer, not in time, or one with an error.
            http.client.HTTPException: What came is not HTTP.
        """
        self._span.begin()
        try:
            with self._opener.open(self._url, timeout=self._span.left_s()) as answer:
                return cast("bytes", answer.read(most))
        finally:
            self._span.end()


class _Span:
    """A span of time that all waits share, and the answers that came in it."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._end = 0.0
        self.answers: list[http.client.HTTPResponse] = []

    def begin(self) -> None:
        self._end = time.monotonic() + self._span_s

    def end(self) -> None:
        # `urllib` leaves open what it was refused with, until the garbage is collected.
        for answer in self.answers:
            answer.close()
        self.answers.clear()

    def left_s(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole answer in {self._span_s:g} s")
        return left


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections that keep to a span."""

    def __init__(self, span: _Span) -> None:
        super().__init__()

        class Answer(_Answer):
            of = span

        class Plain(http.client.HTTPConnection):
            response_class = Answer

            def connect(self) -> None:
                self.timeout = span.left_s()
                super().connect()

        class Tls(http.client.HTTPSConnection):
            response_class = Answer

            def connect(self) -> None:
                self.timeout = span.left_s()
                super().connect()

        self._plain, self._tls = Plain, Tls

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._plain, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._tls, req)


class _Answer(http.client.HTTPResponse):
    """An answer, head and body, that keeps to a span.

    `http.client` makes it; the span comes with the class.
    """

    of: ClassVar[_Span]

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp.close()
        self.fp = io.BufferedReader(_Pieces(sock, self.of))
        self.of.answers.append(self)


class _Pieces(io.RawIOBase):
    """The bytes of a connection; each wait is for what is left of the span."""

    def __init__(self, connection: socket.socket, span: _Span) -> None:
        self._connection, self._span = connection, span
        # Made by the socket itself, which stays open until its last file is closed.
        self._file = cast("io.RawIOBase", connection.makefile("rb", buffering=0))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        self._connection.settimeout(self._span.left_s())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
