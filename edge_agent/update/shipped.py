"""What lies in /opt/shelf of a device, outside of everything that a release replaces."""

from importlib.metadata import distribution
from pathlib import Path

import edge_agent

DISTRIBUTIONS = ("tuf", "securesystemslib", "cryptography", "cffi", "pycparser", "urllib3")
"""Beside the kit's own files; of the device's architecture."""
_CONTRACTS = ("__init__.py", "errors.py", "files.py", "release.py")


def kit_files() -> dict[str, Path]:
    """Return the kit's own files by their names below /opt/shelf."""
    home = Path(edge_agent.__file__).parent
    names = [home / "__init__.py", *sorted((home / "update").glob("*.py"))]
    names += [home / "contracts" / name for name in _CONTRACTS]
    return {f"edge_agent/{path.relative_to(home).as_posix()}": path for path in names}


def library_files() -> dict[str, Path]:
    """Return the libraries' files of this installation, where device and workstation are alike.

    For another architecture: `pip install --target` of `DISTRIBUTIONS` from its wheels.
    """
    found = {}
    for name in DISTRIBUTIONS:
        for item in distribution(name).files or ():
            if ".." not in item.parts and "__pycache__" not in item.parts:
                found[item.as_posix()] = Path(str(item.locate()))
    return found
