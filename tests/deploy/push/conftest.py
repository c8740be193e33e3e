"""A real SSH server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sshd import SshServer


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    """A server on a free port of 127.0.0.1."""
    with SshServer(tmp_path / "sshd") as server:
        yield server
