"""What comes next in a rollout: pure.

A rollout, what is known of its devices and the time go in; a rollout comes out, and `wanted` says what each
device is to be told.

A wave asks devices that are there until it has as many as it wants. It is passed when enough of them have
committed and have stayed well for the soak time; too many failures stop everything at once.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from deploy.rollout.model import (
    ENDED,
    FAILED,
    NOTHING,
    PENDING,
    REACHED,
    Member,
    Rollout,
    Standing,
    State,
    Tally,
    View,
    tally,
)
from deploy.rollout.standing import folded
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.messages import Desired, UpdatePhase
from edge_agent.contracts.times import to_utc

_UNTOUCHED = frozenset({Standing.LATER, Standing.OFFLINE, Standing.LEFT_OUT})
_ON_THEIR_WAY = frozenset({Standing.UPDATING, Standing.COMMITTED, Standing.ROLLED_BACK, Standing.REFUSED})
_AGAIN = frozenset({Standing.ROLLED_BACK, Standing.REFUSED, Standing.OVERDUE, Standing.EXCUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an operator asks for, checked."""

    release: int
    waves: tuple[str, ...]
    soak: timedelta
    within: timedelta
    tolerance: str
    window: str | None = None
    not_before: datetime | None = None
    broker: str | None = None


def begun(
    id_: str, wish: Wish, stores: Mapping[str, str], attempts: Mapping[str, int], now: datetime
) -> Rollout:
    """Return a rollout that has asked nobody yet.

    Args:
        id_: Names it.
        wish: What is wanted.
        stores: Of each device that takes part.
        attempts: Of those who have been offered this release before: a higher one.
        now: UTC.

    Raises:
        UsageError: Nobody takes part.
    """
    if not stores:
        raise UsageError(
            "Expected: devices for a rollout. Received: none that is neither pinned nor revoked.",
            hint="what there is: shelfkit deploy device list",
        )

    # By chance, but the same for the same rollout: a wave is spread over stores.
    def place(device: str) -> bytes:
        return hashlib.sha256(f"{id_}/{device}".encode()).digest()

    members = {
        device: Member(store=stores[device], attempt=attempts.get(device, 1))
        for device in sorted(stores, key=place)
    }
    at = to_utc(now)
    return Rollout(
        id=id_,
        release=wish.release,
        created=at,
        since=at,
        waves=wish.waves,
        soak=wish.soak,
        within=wish.within,
        tolerance=wish.tolerance,
        window=wish.window,
        not_before=None if wish.not_before is None else to_utc(wish.not_before),
        broker=wish.broker,
        members=members,
    )


def step(rollout: Rollout, views: Mapping[str, View], now: datetime) -> Rollout:
    """Take in what is known, and decide.

    Args:
        rollout: As it was kept.
        views: Of each device that anything is known of.
        now: UTC.

    Returns:
        The same object where nothing has changed.
    """
    now = to_utc(now)
    rollout = _with(rollout, _folded(rollout, views, now))
    if rollout.state != State.RUNNING:
        return rollout
    reason = _too_many(rollout)
    if reason is not None:
        return _over(rollout, State.STOPPED, reason)
    return _judged(_asked(rollout, views, now), now)


def _folded(rollout: Rollout, views: Mapping[str, View], now: datetime) -> dict[str, Member]:
    return {
        device: folded(member, views.get(device, NOTHING), rollout, now)
        for device, member in rollout.members.items()
    }


def _with(rollout: Rollout, members: dict[str, Member]) -> Rollout:
    before = rollout.members
    if all(before[device] is member for device, member in members.items()):
        return rollout
    return replace(rollout, members=members)


def _too_many(rollout: Rollout) -> str | None:
    """Return why a rollout must stop: in the present wave, or over all of them."""
    members = rollout.members.values()
    wave, every = tally(members, rollout.wave), tally(members)
    if wave.failed > rollout.allowed.of(wave.reached):
        return _failures(f"wave {rollout.wave + 1}", wave, rollout)
    if every.failed > rollout.allowed.of(every.reached):
        return _failures("all waves", every, rollout)
    if wave.failed and not wave.pending and wave[Standing.COMMITTED] < _needed(rollout, wave):
        return _failures(f"wave {rollout.wave + 1}", wave, rollout)
    return None


