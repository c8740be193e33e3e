"""How bytes of a repository reach the device: HTTPS, HTTP on this machine, or a folder (a USB stick)."""

import ipaddress
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError
from tuf.ngclient.fetcher import FetcherInterface

from edge_agent.contracts.errors import ConfigError, ServiceError

_CHUNK = 64 * 1024
_TIMEOUT_S = 30.0
_METADATA_S = 120.0
"""For one file of metadata, which is small: a server that drips is no server."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom the device trusts, and how it shows itself; nothing: the system's authorities, no certificate."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return what a connection is made with.

        Raises:
            ConfigError: A file cannot be read.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"Expected: certificates for updates. Received: {self.ca}: {exc}.") from exc
        return context


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A repository is where it is said to be: following a redirect could lead to any other scheme."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Refuse."""


def base_url(url: str) -> str:
    """Return a repository's address without a slash at its end; of a folder, as `file:`.

    Raises:
        ConfigError: It is none of those that a device may fetch from.
    """
    parts = urlsplit(url)
    if not parts.scheme:
        return Path(url).absolute().as_uri()
    if parts.scheme in {"https", "file"} or (parts.scheme == "http" and _is_here(parts.hostname)):
        return url.rstrip("/")
    raise ConfigError(
        f"Expected: `updates.url` as https://HOST/..., file:///FOLDER or a folder. Received: {url!r:.200}.",
        hint="plain http is for this machine alone",
    )


def _is_here(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class Wire(FetcherInterface):
    """Fetches files, and counts what came.

    Args:
        tls: For HTTPS.
        clock: Seconds.
        encrypted: Whether it is fetched over HTTPS.

    Attributes:
        moved: Bytes that have come so far.
        last: Name and content of the file of metadata that came last.
    """

    def __init__(
        self, tls: Tls, clock: Callable[[], float] = time.monotonic, *, encrypted: bool = True
    ) -> None:
        self.moved = 0
        self.last: tuple[str, bytes] = ("", b"")
        self._clock = clock
        # The system's authorities take a while to read, and a stick has none.
        https = [urllib.request.HTTPSHandler(context=tls.context())] if encrypted else []
        self._opener = urllib.request.build_opener(*https, _NoRedirect())

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a file of metadata; remembered, to tell why it was refused."""
        data = bytearray()
        with closing(self._fetch(url)) as chunks:
            for chunk in chunks:
                data += chunk
                if len(data) > max_length:
                    raise DownloadLengthMismatchError(f"{url} is longer than {max_length} bytes")
        self.last = (url.rpartition("/")[2], bytes(data))
        return bytes(data)

    def _fetch(self, url: str) -> Generator[bytes, None, None]:
        source, _ = self._opened(url, 0)
        return self._metadata(source, url)

    def _metadata(self, source: AbstractContextManager[IO[bytes]], url: str) -> Generator[bytes, None, None]:
        end = self._clock() + _METADATA_S
        for chunk in self._chunks(source):
            yield chunk
            if self._clock() > end:
                raise SlowRetrievalError(f"{url} took more than {_METADATA_S:.0f} s")

    def _chunks(self, source: AbstractContextManager[IO[bytes]]) -> Generator[bytes, None, None]:
        with source as file:
            # read1 gives what is there: a slow link must not wait for a whole chunk.
            read = getattr(file, "read1", file.read)
            while chunk := read(_CHUNK):
                self.moved += len(chunk)
                yield chunk
            if missing := getattr(file, "length", 0):
                raise ConnectionError(f"it hung up {missing} bytes before the end")

    def resumed(self, url: str, offset: int) -> tuple[Generator[bytes, None, None], bool]:
        """Return a file's bytes from an offset on, and whether the source could begin there.

        Raises:
            DownloadHTTPError: The server says no.
            OSError: It cannot be reached.
        """
        source, partial = self._opened(url, offset)
        return self._chunks(source), partial

    def _opened(self, url: str, offset: int) -> tuple[AbstractContextManager[IO[bytes]], bool]:
        if url.startswith("file:"):
            try:
                file = Path(unquote(urlsplit(url).path)).open("rb")  # noqa: SIM115 - `_chunks` closes it
            except FileNotFoundError as exc:
                raise DownloadHTTPError(f"{url}: no such file", HTTPStatus.NOT_FOUND) from exc
            file.seek(offset)
            return closing(file), True
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - `base_url` has looked at it
        try:
            answer = self._opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as exc:
            exc.close()
            raise DownloadHTTPError(f"{url}: {exc.code} {exc.reason}", exc.code) from exc
        return closing(answer), answer.status == HTTPStatus.PARTIAL_CONTENT


def unreachable(url: str, error: BaseException) -> ServiceError:
    """Return what to say of a server that cannot be reached; a clock that is wrong looks like this too."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, BaseException) else cause.__cause__
    if cause is not None:
        return ServiceError(
            f"Expected: a repository with a valid certificate. Received: {url}: {cause.verify_message}.",
            hint="check the device's clock, then the server's certificate",
        )
    why = error.__cause__ or error
    return ServiceError(
        f"Expected: a repository that answers. Received: {url}: {why!s:.200}.",
        hint="the device tries again by itself",
    )
