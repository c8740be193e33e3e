"""The device's side of a repository: what is offered, and its bytes, trusted by The Update Framework alone.

Nothing is believed before it is verified, and what the device trusts changes only when a refresh has
succeeded as a whole: after a refusal everything is as it was.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from tuf.api import exceptions
from tuf.api.metadata import Root, TargetFile  # type: ignore[attr-defined]  # as documented
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.updater import Updater

from edge_agent.contracts import release as releases
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.files import flush
from edge_agent.contracts.release import Component, Place, Release
from edge_agent.update.refusals import (
    DamagedError,
    EndlessError,
    MixedError,
    NotOfferedError,
    UntrustedError,
    refused,
)
from edge_agent.update.wire import Tls, Wire, base_url, unreachable

__all__ = ["Repository", "Tls"]

_ROLES = ("root", "timestamp", "snapshot", "targets")
_LIMITS = UpdaterConfig(
    max_root_rotations=64,
    root_max_length=64 * 1024,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=64 * 1024,
    targets_max_length=4 * 1024 * 1024,
    prefix_targets_with_hash=False,  # a component's name says its hash, and a number is used once
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Repository:
    """What a fleet offers to this device; one object for each attempt.

    Args:
        place: Where the device keeps what it trusts; `root.json` is there from the beginning.
        url: `https://...`, `file:///...` or a folder, which holds `metadata/` and `targets/`.
        tls: For HTTPS.
        now: The device's clock, which says what has expired.

    Raises:
        ConfigError: The address or a certificate cannot be used.
    """

    def __init__(
        self, place: Place, url: str, *, tls: Tls | None = None, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self._place = place
        self._url = base_url(url)
        self._now = now
        self._wire = Wire(tls or Tls(), encrypted=self._url.startswith("https:"))
        self._updater: Updater | None = None

    @property
    def moved(self) -> int:
        """Bytes that have come so far, metadata counted."""
        return self._wire.moved

    def refresh(self) -> None:
        """Learn what is offered now.

        Raises:
            RefusedError: For its own reason; what the device trusts is as it was.
            ServiceError: The repository cannot be reached.
            DeviceError: The device's own files cannot be read or written.
        """
        with self._staged() as folder:
            updater = self._begun(folder)
            with self._explained(updater):
                updater.refresh()
            self._kept(folder)
        self._updater = updater

    def release(self, number: int, arch: str) -> Release:
        """Return what a release is made of.

        Raises:
            RefusedError: It is not offered, or damaged.
            ServiceError: The repository cannot be reached.
        """
        name = releases.target(number, arch)
        info = self._target(name)
        if info.length > releases.MAX_BYTES:
            raise EndlessError(
                f"Expected: at most {releases.MAX_BYTES} bytes of {name}. Received: {info.length}."
            )
        with self._explained(self._ready()):
            data = self._wire.download_bytes(f"{self._url}/targets/{name}", info.length)
        try:
            info.verify_length_and_hashes(data)
        except exceptions.LengthOrHashMismatchError as exc:
            raise DamagedError(f"Expected: {name} as it was signed. Received: {exc}.") from exc
        found = releases.decode(data)
        if (found.number, found.arch) != (number, arch):
            raise MixedError(
                f"Expected: release {number} for {arch}. Received: {found.number} for {found.arch}."
            )
        return found

    def newest(self, arch: str) -> int:
        """Return the number of the newest release for an architecture.

        Raises:
            RefusedError: There is none.
            ServiceError: The repository cannot be reached.
        """
        offered = self._ready()._trusted_set.targets.targets  # noqa: SLF001 - there is no other way in
        found = re.compile(rf"releases/(\d{{1,15}})/{re.escape(arch)}\.json")
        numbers = [int(match[1]) for name in offered if (match := found.fullmatch(name))]
        if not numbers:
            raise NotOfferedError(f"Expected: a release for {arch} in the repository. Received: none.")
        return max(numbers)

    def download(
        self, component: Component, into: Path, progress: Callable[[int], None] | None = None
    ) -> Path:
        """Fetch an archive; what has come before is not fetched again.

        Args:
            component: Of a release.
            into: Folder for it; holds `<sha256>.part` until it is whole.
            progress: Told how many bytes are there.

        Raises:
            RefusedError: It is not what was signed; nothing of it is left.
            ServiceError: The repository cannot be reached; what has come stays.
            DeviceError: It cannot be written.
        """
        info = self._target(component.target)
        if info.length != component.size or info.hashes.get("sha256") != component.sha256:
            raise MixedError(
                f"Expected: {component.target} as its release says. Received: another in the repository."
            )
        whole = into / component.target.rpartition("/")[2]
        part = into / f"{component.sha256}.part"
        try:
            into.mkdir(parents=True, exist_ok=True)
            if not whole.exists():
                self._complete(component, part, progress or (lambda _: None))
                _require(component, part)
                part.replace(whole)
                flush(into)
            else:
                _require(component, whole)
        except OSError as exc:
            raise DeviceError(
                f"Expected: room for a download. Received: {into}: {exc.strerror or exc}."
            ) from exc
        return whole

    def _complete(self, component: Component, part: Path, progress: Callable[[int], None]) -> None:
        there = part.stat().st_size if part.exists() else 0
        if there > component.size:
            part.unlink()
            there = 0
        if there == component.size:
            return
        chunks, resumed = self._source(component, there)
        with closing(chunks), part.open("ab" if resumed else "wb") as file:
            there = there if resumed else 0
            for chunk in chunks:
                there += len(chunk)
                if there > component.size:
                    file.truncate(0)
                    raise EndlessError(
                        f"Expected: {component.size} bytes of {component.target}. Received: more, and no end."
                    )
                file.write(chunk)
                progress(there)
            file.flush()
            os.fsync(file.fileno())
        if there < component.size:
            raise unreachable(self._url, EOFError(f"{there} of {component.size} bytes, then it hung up"))

    def _source(self, component: Component, offset: int) -> tuple[Generator[bytes, None, None], bool]:
        url = f"{self._url}/targets/{component.target}"
        try:
            chunks, partial = self._wire.resumed(url, offset)
        except exceptions.DownloadHTTPError as exc:
            raise _absent(component.target, exc) from exc
        except (OSError, HTTPException) as exc:
            raise unreachable(self._url, exc) from exc
        return self._guarded(chunks), partial

    def _guarded(self, chunks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
        try:
            with closing(chunks):
                yield from chunks
        except (OSError, HTTPException) as exc:
            raise unreachable(self._url, exc) from exc

    def _target(self, name: str) -> TargetFile:
        info = self._ready().get_targetinfo(name)
        if info is None:
            raise NotOfferedError(f"Expected: {name} in the repository. Received: none of that name.")
        return info

    def _ready(self) -> Updater:
        if self._updater is None:
            self.refresh()
        if self._updater is None:
            msg = "a refresh sets it"
            raise RuntimeError(msg)
        return self._updater

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        """Give a copy of what the device trusts, to try a refresh on."""
        try:
            room = Path(tempfile.mkdtemp(prefix=".tmp-", dir=self._place.root))
        except OSError as exc:
            raise DeviceError(f"Expected: room for metadata. Received: {exc}.") from exc
        try:
            for role in _ROLES:
                path = self._place.metadata / f"{role}.json"
                if path.exists():
                    shutil.copyfile(path, room / path.name)
            yield room
        except OSError as exc:
            raise DeviceError(f"Expected: room for metadata. Received: {exc}.") from exc
        finally:
            shutil.rmtree(room)

    def _begun(self, folder: Path) -> Updater:
        try:
            trusted = (folder / "root.json").read_bytes()
        except FileNotFoundError:
            raise DeviceError(
                f"Expected: {self._place.metadata / 'root.json'}. Received: none.",
                hint="flash or push the device again: its first root says whom it trusts",
            ) from None
        try:
            updater = Updater(
                str(folder),
                f"{self._url}/metadata/",
                fetcher=self._wire,
                config=_LIMITS,
                bootstrap=trusted,
            )
        except exceptions.RepositoryError as exc:
            raise UntrustedError(f"Expected: a root that this device can trust. Received: {exc}.") from exc
        # The library reads the clock for itself; expiry must be told by the one that was given.
        updater._trusted_set.reference_time = self._now()  # noqa: SLF001 - there is no other way in
        return updater

    def _root(self, updater: Updater) -> Root:
        return updater._trusted_set.root  # noqa: SLF001 - there is no other way in

    @contextmanager
    def _explained(self, updater: Updater) -> Iterator[None]:
        try:
            yield
        except exceptions.RepositoryError as exc:
            raise refused(exc, *self._wire.last, self._root(updater), self._now()) from exc
        except exceptions.DownloadLengthMismatchError as exc:
            raise EndlessError(f"Expected: metadata of its size. Received: more, and no end: {exc}.") from exc
        except exceptions.DownloadHTTPError as exc:
            raise _absent("metadata", exc) from exc
        except (exceptions.DownloadError, HTTPException, OSError) as exc:
            raise unreachable(self._url, exc) from exc

    def _kept(self, folder: Path) -> None:
        """Take over what a refresh has verified: each file whole, root first."""
        self._place.metadata.mkdir(parents=True, exist_ok=True)
        for role in _ROLES:
            staged = folder / f"kept-{role}"
            staged.write_bytes((folder / f"{role}.json").read_bytes())
            flush(staged)
            staged.replace(self._place.metadata / f"{role}.json")
        flush(self._place.metadata)


def _absent(name: str, error: exceptions.DownloadHTTPError) -> Exception:
    if error.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.FORBIDDEN}:
        return NotOfferedError(f"Expected: {name} in the repository. Received: {error!s:.200}.")
    return unreachable(name, error)


def _require(component: Component, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != component.sha256:
        path.unlink()
        raise DamagedError(f"Expected: {component.target}. Received: content with the hash {found}.")
