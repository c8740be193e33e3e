"""What the recorder takes into its database by one commit."""

from dataclasses import dataclass, field
from typing import NamedTuple

Stream = tuple[str, str]
"""Source and stream id."""


class Arrival(NamedTuple):
    """One event as it came in, as its row in the database; `body` is its JSON, unchanged."""

    source: str
    id: str
    stream: str
    sequence: int
    type: str
    subject: str
    received: str
    body: str


@dataclass(frozen=True, slots=True)
class Place:
    """One sequence of one stream."""

    source: str
    stream: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that is none; `place` is where it stood in its stream, where that could be read."""

    received: str
    topic: str
    reason: str
    body: bytes
    place: Place | None = None


@dataclass(slots=True)
class Batch:
    """What goes in by one commit.

    Attributes:
        arrivals: Events in the order of their coming.
        refusals: What goes into quarantine.
        oldest: Of snapshots: the first sequence that a device still has.
        latest: What devices said last, by source, as `latest.Latest` has it.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    oldest: dict[Stream, int] = field(default_factory=dict)
    latest: dict[str, dict[str, str | None]] = field(default_factory=dict)

    @property
    def sources(self) -> set[str]:
        """Of which devices there is something new."""
        return {*self.latest, *(item.source for item in self.arrivals)}
