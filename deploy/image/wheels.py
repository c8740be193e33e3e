"""The device's own dependencies as wheels, for any architecture, as the lock says."""

import hashlib
import re
import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

from deploy.release.parts import platforms
from edge_agent.contracts.errors import BundleError, DataError, UsageError

_PIN = re.compile(
    r"^(?P<name>[a-z0-9.-]+)==(?P<version>[^ \\\n]+)(?P<where>[^\\\n]*)\\?\n(?P<more>(?: +--hash=[^\n]+\n)+)",
    re.MULTILINE,
)
"""One package, for one kind of Python where there are several lines of a name."""
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


def wanted() -> list[str]:
    """Return what a device needs: the requirements of the kit without any of its extras."""
    return [item for item in requires("shelfkit") or () if "extra ==" not in item]


def fetch(lock: Path, arch: str, out: Path) -> list[Path]:
    """Fetch the wheels of a device, and write beside them which they are.

    Args:
        lock: Names, versions and hashes of everything that the kit may install.
        arch: Debian's name.
        out: New folder: wheels, and `requirements.lock` of these alone.

    Raises:
        BundleError: A wheel is not the one that the lock names.
        DataError: pip cannot fetch them.
        UsageError: The lock is none.
    """
    try:
        pins = list(_PIN.finditer(lock.read_text(encoding="utf-8")))
    except (OSError, UnicodeError) as exc:
        raise UsageError(f"Expected: a lock with hashes. Received: {lock}: {exc}.") from exc
    if not pins:
        raise UsageError(f"Expected: a lock with hashes. Received: {lock}, without any.")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shelfkit-wheels-") as room:
        # pip takes no hashes for what it finds by itself: they are checked below.
        limits = Path(room) / "constraints.txt"
        limits.write_text("".join(f"{pin['name']}=={pin['version']} {pin['where']}\n" for pin in pins))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--dest", str(out), "--constraint", str(limits)]
        done = subprocess.run(
            [*command, *platforms(arch), *wanted()], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise DataError(f"Expected: wheels for {arch}. Received: pip: {done.stderr.strip()[-600:]}")
    wheels = sorted(out.glob("*.whl"))
    lines = [_proven(wheel, pins) for wheel in wheels]
    (out / "requirements.lock").write_text("".join(lines), encoding="utf-8")
    return wheels


def _proven(wheel: Path, pins: list[re.Match[str]]) -> str:
    name, version = wheel.name.split("-")[:2]
    plain = re.sub(r"[-_.]+", "-", name).lower()
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    known = [
        found
        for pin in pins
        if (pin["name"], pin["version"]) == (plain, version)
        for found in _HASH.findall(pin["more"])
    ]
    if sha256 not in known:
        wheel.unlink()
        raise BundleError(f"Expected: {plain} as the lock says. Received: {wheel.name}, {sha256}.")
    return f"{plain}=={version} --hash=sha256:{sha256}\n"
