"""The runtime of a release under test: what a device needs of what is installed here, without a network."""

import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.release.pack import pack
from edge_agent.contracts.release import Component
from edge_agent.update.shipped import DISTRIBUTIONS

_PYTHON = (3, 11)


def installed_runtime(into: Path) -> Component:
    """Pack it; for machines of this one's architecture."""
    if sys.version_info[:2] != _PYTHON:
        pytest.skip("a device's Python is 3.11, and its libraries are those that are installed here")
    files: dict[str, Path] = {}
    for found in _needed().values():
        for item in found.files or ():
            if ".." not in item.parts and "__pycache__" not in item.parts and item.name != "RECORD":
                files[f"site-packages/{item.as_posix()}"] = Path(str(item.locate()))
    return pack("runtime", "here", files, into)


def _needed() -> dict[str, Distribution]:
    """Return everything that a device needs, by name."""
    found: dict[str, Distribution] = {}
    open_ = [*_requires(distribution("shelfkit")), *DISTRIBUTIONS]
    while open_:
        name = open_.pop()
        if name not in found:
            found[name] = distribution(name)
            open_ += _requires(found[name])
    return found


def _requires(one: Distribution) -> list[str]:
    wanted = [Requirement(text) for text in one.requires or ()]
    # Of what is asked for with an extra, `securesystemslib[crypto]`, a device needs the one library.
    extras = {"extra": "crypto"} if one.name == "securesystemslib" else {"extra": ""}
    return [item.name for item in wanted if item.marker is None or item.marker.evaluate(extras)]
