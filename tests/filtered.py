"""Run a program as a systemd unit would: under its system call filter, its address families, without W+X.

Usage: python -m tests.filtered UNIT PROGRAM ARGUMENTS...

systemd itself needs a boot for this; the kernel does not, so libseccomp sets the same filters here.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

LIBRARY = "libseccomp.so.2"
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7
_WRITE, _EXECUTE, _SHM_EXECUTE = 0x2, 0x4, 0o100000
_FAMILIES = 46


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def settings(unit: str) -> dict[str, list[str]]:
    """Return every value of every key of a unit, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def system_calls(lines: list[str]) -> set[str]:
    """Return the calls that `SystemCallFilter=` lines allow: the first allows, later ones add or take."""
    allowed: set[str] = set()
    for line in lines:
        names = {name for word in line.lstrip("~").split() for name in _expanded(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def _expanded(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
    ).stdout
    names = {line.strip() for line in told.splitlines() if line.startswith("    ") and "#" not in line}
    return {name for member in names for name in _expanded(member)}


class Filter:
    """One seccomp filter.

    Args:
        default: What becomes of a call that no rule names.
    """

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, *compares: _Compare) -> None:
        """Add a rule; calls that this processor does not have are passed over."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        array = (_Compare * len(compares))(*compares)
        added = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(compares), array
        )
        assert added == 0, (call, added)

    def load(self) -> None:
        """Set it; there is no way back for this process."""
        assert self._library.seccomp_load(self._context) == 0


def confine(unit: str) -> None:
    """Set the filters of a unit for this process and what it starts."""
    found = settings(unit)
    refuse = _ERRNO | errno.EPERM
    memory = Filter(_ALLOW)
    memory.rule(refuse, "mmap", _Compare(2, _MASKED_EQUAL, _WRITE | _EXECUTE, _WRITE | _EXECUTE))
    for call in ("mprotect", "pkey_mprotect"):
        memory.rule(refuse, call, _Compare(2, _MASKED_EQUAL, _EXECUTE, _EXECUTE))
    memory.rule(refuse, "shmat", _Compare(2, _MASKED_EQUAL, _SHM_EXECUTE, _SHM_EXECUTE))
    named = {getattr(socket, name).value for name in " ".join(found["RestrictAddressFamilies"]).split()}
    for family in set(range(_FAMILIES)) - named:
        memory.rule(_ERRNO | errno.EAFNOSUPPORT, "socket", _Compare(0, _EQUAL, family, 0))
    calls = Filter(refuse)
    for name in sorted(system_calls(found["SystemCallFilter"])):
        calls.rule(_ALLOW, name)
    memory.load()
    calls.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the program under test
