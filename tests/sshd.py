"""A real SSH server under test, on loopback, with keys and a configuration of its own."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.ssh import Login
from tests.brokers import free_port
from tests.conftest import find_program

_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""
_CLIENT = """\
Host *
    User {user}
    IdentityFile {folder}/user
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known
    GlobalKnownHostsFile /dev/null
"""


class SshServer:
    """A server that lets the test's own user in.

    Args:
        folder: For keys and configuration.
    """

    def __init__(self, folder: Path) -> None:
        self._program, keygen = find_program("sshd"), find_program("ssh-keygen")
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True)
        for name in ("host", "user"):
            command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        (folder / "sshd").write_text(_CONFIG.format(port=self.port, folder=folder))
        (folder / "client").write_text(_CLIENT.format(user=getpass.getuser(), folder=folder))
        self.known(folder / "host.pub")
        self._process: subprocess.Popen[bytes] | None = None

    def known(self, key: Path) -> None:
        """Let the client know the server by a key."""
        kind, text = key.read_text().split()[:2]
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n")

    @property
    def options(self) -> tuple[str, ...]:
        """Words for ssh: nothing of the user's own."""
        return ("-F", str(self.folder / "client"))

    @property
    def login(self) -> Login:
        """How it is reached."""
        return Login("127.0.0.1", self.port, self.options)

    @property
    def command(self) -> tuple[str, ...]:
        """What starts it."""
        return (self._program, "-D", "-e", "-f", str(self.folder / "sshd"))

    @property
    def unit(self) -> str:
        """The same for systemd, on a machine that sees the folder too."""
        return f"[Service]\nExecStart={' '.join(self.command)}\nRuntimeDirectory=sshd\n"

    def __enter__(self) -> Self:
        command = self.command
        if os.geteuid() == 0:
            # As root it wants a folder in /run, which is made where nobody else sees it.
            inner = 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"'
            command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", inner, "sh", *command)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return self
        message = f"sshd does not listen: {(self.folder / 'log').read_text()}"
        raise AssertionError(message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
