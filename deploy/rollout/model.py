"""What is kept of a rollout: enough to go on after the machine that drove it is gone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError, with_config

from deploy.rollout.waves import Share, share, sizes
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.identifiers import DeviceId, StoreId
from edge_agent.contracts.messages import Desired, Reported, UpdatePhase
from edge_agent.contracts.times import Timestamp
from edge_agent.contracts.validation import explain

FORMAT = 1
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class State(StrEnum):
    """Of a rollout."""

    RUNNING = "running"
    PAUSED = "paused"  # an operator said so
    STOPPED = "stopped"  # too many failed
    ABORTED = "aborted"
    DONE = "done"


ENDED = frozenset({State.ABORTED, State.DONE})


class Standing(StrEnum):
    """Of a device in a rollout."""

    LATER = "later"  # not asked yet
    OFFLINE = "offline"  # away before it has begun: counted apart
    WAITING = "waiting"
    UPDATING = "updating"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    OVERDUE = "overdue"
    LEFT_OUT = "left_out"  # pinned or revoked meanwhile
    EXCUSED = "excused"  # has failed; the operator goes on without it


FAILED = frozenset({Standing.ROLLED_BACK, Standing.REFUSED, Standing.OVERDUE})
PENDING = frozenset({Standing.WAITING, Standing.UPDATING})
REACHED = FAILED | PENDING | {Standing.COMMITTED}
"""Who counts when a wave is judged."""


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a device: retained on its broker.

    Attributes:
        online: It says so itself.
        silent: The broker speaks for it: it was cut off. Neither: it said goodbye, or was never heard.
        reported: How far it says it is.
        desired: What it is told.
        left_out: It is pinned or revoked.
    """

    online: bool = False
    silent: bool = False
    reported: Reported | None = None
    desired: Desired | None = None
    left_out: bool = False


NOTHING = View()


@with_config({"extra": "forbid"})
@dataclass(frozen=True, slots=True)
class Member:
    """One device.

    Attributes:
        store: Where it stands.
        wave: In which it was asked; None: it was not.
        attempt: Raised to offer again what it has rolled back.
        phase: Its own last word about this attempt.
        reason: Why it failed.
        due: When it is overdue.
        graced: It was away when it was due, and has been given as long again.
        excused: It has failed, and the operator went on.
        standing: Where it stands, for those who read this file.
    """

    store: StoreId
    wave: int | None = None
    attempt: int = 1
    phase: UpdatePhase | None = None
    reason: str | None = None
    due: Timestamp | None = None
    graced: bool = False
    excused: bool = False
    standing: Standing = Standing.LATER


@with_config({"extra": "forbid"})
@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A release on its way to devices.

    Attributes:
        id: Names it, also to devices.
        release: Its number.
        created: When it began.
        waves: As the operator wrote them.
        soak: How long a wave must stay well.
        within: How long a device may take.
        window: The time of day in which devices may start.
        not_before: The moment from which on devices may start.
        tolerance: How many may fail.
        members: In the order in which they are asked.
        broker: Address, if the operator named one.
        reason: Why it is stopped.
        wave: The present one.
        since: When that began.
        well_since: When enough of it were committed.
        owed: It no longer runs, and not all devices have been told so.
    """

    id: Name
    release: Annotated[int, Field(ge=1)]
    created: Timestamp
    waves: tuple[str, ...]
    soak: timedelta
    within: timedelta
    tolerance: str
    window: str | None = None
    not_before: Timestamp | None = None
    broker: str | None = None
    state: State = State.RUNNING
    reason: str | None = None
    wave: int = 0
    since: Timestamp | None = None
    well_since: Timestamp | None = None
    owed: bool = False
    members: dict[DeviceId, Member] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many devices each wave brings."""
        return sizes(self.waves, len(self.members))

    @property
    def last(self) -> bool:
        """Whether this is the last wave."""
        return self.wave >= len(self.sizes) - 1

    @property
    def going(self) -> bool:
        """Whether somebody must drive it."""
        return self.owed or self.state in {State.RUNNING, State.PAUSED}

    def due(self, now: datetime) -> datetime:
        """Return when a device that is told now is overdue."""
        return max(now, self.not_before or now) + self.within

    @property
    def allowed(self) -> Share:
        """How many may fail."""
        return share("--threshold", self.tolerance)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many stand where."""

    counts: Mapping[Standing, int]

    def __getitem__(self, standing: Standing) -> int:
        return self.counts.get(standing, 0)

    @property
    def reached(self) -> int:
        """Those that count."""
        return sum(self[item] for item in REACHED)

    @property
    def failed(self) -> int:
        """Rolled back, refused, overdue."""
        return sum(self[item] for item in FAILED)

    @property
    def pending(self) -> int:
        """Those that have not said their last word."""
        return sum(self[item] for item in PENDING)


def tally(members: Iterable[Member], wave: int | None = None) -> Tally:
    """Count where members stand; of one wave, or of all."""
    counts: dict[Standing, int] = {}
    for member in members:
        if wave is None or member.wave == wave:
            counts[member.standing] = counts.get(member.standing, 0) + 1
    return Tally(counts)


_ADAPTER = TypeAdapter(Rollout)


def encode(rollout: Rollout) -> bytes:
    """Return what is kept."""
    return _ADAPTER.dump_json(rollout, exclude_defaults=True)


def decode(payload: bytes, where: object) -> Rollout:
    """Read what was kept.

    Raises:
        DataError: It is damaged, or of another format.
    """
    try:
        found = _ADAPTER.validate_json(payload)
    except ValidationError as exc:
        raise DataError(f"Expected: a rollout. Received: {where}: {explain(exc)}.") from exc
    if found.format != FORMAT:
        raise DataError(f"Expected: rollout format {FORMAT}. Received: {found.format} in {where}.")
    return found