def _failures(where: str, counts: Tally, rollout: Rollout) -> str:
    kinds = ", ".join(
        f"{counts[item]} {item.value.replace('_', ' ')}" for item in sorted(FAILED) if counts[item]
    )
    first = next((f"; {name}: {m.reason}" for name, m in rollout.members.items() if m.reason), "")
    return f"{where}: {counts.failed} of {counts.reached} failed ({kinds}){first}"[:500]


def _needed(rollout: Rollout, wave: Tally) -> int:
    """Return how many must have committed: those who may not fail, and one at least."""
    return max(1, wave.reached - rollout.allowed.of(wave.reached))


def _asked(rollout: Rollout, views: Mapping[str, View], now: datetime) -> Rollout:
    """Ask devices until the wave has as many as it wants; those who are away give their place to others."""
    members, last = dict(rollout.members), rollout.last
    mine = [name for name, member in members.items() if member.wave == rollout.wave]
    places = rollout.sizes[rollout.wave] - sum(members[name].standing in REACHED for name in mine)
    here = [
        name
        for name, member in members.items()
        if member.standing == Standing.LATER and (last or views.get(name, NOTHING).online)
    ]
    fresh = here if last else here[: max(0, places)]
    if not fresh:
        return rollout
    if not last:
        gone = [name for name in mine if members[name].standing == Standing.OFFLINE]
        members |= {name: _released(members[name]) for name in gone}
    for name in fresh:
        offered = replace(members[name], wave=rollout.wave, due=rollout.due(now))
        members[name] = folded(offered, views.get(name, NOTHING), rollout, now)
    return replace(rollout, members=members, well_since=None)


def _released(member: Member) -> Member:
    return replace(member, wave=None, due=None, graced=False, standing=Standing.LATER)


def _judged(rollout: Rollout, now: datetime) -> Rollout:
    """Pass a wave that is well and has soaked."""
    wave = tally(rollout.members.values(), rollout.wave)
    if wave.reached == 0:
        return _empty(rollout, now)
    well = wave[Standing.COMMITTED] >= _needed(rollout, wave)
    if not well or (rollout.last and wave.pending):
        return rollout
    if rollout.well_since is None:
        rollout = replace(rollout, well_since=now)
    if rollout.well_since is not None and now - rollout.well_since < rollout.soak:
        return rollout
    return _passed(rollout, now)


def _empty(rollout: Rollout, now: datetime) -> Rollout:
    """Nobody of a wave is there: it is waited for as long as a device may take, and not for ever."""
    proven = tally(rollout.members.values())[Standing.COMMITTED]
    waited = rollout.since is not None and now - rollout.since >= rollout.within
    left = any(member.standing in _UNTOUCHED for member in rollout.members.values())
    if proven and (waited or not left):
        return _passed(rollout, now)
    return rollout


def _passed(rollout: Rollout, now: datetime) -> Rollout:
    if rollout.last:
        return _over(replace(rollout, well_since=None), State.DONE)
    return replace(rollout, wave=rollout.wave + 1, since=now, well_since=None)


def _over(rollout: Rollout, state: State, reason: str | None = None) -> Rollout:
    """It no longer runs: what devices are told by it has to change, until they are told."""
    return replace(rollout, state=state, reason=reason or rollout.reason, owed=True)


def settled(rollout: Rollout) -> Rollout:
    """All devices are told what it wants."""
    return replace(rollout, owed=False) if rollout.owed else rollout


def wanted(rollout: Rollout) -> dict[str, Desired]:
    """Return what each device is to be told; who is not in it is told nothing by this rollout.

    While a rollout does not run, nobody begins: who has not is told nothing any more. A device on its way
    is left alone unless the rollout was aborted.
    """
    return {
        device: _desired(
            rollout.id, member.attempt, rollout.release, member.due, rollout.not_before, rollout.window
        )
        for device, member in rollout.members.items()
        if _told(rollout.state, member)
    }


def together(
    rollouts: Iterable[Rollout], views: Mapping[str, View], since: Mapping[str, datetime]
) -> dict[str, Desired]:
    """Return what several rollouts want; of two that want a device, the one that was set going last has it.

    Args:
        rollouts: Those that devices are told of.
        views: Of each device that anything is known of.
        since: When each rollout was set going, by name: also those that devices are told of no more.
    """
    found: dict[str, Desired] = {}
    for rollout in sorted(rollouts, key=lambda item: since[item.id]):
        wishes = wanted(rollout)
        if rollout.state in ENDED:
            # It tells what it could not; what a later one has told meanwhile stands.
            wishes = {name: wish for name, wish in wishes.items() if not _later(name, rollout, views, since)}
        found |= wishes
    return found


