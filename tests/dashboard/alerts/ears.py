"""Who is told: a real HTTP server that does as it is bid, and a real SMTP server."""

import importlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from edge_agent.contracts.config import Tls
from tests.brokers import free_port
from tests.conftest import missing

Answer = int | Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Loopback:
    """An HTTP server of this machine alone, in threads of its own.

    Args:
        handler: Of each request.
        context: With TLS, as localhost; None is without.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme, host = ("http", "127.0.0.1") if context is None else ("https", "localhost")
        self.origin = f"{scheme}://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Hook(Loopback):
    """A receiver of webhooks on a free port.

    Args:
        context: For TLS.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.answers: list[Answer] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                hook.asked.append(Asked(self.path, headers, body))
                answer = hook.answers.pop(0) if hook.answers else 204
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        super().__init__(Handler, context)
        self.url = f"{self.origin}/hook?shop=1"

    def wait(self, count: int, patience_s: float = 30) -> list[Asked]:
        """Return what was asked, once it is so much."""
        until(lambda: len(self.asked) >= count, patience_s)
        return self.asked


def until(true: Callable[[], bool], patience_s: float = 30) -> None:
    """Wait until something is so."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "it does not become so"
        time.sleep(0.02)


@dataclass
class Letterbox:
    """What an SMTP server took.

    Args:
        port: Where it listens.
        letters: With whom they are for.
        says: What it answers to a letter.
        nobody: Addresses that it does not know.
        names: Who logged in, and how.
    """

    port: int = 0
    letters: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    nobody: set[str] = field(default_factory=set)
    names: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def handle_RCPT(self, *told: Any) -> str:  # noqa: ANN401, N802 - aiosmtpd's
        """Know somebody, or not."""
        _server, _session, envelope, address, _options = told
        if address in self.nobody:
            return "550 5.1.1 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, *told: Any) -> str:  # noqa: ANN401, N802 - aiosmtpd's
        """Take a letter, or say what was to be said."""
        _server, _session, envelope = told
        answer = self.says.pop(0) if self.says else "250 OK"
        if answer.startswith("250"):
            letter = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(letter, EmailMessage)
            self.letters.append((envelope.rcpt_tos, letter))
        return answer


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return what a server shows."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.certificate, tls.key)
    return context


@contextmanager
def letterbox(
    context: ssl.SSLContext | None = None, *, implicit: bool = False, user: str = ""
) -> Iterator[Letterbox]:
    """Give a real SMTP server: in plain, with STARTTLS demanded, or with TLS from the beginning."""
    try:
        controller = importlib.import_module("aiosmtpd.controller")
        smtp = importlib.import_module("aiosmtpd.smtp")
    except ModuleNotFoundError:
        missing("aiosmtpd", "install it, for example: pip install aiosmtpd")
    box = Letterbox()

    def known(_server: object, _session: object, _envelope: object, _mechanism: str, data: Any) -> Any:  # noqa: ANN401 - aiosmtpd's
        box.names.append((data.login, data.password))
        return smtp.AuthResult(success=data.password == user.encode(), handled=False)

    options: dict[str, Any] = {"authenticator": known, "auth_required": True} if user else {}
    if context is not None and not implicit:
        options |= {"tls_context": context, "require_starttls": True}
    if implicit:
        options |= {"ssl_context": context, "auth_require_tls": False}
    box.port = free_port()
    running = controller.Controller(box, hostname="127.0.0.1", port=box.port, **options)
    running.start()
    try:
        yield box
    finally:
        running.stop()
