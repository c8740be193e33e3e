"""What the updater knows, and the one writer of it: `state.json`, whole or not at all, and twice.

Each copy says the hash of what it holds. One that is damaged is not believed: the other holds the same, or
the state of one step before. Where both are gone the disk itself says what ran: `current`, or the highest
release that is whole.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_agent.contracts import release as releases
from edge_agent.contracts.errors import BundleError
from edge_agent.contracts.release import Place
from edge_agent.update.disk import read_small, write_whole

FORMAT = 1
_SETTLED = 16
_LONGEST_REASON = 2000


@dataclass(frozen=True, slots=True)
class Bad:
    """Why a release must not be tried again, before somebody offers it with a higher attempt."""

    reason: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a wish, once and for all."""

    rollout: str | None
    attempt: int
    release: int
    phase: str
    reason: str | None = None

    @property
    def key(self) -> tuple[str | None, int, int]:
        """Of which wish."""
        return self.rollout, self.attempt, self.release


@dataclass(frozen=True, slots=True)
class Trial:
    """A release that has to prove itself.

    Attributes:
        release: Its number.
        rollout: Who wanted it; None: somebody at the device itself.
        attempt: The rollout's.
        charged: Starts that ended by its own fault.
        cut: Starts that ended with the machine's power.
        camera: Whether pictures came before.
        linked: Whether the broker was there within the hour before.
        boot_id: The life of the machine in which it is watched.
        since: From when on, seconds after that boot.
        last: How the latest charged start ended.
    """

    release: int
    rollout: str | None
    attempt: int
    charged: int = 0
    cut: int = 0
    camera: bool = False
    linked: bool = False
    boot_id: str = ""
    since: float = 0.0
    last: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that outlives a power cut.

    Attributes:
        good: The release that has proven itself, and is fallen back to.
        previous: The good one before.
        trial: The one that has to prove itself now.
        bad: Releases that failed.
        settled: What became of the latest wishes.
        folded: Number of the latest start that has been counted.
        rebooted: The life of the machine that was ended because nothing would run.
    """

    good: int | None = None
    previous: int | None = None
    trial: Trial | None = None
    bad: Mapping[int, Bad] = field(default_factory=dict)
    settled: tuple[Outcome, ...] = ()
    folded: int = 0
    rebooted: str | None = None

    @property
    def wanted(self) -> int | None:
        """The release that should run."""
        return self.good if self.trial is None else self.trial.release

    @property
    def kept(self) -> set[int]:
        """Releases that must stay on the disk."""
        found = {self.good, self.previous, None if self.trial is None else self.trial.release}
        return {number for number in found if number is not None}


def encode(state: State) -> bytes:
    """Return `state.json`."""
    value = asdict(state)
    value["bad"] = {str(number): asdict(bad) for number, bad in sorted(state.bad.items())}
    value["settled"] = [_short(asdict(outcome)) for outcome in state.settled[-_SETTLED:]]
    for bad in value["bad"].values():
        _short(bad)
    return (
        json.dumps({"format": FORMAT, **value, "check": _check(value)}, indent=1, sort_keys=True) + "\n"
    ).encode()


def decode(content: bytes | None) -> State | None:
    """Read `state.json`; None where it is damaged, or of another format."""
    try:
        value = json.loads(content or b"")
        if (
            not isinstance(value, dict)
            or value.pop("format") != FORMAT
            or value.pop("check") != _check(value)
        ):
            return None
        return _state(value)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def load(place: Place) -> State:
    """Return what is known, whatever has happened to the disk."""
    for path in (place.state, place.spare):
        state = decode(read_small(path))
        if state is not None:
            return state
    return recovered(place)


def save(place: Place, state: State) -> None:
    """Make a state hold: once this returns, no power cut takes it back.

    Raises:
        DeviceError: The disk does not take it; the state before holds.
    """
    content = encode(state)
    write_whole(place.state, content)
    write_whole(place.spare, content)


def recovered(place: Place) -> State:
    """Return what the disk itself says: the release that `current` leads to, or the highest that is whole."""
    try:
        number = int(place.current.readlink().name)
    except (OSError, ValueError):
        number = 0
    if whole(place, number) is not None:
        return State(good=number)
    return State(good=max(on_disk(place), default=None))


def on_disk(place: Place) -> list[int]:
    """Return the numbers of the releases that are whole."""
    names = [path.name for path in place.releases.iterdir()] if place.releases.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and whole(place, int(name)) is not None)


def whole(place: Place, number: int) -> releases.Release | None:
    """Return a release that is on the disk with everything that it needs."""
    folder = place.release(number)
    content = read_small(folder / "release.json")
    if content is None:
        return None
    try:
        found = releases.decode(content)
    except BundleError:
        return None
    parts = (folder / "agent", folder / "bundle", place.runtime(found))
    return found if found.number == number and all(part.is_dir() for part in parts) else None


def _check(value: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _short(value: dict[str, Any]) -> dict[str, Any]:
    if value["reason"] is not None:
        value["reason"] = value["reason"][-_LONGEST_REASON:]
    return value


def _state(value: dict[str, Any]) -> State:
    trial = value["trial"]
    return State(
        good=value["good"],
        previous=value["previous"],
        trial=None if trial is None else Trial(**trial),
        bad={int(number): Bad(**bad) for number, bad in value["bad"].items()},
        settled=tuple(Outcome(**outcome) for outcome in value["settled"]),
        folded=value["folded"],
        rebooted=value["rebooted"],
    )
