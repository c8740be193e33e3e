"""Who asks: a person, a program, or whoever sits at this machine; and the roles there are."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    """What somebody may do; each may also do what the ones before it may."""

    VIEWER = "viewer"
    STAFF = "staff"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what the other may."""
        order = tuple(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who was let in.

    Args:
        name: Of the account or the token.
        role: What it may do.
        csrf: What a form must bring along; empty where nobody may send forms.
        how: By a session, by a token, or because no log-in is asked for.
    """

    name: str
    role: Role
    csrf: str
    how: Literal["session", "token", "local"]
