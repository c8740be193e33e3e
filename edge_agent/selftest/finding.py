"""What a check found."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Good, not good, or not to be told."""

    PASS = "pass"  # noqa: S105 - a word
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: Of the check.
        status: Good or not.
        code: Exit code of the contract where it is not.
        expected: What should be.
        received: What is.
        todo: What to do about it.
    """

    name: str
    status: Status
    code: int
    expected: str
    received: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A thing to check: its name, the exit code of its class, and what should be."""

    name: str
    code: int
    expected: str

    def passed(self, received: str) -> Finding:
        """Say that it is as it should be."""
        return Finding(self.name, Status.PASS, self.code, self.expected, received)

    def failed(self, received: str, todo: str) -> Finding:
        """Say that it is not."""
        return Finding(self.name, Status.FAIL, self.code, self.expected, received, todo)

    def skipped(self, why: str, todo: str = "") -> Finding:
        """Say that it was not looked at."""
        return Finding(self.name, Status.SKIP, self.code, self.expected, why, todo)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return the code of the first check that failed, else 0."""
    return next((finding.code for finding in findings if finding.status is Status.FAIL), 0)
