"""What the updater does next: state and observations in, another state and one effect out. Pure.

- A start of a release on trial is charged where it ended by itself in the same life of the machine, or a
  watchdog or start time-out ended it. One that the machine's end took with it is "power lost".
- Two charged starts: the release is rolled back, and is bad. More than three power losses: it is rolled back
  and nothing is said against it.
- A release is committed once it has shown everything that can be asked of it, here and now. What was not
  there before the update (a picture, the broker) is not asked of it.
- What is wanted of a device while it tries a release waits; only to take the wish back is done at once.
- Each wish is settled once. A bad release is tried again only with a higher attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from edge_agent.contracts.release import LAUNCHER, Release
from edge_agent.update.records import Proof, Report, Start, Wish
from edge_agent.update.state import Bad, Outcome, State, Trial

MOST_CHARGED = 2
MOST_CUT = 3
PATIENCE_S = 900.0
"""A release that has not proven itself by then never will; a device on which nothing is ready needs help."""
INFERENCES = 20
RAN_ALREADY = "it ran already"
LINK_S = 3600.0
_HARMLESS = frozenset({"success", "resources", "exec-condition"})
"""Ends that were asked for, or that systemd itself is to blame for."""
_DAY = 24 * 60
_LONGEST_SPREAD = 60


class Phase(StrEnum):
    """The words of `messages.UpdatePhase`, which the updater cannot import."""

    IDLE = "idle"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    STAGED = "staged"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Moment:
    """Now.

    Attributes:
        wall: Time, in the device's zone; may be wrong.
        boot_id: This life of the machine.
        up_s: Seconds since it began.
    """

    wall: datetime
    boot_id: str
    up_s: float

    @property
    def minute(self) -> int:
        """Of the day, as a clock beside the device shows it."""
        return 60 * self.wall.hour + self.wall.minute


@dataclass(frozen=True, slots=True)
class Hold:
    """A wish that could not be followed just now, and is tried again later."""

    key: tuple[str | None, int, int]
    phase: Phase
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to go by besides the state.

    Attributes:
        now: The moment.
        starts: Of the launcher, oldest first.
        wish: What somebody wants; None: nothing is wanted.
        taken_back: Somebody has said that nothing is wanted, rather than nothing at all.
        proof: Of the agent.
        unready_s: For how long no agent has shown that it is ready.
        spread: From 0 to 1: where in its window this device begins.
        hold: What must wait.
        tail: The agent's last lines in the journal.
    """

    now: Moment
    starts: Sequence[Start] = ()
    wish: Wish | None = None
    taken_back: bool = False
    proof: Proof | None = None
    unready_s: float = 0.0
    spread: float = 0.0
    hold: Hold | None = None
    tail: str = ""


class Effect(StrEnum):
    """What is to be done once the state is on the disk."""

    NOTHING = "nothing"
    FETCH = "fetch"
    RESTART = "restart"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True)
class Decision:
    """What holds from now on, what is told, and what is done."""

    state: State
    report: Report
    effect: Effect = Effect.NOTHING
    charged: Outcome | None = field(default=None)


def fold(state: State, starts: Sequence[Start], boot_id: str) -> State:
    """Count the starts that have come to their end since, once each."""
    for index, start in enumerate(starts):
        if start.number <= state.folded:
            continue
        later = starts[index + 1] if index + 1 < len(starts) else None
        if start.end is None and later is None and start.boot_id == boot_id:
            break  # it runs
        state = replace(_counted(state, start, later), folded=start.number)
    return state


def _counted(state: State, start: Start, later: Start | None) -> State:
    trial = state.trial
    if trial is None or start.release != trial.release:
        return state
    if start.end is not None:
        if start.end.result in _HARMLESS:
            return state
        last = f"{start.end.result} {start.end.status}".strip()
        return replace(state, trial=replace(trial, charged=trial.charged + 1, last=last))
    if later is not None and later.boot_id == start.boot_id:
        return replace(state, trial=replace(trial, charged=trial.charged + 1, last="gone without a word"))
    return replace(state, trial=replace(trial, cut=trial.cut + 1))


def exhausted(trial: Trial) -> bool:
    """Return whether a release has had its tries."""
    return trial.charged >= MOST_CHARGED or trial.cut > MOST_CUT


def to_start(state: State, starts: Sequence[Start], boot_id: str) -> list[int]:
    """Return which releases the launcher may start, best first."""
    folded = fold(state, starts, boot_id)
    trial = folded.trial
    order = [trial.release] if trial is not None and not exhausted(trial) else []
    order += [number for number in (state.good, state.previous) if number is not None]
    return order


