"""A real PostgreSQL under test, in a folder of its own, on a free port of 127.0.0.1."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.brokers import free_port


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them off PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """Give the URL of an empty database."""
    # The server refuses to run as root; then it runs as its own user.
    root = os.geteuid() == 0
    owner = pwd.getpwnam("postgres") if root else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    options: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder}
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    data, port = folder / "data", free_port()
    initdb = [programs / "initdb", "-D", data, "-A", "trust", "-U", "kit", "--no-sync"]
    start = [programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "start"]
    start += ["-o", f"-p {port} -h 127.0.0.1 -k {folder} -F"]
    try:
        subprocess.run([str(item) for item in initdb], check=True, **options)  # type: ignore[call-overload]
        subprocess.run([str(item) for item in start], check=True, **options)  # type: ignore[call-overload]
        try:
            yield f"postgresql://kit@127.0.0.1:{port}/postgres"
        finally:
            stop = [str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]
            subprocess.run(stop, check=True, **options)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
