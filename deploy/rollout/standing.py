"""Where one device stands: pure.

A device that is away before it has begun is *offline*: it counts for nothing. One that goes away after it
has begun may have been cut off by the release itself: it goes on to count, and becomes *overdue*. The time
of a device begins when its broker retains what it is told: who was told late, or not at all, is not late.
"""

from dataclasses import replace
from datetime import datetime

from deploy.rollout.model import FAILED, Member, Rollout, Standing, State, View
from edge_agent.contracts.messages import Reported, UpdatePhase

_BEGUN = frozenset({UpdatePhase.DOWNLOADING, UpdatePhase.VERIFIED, UpdatePhase.STAGED, UpdatePhase.TRIAL})
_LAST_WORD = {
    UpdatePhase.ROLLED_BACK: Standing.ROLLED_BACK,
    UpdatePhase.REFUSED: Standing.REFUSED,
}
_AT_REST = frozenset({UpdatePhase.IDLE, UpdatePhase.COMMITTED})
_TARDY = 10
"""Of the time that a device may take, such a part may pass before it is told: else each look would write."""


def folded(member: Member, view: View, rollout: Rollout, now: datetime) -> Member:
    """Take in what is known of a device.

    Args:
        member: As it was.
        view: What its broker retains.
        rollout: That it belongs to.
        now: UTC.
    """
    if _untouched(member, view):
        return member
    heard = _timed(_heard(member, view.reported, rollout), view, rollout, now)
    if heard.due is not None and now >= heard.due and not heard.graced and away(heard, view):
        heard = replace(heard, graced=True, due=None)
    elif heard.due is None and heard.graced and view.online:
        heard = replace(heard, due=rollout.due(now))
    standing = _standing(heard, view, rollout, now)
    return heard if heard.standing == standing else replace(heard, standing=standing)


def _untouched(member: Member, view: View) -> bool:
    """Tell whether nothing can have changed: of most devices, at most looks."""
    later = member.wave is None and member.standing == Standing.LATER
    return later and view.reported is None and not view.left_out


def _timed(member: Member, view: View, rollout: Rollout, now: datetime) -> Member:
    """Give a device its whole time while it is not told yet: whoever drove it may have been killed."""
    if rollout.state != State.RUNNING or member.due is None or member.excused:
        return member
    if member.phase in _BEGUN or _finished(member) or _told(member, view, rollout):
        return member
    whole = rollout.due(now)
    return replace(member, due=whole) if whole - member.due >= rollout.within / _TARDY else member


def _told(member: Member, view: View, rollout: Rollout) -> bool:
    wish = view.desired
    return wish is not None and (wish.rollout, wish.attempt) == (rollout.id, member.attempt)


def away(member: Member, view: View) -> bool:
    """Tell whether a device is away, and was before it began."""
    return not view.online and member.phase not in _BEGUN and not _finished(member)


def _finished(member: Member) -> bool:
    return member.phase == UpdatePhase.COMMITTED or member.phase in _LAST_WORD


def _heard(member: Member, reported: Reported | None, rollout: Rollout) -> Member:
    """Keep its own words about this attempt, and its last word for good."""
    if reported is None:
        return member
    if (reported.rollout, reported.attempt) == (rollout.id, member.attempt):
        phase, reason = reported.phase, reported.reason
    elif reported.good == rollout.release and reported.phase in _AT_REST:
        # It runs it already: flashed with it, or brought there by another rollout.
        phase, reason = UpdatePhase.COMMITTED, None
    elif _finished(member):
        return member
    else:
        phase, reason = None, None
    if member.phase == UpdatePhase.COMMITTED and phase != UpdatePhase.ROLLED_BACK:
        return member
    if (phase, reason) == (member.phase, member.reason):
        return member
    return replace(member, phase=phase, reason=reason)


def _standing(member: Member, view: View, rollout: Rollout, now: datetime) -> Standing:
    if view.left_out:
        # Also where it has committed: somebody brings it back, and must not be told the contrary.
        return Standing.LEFT_OUT
    # Who is told nothing, because the rollout does not run, cannot be late.
    asked = rollout.state == State.RUNNING or member.phase in _BEGUN
    overdue = asked and member.due is not None and now >= member.due
    if member.phase == UpdatePhase.COMMITTED:
        # Cut off after it has committed: perhaps by what it has committed. Later waves do not ask.
        if not view.silent or member.wave != rollout.wave or rollout.state == State.DONE:
            return Standing.COMMITTED
        found = Standing.OVERDUE if overdue else Standing.UPDATING
    elif member.wave is None:
        return Standing.LATER
    elif away(member, view):
        return Standing.OFFLINE
    else:
        found = _present(member, overdue=overdue)
    return Standing.EXCUSED if member.excused and found in FAILED else found


def _present(member: Member, *, overdue: bool) -> Standing:
    if member.phase in _LAST_WORD:
        return _LAST_WORD[member.phase]
    if overdue:
        return Standing.OVERDUE
    return Standing.UPDATING if member.phase in _BEGUN else Standing.WAITING