def begun(state: State, wish: Wish, seen: Seen) -> State:
    """Return the state in which a staged release has to prove itself."""
    now, proof = seen.now, seen.proof
    known = proof is not None and proof.release == state.good and proof.boot_id == now.boot_id
    linked_at = proof.linked_at if known and proof is not None else None
    trial = Trial(
        release=wish.release,
        rollout=wish.rollout,
        attempt=wish.attempt,
        camera=bool(known and proof is not None and proof.camera),
        linked=linked_at is not None and now.up_s - linked_at <= LINK_S,
        boot_id=now.boot_id,
        since=now.up_s,
    )
    last = max((start.number for start in seen.starts), default=state.folded)
    return replace(state, trial=trial, folded=max(state.folded, last))


def refusal(state: State, release: Release, arch: str) -> str | None:
    """Return why a release is not for this device, now and for ever."""
    if release.arch != arch:
        return f"Expected: a release for {arch}. Received: one for {release.arch}."
    if release.launcher > LAUNCHER:
        return (
            f"Expected: a release for launcher {LAUNCHER}. Received: it needs {release.launcher}; "
            "flash the device again."
        )
    if state.good is not None and release.number < state.good and not release.downgrade:
        return (
            f"Expected: a release above {state.good}, or one that devices may go back to. "
            f"Received: {release.number}."
        )
    return None


def settled(state: State, wish: Wish, phase: Phase, reason: str | None = None) -> State:
    """Return the state in which a wish has got its answer."""
    return _with(state, Outcome(wish.rollout, wish.attempt, wish.release, phase.value, reason))


def decide(state: State, seen: Seen) -> Decision:
    """Return what comes next."""
    state = fold(state, seen.starts, seen.now.boot_id)
    if state.trial is not None:
        return _on_trial(state, state.trial, seen)
    if _ready(state, seen) and state.rebooted is not None:
        state = replace(state, rebooted=None)
    if state.good is not None and seen.unready_s >= PATIENCE_S and state.rebooted is None:
        report = _report(state, seen, Phase.WAITING, f"release {state.good} is not ready: one reboot")
        return Decision(replace(state, rebooted=seen.now.boot_id), report, Effect.REBOOT)
    made = _wished(state, seen)
    if made.effect is Effect.NOTHING and _another_runs(state, seen):
        return replace(made, effect=Effect.RESTART)
    return made


def _on_trial(state: State, trial: Trial, seen: Seen) -> Decision:
    if _taken_back(state, trial, seen):
        return _rolled_back(state, trial, "taken back", bad=False)
    if trial.charged >= MOST_CHARGED:
        told = f"ended {trial.charged} times by itself: {trial.last}"
        return _rolled_back(state, trial, f"{told}\n{seen.tail}".strip(), bad=True)
    if trial.cut > MOST_CUT:
        return _rolled_back(state, trial, f"the power was lost {trial.cut} times", bad=False)
    missing = lacking(trial, seen)
    if not missing:
        return _committed(state, trial)
    if trial.boot_id != seen.now.boot_id:
        trial = replace(trial, boot_id=seen.now.boot_id, since=seen.now.up_s)
        state = replace(state, trial=trial)
    if seen.now.up_s - trial.since >= PATIENCE_S:
        told = f"not proven after {PATIENCE_S / 60:.0f} min: {', '.join(missing)}"
        return _rolled_back(state, trial, told, bad=missing != [_LINK])
    report = Report(
        phase=Phase.TRIAL.value,
        rollout=trial.rollout,
        attempt=trial.attempt,
        release=trial.release,
        good=state.good,
        reason=f"waits for: {', '.join(missing)}",
    )
    return Decision(state, report, Effect.RESTART if _another_runs(state, seen) else Effect.NOTHING)


_LINK = "the broker's answer"


def lacking(trial: Trial, seen: Seen) -> list[str]:
    """Return what a release on trial has not shown yet."""
    proof = seen.proof
    if proof is None or (proof.release, proof.boot_id) != (trial.release, seen.now.boot_id):
        return ["ready"]
    if not _runs(seen, trial.release, proof.start):
        return ["ready"]
    if proof.safe_mode is not None:
        return [f"safe mode: {proof.safe_mode[:300]}"]
    slow = "" if proof.slow_ms is None else f" ({proof.slow_ms:.0f} ms is too slow)"
    asked = [
        (proof.golden, "golden vectors"),
        (proof.camera or not trial.camera, "pictures"),
        (proof.inferences >= INFERENCES, f"{INFERENCES} inferences in time{slow}"),
        (proof.puback or not trial.linked, _LINK),
    ]
    return [name for shown, name in asked if not shown]


def _taken_back(state: State, trial: Trial, seen: Seen) -> bool:
    if trial.rollout is None:
        return False
    if seen.wish is None:
        return seen.taken_back
    return seen.wish.release == state.good and seen.wish.key != (trial.rollout, trial.attempt, trial.release)


