"""A real PostgreSQL under test, in a folder of its own, on a free port of 127.0.0.1."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.brokers import free_port


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them off PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


class PostgresServer:
    """A server that can be killed and started again, in a folder of its own.

    Args:
        programs: Folder of PostgreSQL's programs.
        durable: Whether it flushes to the disk; tests of power cuts need it.
    """

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._port = free_port()
        # The server refuses to run as root; then it runs as its own user.
        owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self._options: dict[str, object] = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.STDOUT,
            "cwd": self._folder,
        }
        if owner is not None:
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._flags = f"-p {self._port} -h 127.0.0.1 -k {self._folder}" + ("" if durable else " -F")
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "kit", "--no-sync")
        self.url = f"postgresql://kit@127.0.0.1:{self._port}/postgres"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", log, "-o", self._flags, "start")

    def kill(self) -> None:
        """End it at once, all of its processes, as a power cut does."""
        (number, *_) = (self._data / "postmaster.pid").read_text().splitlines()
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for each in (number, *children):
            with suppress(ProcessLookupError):
                os.kill(int(each), signal.SIGKILL)
        end = time.monotonic() + 10
        while Path(f"/proc/{number}").exists() and time.monotonic() < end:
            time.sleep(0.02)

    def remove(self) -> None:
        """End it, and remove its folder."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        subprocess.run(command, check=True, **self._options)  # type: ignore[call-overload]


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """Give the URL of an empty database."""
    server = PostgresServer(programs)
    try:
        server.start()
        yield server.url
    finally:
        server.remove()
