"""One machine over SSH: the system's own `ssh`, with its keys, agent and configuration."""

import hashlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_agent.contracts.errors import DeviceError, UsageError

_FAILED = 255
"""How ssh itself ends where it cannot reach the machine or is not let in."""
_CHUNK = 1024 * 1024
_SHOWN = 600


class UnreachableError(DeviceError):
    """The machine cannot be reached, or does not let us in."""


class RemoteError(DeviceError):
    """A command that failed there.

    Args:
        what: That it was for.
        code: It ended with.
        said: On its standard error.
    """

    def __init__(self, what: str, code: int, said: str) -> None:
        super().__init__(f"Expected: {what}. Received: exit code {code}: {said.strip()[-_SHOWN:]}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Login:
    """How a machine is reached.

    Attributes:
        host: As `ssh` knows it: a name, an address, user@host, or an alias.
        port: None: as configured.
        options: More options of ssh.
    """

    host: str
    port: int | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-") or not self.host.isprintable() or " " in self.host:
            raise UsageError(f"Expected: a host. Received: {self.host!r}.", hint="for example pi@shelf-12")


class Ssh:
    """A machine that is logged in to; one connection serves everything.

    Args:
        login: How it is reached.
    """

    def __init__(self, login: Login) -> None:
        self._login, self._stack, self._command = login, ExitStack(), list[str]()

    def __enter__(self) -> Self:
        # The path of a socket is short: the system's own folder for such things is, too.
        room = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sk-"))
        self._command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
        self._command += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
        self._command += [
            "-o",
            "ControlMaster=auto",
            "-o",
            f"ControlPath={room}/s",
            "-o",
            "ControlPersist=60",
        ]
        if self._login.port is not None:
            self._command += ["-p", str(self._login.port)]
        self._command += [*self._login.options, "--", self._login.host]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever else is on the line has gone: the connection that all shared ends with us.
        head, host = self._command[:-2], self._command[-1]
        subprocess.run([*head, "-O", "exit", "--", host], capture_output=True, check=False)
        self._stack.close()

    def script(self, text: str, *words: str, what: str, root: bool = False) -> str:
        """Run a script of the shell there and return what it prints.

        Args:
            text: Read by `sh` from its standard input.
            words: Its arguments.
            what: That it is for, for a message.
            root: With the rights of root, through sudo where the login has them not.

        Raises:
            UnreachableError: The machine cannot be reached.
            RemoteError: The script failed.
        """
        command = shlex.join(["sh", "-s", "--", *words])
        if root:
            command = f'if [ "$(id -u)" = 0 ]; then {command}; else sudo -n {command}; fi'
        done = self._run(command, text.encode())
        if done.returncode:
            raise RemoteError(what, done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def upload(self, source: Path, target: str, progress: Callable[[int], None] = lambda _done: None) -> int:
        """Bring a file there, from where an earlier attempt ended, and return how many bytes moved.

        Args:
            source: The file.
            target: Its path there; relative to the home of the login, unless it begins with a slash.
            progress: Told how many bytes are there.

        Raises:
            UnreachableError: The connection broke; what has arrived is there, for the next attempt.
            RemoteError: The disk there does not take it.
        """
        with source.open("rb") as file:
            wanted = hashlib.file_digest(file, "sha256").hexdigest()
        size, moved = source.stat().st_size, 0
        for _attempt in range(2):
            there = int(self.script(_SIZE, target, what="to look at a file").strip() or 0)
            if there > size:
                self.script('rm -f -- "$1"', target, what="to remove a file")
                there = 0
            moved += self._append(source, there, target, progress)
            if self.script(_SUM, target, what="to read a file back").split()[:1] == [wanted]:
                return moved
            # What an earlier attempt left was of something else.
            self.script('rm -f -- "$1"', target, what="to remove a file")
        raise DeviceError(
            f"Expected: {source.name} as it was sent. Received: another file on {self._login.host}.",
            hint="look at the disk of that machine",
        )

    def _append(self, source: Path, offset: int, target: str, progress: Callable[[int], None]) -> int:
        moved = 0
        progress(offset)
        command = [*self._command, f"umask 077; cat >> {shlex.quote(target)}"]
        with self._started(command) as process, source.open("rb") as file:
            file.seek(offset)
            assert process.stdin is not None  # noqa: S101 - it was asked for
            try:
                while chunk := file.read(_CHUNK):
                    process.stdin.write(chunk)
                    moved += len(chunk)
                    progress(offset + moved)
                process.stdin.close()
            except BrokenPipeError:
                pass  # its exit code says why
            said = process.stderr.read() if process.stderr else b""
        if process.returncode:
            raise self._error(process.returncode, said, f"room for {source.name}")
        return moved

    def _run(self, command: str, stdin: bytes) -> "subprocess.CompletedProcess[bytes]":
        with self._started([*self._command, command]) as process:
            out, said = process.communicate(stdin)
        if process.returncode == _FAILED:
            raise self._error(_FAILED, said, "")
        return subprocess.CompletedProcess(command, process.returncode, out, said)

    def _started(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ | {"LC_ALL": "C"}
            )
        except FileNotFoundError as exc:
            raise UsageError(
                "Expected: an SSH client. Received: no program ssh.",
                hint="install it, for example: apt install openssh-client",
            ) from exc

    def _error(self, code: int, said: bytes, what: str) -> DeviceError:
        text = said.decode(errors="replace").strip()
        if code != _FAILED:
            return RemoteError(what, code, text)
        hint = "try it by hand: ssh " + self._login.host
        if "verification failed" in text:
            hint = f"log in once by hand and compare its key: ssh {self._login.host}"
        if "Permission denied" in text:
            hint = f"let your key in: ssh-copy-id {self._login.host}"
        return UnreachableError(
            f"Expected: to log in to {self._login.host}. Received: {text[-_SHOWN:]}", hint=hint
        )


_SIZE = 'umask 077; mkdir -p -- "$(dirname -- "$1")"; if [ -f "$1" ]; then wc -c < "$1"; else echo 0; fi'
_SUM = 'sha256sum -- "$1"'