def _committed(state: State, trial: Trial) -> Decision:
    bad = {number: why for number, why in state.bad.items() if number != trial.release}
    previous = state.good if state.good != trial.release else state.previous
    state = replace(state, good=trial.release, previous=previous, trial=None, bad=bad)
    outcome = Outcome(trial.rollout, trial.attempt, trial.release, Phase.COMMITTED.value)
    state = _with(state, outcome)
    return Decision(state, _told(state, outcome))


def _rolled_back(state: State, trial: Trial, reason: str, *, bad: bool) -> Decision:
    outcome = Outcome(trial.rollout, trial.attempt, trial.release, Phase.ROLLED_BACK.value, reason)
    known = dict(state.bad)
    if bad:
        known[trial.release] = Bad(reason, trial.attempt)
    state = _with(replace(state, trial=None, bad=known), outcome)
    return Decision(state, _told(state, outcome), Effect.RESTART, outcome if bad else None)


def _with(state: State, outcome: Outcome) -> State:
    others = tuple(item for item in state.settled if item.key != outcome.key)
    return replace(state, settled=(*others, outcome)[-16:])


def _told(state: State, outcome: Outcome) -> Report:
    return Report(
        outcome.phase, outcome.rollout, outcome.attempt, outcome.release, state.good, outcome.reason
    )


def _report(state: State, seen: Seen, phase: Phase, reason: str | None = None) -> Report:
    wish = seen.wish
    if wish is None:
        return Report(phase.value, good=state.good, reason=reason)
    return Report(phase.value, wish.rollout, wish.attempt, wish.release, state.good, reason)


def _wished(state: State, seen: Seen) -> Decision:
    wish = seen.wish
    if wish is None:
        last = state.settled[-1] if state.settled else None
        return Decision(state, _told(state, last) if last else _report(state, seen, Phase.IDLE))
    for outcome in state.settled:
        if outcome.key == wish.key:
            return Decision(state, _told(state, outcome))
    bad = state.bad.get(wish.release)
    if wish.release == state.good:
        state = settled(state, wish, Phase.COMMITTED, RAN_ALREADY)
        return Decision(state, _report(state, seen, Phase.COMMITTED, RAN_ALREADY))
    if bad is not None and wish.attempt <= bad.attempt:
        reason = f"rolled back before: {bad.reason}"
        state = settled(state, wish, Phase.ROLLED_BACK, reason)
        return Decision(state, _report(state, seen, Phase.ROLLED_BACK, reason))
    return _due(state, wish, seen)


def _due(state: State, wish: Wish, seen: Seen) -> Decision:
    waits = waiting(wish, seen.now, seen.spread)
    if waits is not None:
        return Decision(state, _report(state, seen, Phase.WAITING, waits))
    if seen.hold is not None and seen.hold.key == wish.key:
        return Decision(state, _report(state, seen, seen.hold.phase, seen.hold.reason))
    return Decision(state, _report(state, seen, Phase.DOWNLOADING), Effect.FETCH)


def waiting(wish: Wish, now: Moment, spread: float) -> str | None:
    """Return what an update must wait for; None where it may begin.

    Args:
        wish: Says when.
        now: The moment.
        spread: From 0 to 1: devices of one window do not all begin with it.
    """
    if wish.not_before is not None and now.wall < wish.not_before:
        return f"not before {wish.not_before:%Y-%m-%d %H:%M} UTC"
    if wish.window is None:
        return None
    first, last = wish.window
    length = (last - first) % _DAY or _DAY
    gone = (now.minute - first) % _DAY
    own = int(spread * min(length / 2, _LONGEST_SPREAD))
    if own <= gone < length:
        return None
    begin = (first + own) % _DAY
    return f"its window, from {begin // 60:02}:{begin % 60:02} on"


def _running(seen: Seen) -> Start | None:
    last = seen.starts[-1] if seen.starts else None
    return last if last is not None and last.end is None and last.boot_id == seen.now.boot_id else None


def _runs(seen: Seen, release: int | None, start: int) -> bool:
    running = _running(seen)
    return running is not None and (running.release, running.number) == (release, start)


def _another_runs(state: State, seen: Seen) -> bool:
    running = _running(seen)
    return running is not None and state.wanted is not None and running.release != state.wanted


def _ready(state: State, seen: Seen) -> bool:
    return ready(seen) is not None and ready(seen) == state.good


def ready(seen: Seen) -> int | None:
    """Return the release whose agent runs and has said that it is ready."""
    proof = seen.proof
    if proof is None or proof.boot_id != seen.now.boot_id:
        return None
    return proof.release if _runs(seen, proof.release, proof.start) else None
