"""A small server of static files, with ranges: enough for a fleet to fetch from, and easy to replace."""

import re
import ssl
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, cast

from edge_agent.contracts.errors import ConfigError, ServiceError

_RANGE = re.compile(r"bytes=(\d{1,15})-")
_CHUNK = 256 * 1024


class _Files(SimpleHTTPRequestHandler):
    """GET and HEAD of files; a range that begins somewhere and goes to the end; no listings."""

    server_version = "shelfkit"
    sys_version = ""
    timeout = 60

    def send_head(self) -> BinaryIO | None:
        """Answer with a file from where the client wants it."""
        path = Path(self.translate_path(self.path))
        inside = path.resolve().is_relative_to(Path(self.directory).resolve())
        if not inside or not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        size = path.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        begin = int(asked[1]) if asked else 0
        if asked and begin >= size:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return None
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size - begin))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.end_headers()
        file = path.open("rb")
        file.seek(begin)
        return cast("BinaryIO", file)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        """Say nothing: a fleet asks every few minutes."""


class _Server(ThreadingHTTPServer):
    """Greets in the thread of a connection: one that never speaks keeps nobody else waiting."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave a client that hung up alone."""


def server(
    folder: Path, host: str, port: int, *, certificate: Path | None = None, key: Path | None = None
) -> ThreadingHTTPServer:
    """Return a server of a folder; HTTPS if there is a certificate.

    Raises:
        ConfigError: The certificate cannot be used.
        ServiceError: The port is taken.
    """
    try:
        made = _Server((host, port), partial(_Files, directory=str(folder)))
    except OSError as exc:
        raise ServiceError(f"Expected: a free port. Received: {host}:{port}: {exc.strerror}.") from exc
    if certificate is not None:
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as exc:
            made.server_close()
            raise ConfigError(f"Expected: a certificate. Received: {certificate}: {exc}.") from exc
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    return made