def _later(device: str, rollout: Rollout, views: Mapping[str, View], since: Mapping[str, datetime]) -> bool:
    told = views.get(device, NOTHING).desired
    return told is not None and since.get(told.rollout, since[rollout.id]) > since[rollout.id]


@lru_cache(maxsize=1024)
def _desired(
    id_: str,
    attempt: int,
    release: int,
    due: datetime | None,
    not_before: datetime | None,
    window: str | None,
) -> Desired:
    """Return what is the same for all devices that were asked together: made once."""
    return Desired(
        rollout=id_, attempt=attempt, release=release, not_before=not_before, deadline=due, window=window
    )


def _told(state: State, member: Member) -> bool:
    if member.wave is None or member.standing == Standing.LEFT_OUT:
        return False
    if state == State.ABORTED:
        return member.standing == Standing.COMMITTED
    if state == State.STOPPED:
        # What is only fetched can still be called off.
        return member.standing in _ON_THEIR_WAY and (
            member.standing != Standing.UPDATING or member.phase == UpdatePhase.TRIAL
        )
    return state != State.PAUSED or member.standing in _ON_THEIR_WAY


def paused(rollout: Rollout) -> Rollout:
    """Let nobody begin until it is resumed.

    Raises:
        UsageError: It does not run.
    """
    _must_be(rollout, "pause", State.RUNNING, State.PAUSED)
    return _over(rollout, State.PAUSED)


def resumed(rollout: Rollout, now: datetime) -> Rollout:
    """Go on. After a stop the operator has seen what failed: it counts no more.

    Raises:
        UsageError: It has ended.
    """
    _must_be(rollout, "resume", State.RUNNING, State.PAUSED, State.STOPPED)
    if rollout.state == State.RUNNING:
        return rollout
    members = rollout.members
    if rollout.state == State.STOPPED:
        members = {
            name: replace(member, excused=True, standing=Standing.EXCUSED)
            if member.standing in FAILED
            else member
            for name, member in members.items()
        }
    return _going(rollout, members, now)


def retried(rollout: Rollout, devices: Iterable[str], now: datetime) -> Rollout:
    """Offer the release again to devices that failed: with a higher attempt.

    Args:
        rollout: Not ended by an abort.
        devices: Which; all that failed where it is empty.
        now: UTC.

    Raises:
        UsageError: One has not failed, or nobody has.
    """
    _must_be(rollout, "retry", State.RUNNING, State.PAUSED, State.STOPPED, State.DONE)
    named = set(devices)
    failed = {name for name, member in rollout.members.items() if member.standing in _AGAIN}
    if named - failed or not failed:
        raise UsageError(
            f"Expected: devices that have failed ({', '.join(sorted(failed)) or 'none has'}). "
            f"Received: {', '.join(sorted(named)) or 'all'}."
        )
    members = {
        name: _again(member, rollout, now) if name in (named or failed) else member
        for name, member in rollout.members.items()
    }
    return _going(rollout, members, now)


def _again(member: Member, rollout: Rollout, now: datetime) -> Member:
    return replace(
        member,
        attempt=member.attempt + 1,
        phase=None,
        reason=None,
        due=rollout.due(to_utc(now)),
        graced=False,
        excused=False,
        standing=Standing.WAITING,
    )


def _going(rollout: Rollout, members: dict[str, Member], now: datetime) -> Rollout:
    """Run again; the time that nobody was asked is not held against a device."""
    now = to_utc(now)
    fresh = {
        name: replace(member, due=rollout.due(now)) if member.standing in PENDING else member
        for name, member in members.items()
    }
    return replace(
        rollout, state=State.RUNNING, reason=None, since=now, well_since=None, owed=False, members=fresh
    )


def aborted(rollout: Rollout) -> Rollout:
    """Call it off, at once and whatever it waits for; devices that have committed keep it.

    Said once more, devices are told once more.

    Raises:
        UsageError: It is done.
    """
    _must_be(rollout, "abort", State.RUNNING, State.PAUSED, State.STOPPED, State.ABORTED)
    return _over(rollout, State.ABORTED)


def _must_be(rollout: Rollout, what: str, *states: State) -> None:
    if rollout.state not in states:
        why = "which has ended" if rollout.state in ENDED else "which does not run"
        raise UsageError(
            f"Expected: a rollout to {what} that is {', '.join(states)}. "
            f"Received: {rollout.id}, {rollout.state.value}, {why}."
        )
