"""The rules of updates, as tables and as properties; complaints about other updaters among them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contracts.messages import UpdatePhase
from edge_agent.contracts.release import LAUNCHER, Component, Release
from edge_agent.update import machine
from edge_agent.update.machine import (
    INFERENCES,
    PATIENCE_S,
    Effect,
    Hold,
    Moment,
    Phase,
    Seen,
    begun,
    decide,
    fold,
    refusal,
    to_start,
    waiting,
)
from edge_agent.update.records import End, Proof, Start, Wish
from edge_agent.update.state import Bad, State, Trial

NOW = Moment(datetime(2026, 11, 26, 3, 0, tzinfo=UTC), "b1", 10_000.0)
WISH = Wish("r1", 1, 7)
GOOD = State(good=6, previous=5)
TRIAL = replace(GOOD, trial=Trial(7, "r1", 1, camera=True, linked=True, boot_id="b1", since=9_900.0))
RUNS = Start(10, 7, "b1", 9_950.0)
PROOF = Proof(7, 10, "b1", golden=True, camera=True, inferences=INFERENCES, puback=True, linked_at=9_990.0)
CRASH, STOP, DOG = End("exit-code", "1"), End("success", "0"), End("watchdog", "ABRT")


def seen(**more: object) -> Seen:
    return replace(Seen(NOW, (RUNS,), WISH, proof=PROOF), **more)  # type: ignore[arg-type] # by name


def calm(**more: object) -> Seen:
    """Return what is seen while the good release runs."""
    return seen(**{"starts": (Start(10, 6, "b1", 9_950.0),), "proof": None, **more})


def at(up_s: float, boot: str = "b1") -> Moment:
    return replace(NOW, up_s=up_s, boot_id=boot)


def test_the_words_are_those_of_the_contract() -> None:
    assert [phase.value for phase in Phase] == [phase.value for phase in UpdatePhase]


def test_a_release_that_shows_everything_is_committed() -> None:
    """Nothing marked the update good, so every power cut undid it (ESPHome)."""
    made = decide(TRIAL, seen())
    assert (made.state.good, made.state.previous, made.state.trial) == (7, 6, None)
    assert made.report.phase == Phase.COMMITTED
    assert made.effect is Effect.NOTHING
    cut = seen(now=at(5.0, "b2"), starts=(RUNS, Start(11, 7, "b2", 3.0)), proof=None)
    assert decide(made.state, cut).state.good == 7
    assert decide(made.state, cut).report.phase == Phase.COMMITTED


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"golden": False}, "golden vectors"),
        ({"camera": False}, "pictures"),
        ({"inferences": INFERENCES - 1, "slow_ms": 812.0}, "20 inferences in time (812 ms is too slow)"),
        ({"puback": False}, "the broker's answer"),
        ({"safe_mode": "device.yaml is wrong"}, "safe mode: device.yaml is wrong"),
        ({"release": 6}, "ready"),
        ({"start": 9}, "ready"),
        ({"boot_id": "b0"}, "ready"),
    ],
)
def test_whatever_is_missing_keeps_it_on_trial(change: dict[str, object], missing: str) -> None:
    made = decide(TRIAL, seen(proof=replace(PROOF, **change)))  # type: ignore[arg-type] # by name
    assert made.state.trial is not None
    assert made.report.reason == f"waits for: {missing}"


def test_what_was_dead_before_the_update_is_not_asked_of_it() -> None:
    assert TRIAL.trial is not None
    dead = replace(TRIAL, trial=replace(TRIAL.trial, camera=False, linked=False))
    shown = replace(PROOF, camera=False, puback=False)
    assert decide(dead, seen(proof=shown)).state.good == 7


@pytest.mark.parametrize(
    ("linked_at", "linked"), [(None, False), (NOW.up_s - 3_601, False), (NOW.up_s - 3_599, True)]
)
def test_a_trial_begins_with_what_was_there_before(linked_at: float | None, linked: bool) -> None:
    proof = Proof(6, 9, "b1", camera=True, linked_at=linked_at)
    trial = begun(GOOD, WISH, seen(proof=proof)).trial
    assert trial is not None
    assert (trial.camera, trial.linked) == (True, linked)
    of_another_boot = begun(GOOD, WISH, seen(proof=replace(proof, boot_id="b0"))).trial
    assert of_another_boot is not None
    assert (of_another_boot.camera, of_another_boot.linked) == (False, False)


@pytest.mark.parametrize("end", [CRASH, DOG, End("timeout", "ABRT"), End("oom-kill", "KILL")])
def test_two_ends_of_its_own_fault_are_enough(end: End) -> None:
    once = (replace(RUNS, end=end), Start(11, 7, "b1", 9_960.0))
    made = decide(TRIAL, seen(starts=once, proof=None))
    assert made.state.trial is not None
    assert made.state.trial.charged == 1
    twice = (*once[:1], replace(once[1], end=end))
    made = decide(made.state, seen(starts=twice, proof=None, tail="Traceback: no such module"))
    assert (made.state.good, made.state.trial) == (6, None)
    assert end.result in made.state.bad[7].reason
    assert "no such module" in made.state.bad[7].reason
    assert made.report.phase == Phase.ROLLED_BACK
    assert made.effect is Effect.RESTART


@pytest.mark.parametrize("end", [STOP, End("resources")])
def test_an_end_that_was_asked_for_is_not_charged(end: End) -> None:
    starts = tuple(Start(number, 7, "b1", 9_950.0, end) for number in range(10, 20))
    made = decide(TRIAL, seen(starts=starts, proof=None))
    assert made.state.trial is not None
    assert made.state.trial.charged == 0


def test_power_cuts_are_not_held_against_a_release() -> None:
    starts = [Start(10 + number, 7, f"b{number}", 20.0) for number in range(4)]
    made = decide(TRIAL, seen(now=at(60.0, "b3"), starts=starts, proof=None))
    assert made.state.trial is not None
    assert (made.state.trial.cut, made.state.trial.charged) == (3, 0)
    starts.append(Start(14, 7, "b4", 20.0))
    made = decide(made.state, seen(now=at(60.0, "b4"), starts=starts, proof=None))
    assert (made.state.trial, made.state.good) == (None, 6)
    assert made.state.bad == {}
    assert made.report.phase == Phase.ROLLED_BACK


def test_a_start_that_went_without_a_word_in_the_same_life_is_charged() -> None:
    starts = (RUNS, Start(11, 7, "b1", 9_960.0))
    trial = fold(TRIAL, starts, "b1").trial
    assert trial is not None
    assert trial.charged == 1


def test_each_start_is_counted_once() -> None:
    starts = (replace(RUNS, end=CRASH), Start(11, 7, "b1", 9_960.0))
    once = fold(TRIAL, starts, "b1")
    assert fold(once, starts, "b1") == once


def test_a_second_update_waits_for_the_trial() -> None:
    """A second update during trial collided with rollback (ESPHome #13195)."""
    made = decide(TRIAL, seen(wish=Wish("r2", 1, 8), proof=None))
    assert made.effect is Effect.NOTHING
    assert made.state.trial is not None
    assert (made.report.release, made.report.phase) == (7, Phase.TRIAL)
    after = decide(decide(TRIAL, seen(wish=Wish("r2", 1, 8))).state, seen(wish=Wish("r2", 1, 8)))
    assert after.effect is Effect.FETCH


@pytest.mark.parametrize("how", [{"wish": None, "taken_back": True}, {"wish": Wish("back", 1, 6)}])
def test_a_trial_is_taken_back_at_once(how: dict[str, object]) -> None:
    """A broken deployment cannot be cancelled (Greengrass #1161)."""
    made = decide(TRIAL, seen(**how, proof=None))
    assert (made.state.good, made.state.trial, made.state.bad) == (6, None, {})
    assert made.effect is Effect.RESTART
    assert made.report.reason == "taken back"


def test_silence_takes_nothing_back() -> None:
    assert decide(TRIAL, seen(wish=None, proof=None)).state.trial is not None
    assert TRIAL.trial is not None
    local = replace(TRIAL, trial=replace(TRIAL.trial, rollout=None))
    assert decide(local, seen(wish=None, taken_back=True, proof=None)).state.trial is not None


def test_a_bad_release_is_offered_again_with_a_higher_attempt() -> None:
    """A rolled-back device is never offered the version again (hawkBit #446)."""
    known = replace(GOOD, bad={7: Bad("it crashed", 1)})
    for wish in (WISH, Wish("r2", 1, 7)):
        made = decide(known, calm(wish=wish))
        assert (made.effect, made.report.phase) == (Effect.NOTHING, Phase.ROLLED_BACK)
        assert "it crashed" in str(made.report.reason)
    assert decide(known, calm(wish=Wish("r2", 2, 7))).effect is Effect.FETCH


def test_time_runs_out_for_a_release_that_does_not_prove_itself() -> None:
    late = at(9_900.0 + PATIENCE_S)
    assert decide(TRIAL, seen(now=at(late.up_s - 1), proof=None)).state.trial is not None
    made = decide(TRIAL, seen(now=late, proof=replace(PROOF, camera=False)))
    assert "pictures" in made.state.bad[7].reason
    # A broker that has gone meanwhile is no fault of a release (mender-convert #46).
    made = decide(TRIAL, seen(now=late, proof=replace(PROOF, puback=False)))
    assert (made.report.phase, made.state.bad) == (Phase.ROLLED_BACK, {})
    # And the same wish does not begin it all again.
    assert decide(made.state, calm()).effect is Effect.NOTHING


def test_time_begins_anew_with_another_life_of_the_machine() -> None:
    made = decide(TRIAL, seen(now=at(PATIENCE_S, "b2"), starts=(Start(11, 7, "b2", 5.0),), proof=None))
    assert made.state.trial is not None
    assert (made.state.trial.boot_id, made.state.trial.since) == ("b2", PATIENCE_S)


def test_what_runs_is_what_should() -> None:
    other = seen(starts=(Start(10, 6, "b1", 1.0),), proof=None)
    assert decide(TRIAL, other).effect is Effect.RESTART
    assert decide(replace(GOOD, good=7), replace(other, wish=None)).effect is Effect.RESTART
    assert decide(GOOD, replace(other, wish=None)).effect is Effect.NOTHING
    ended = seen(starts=(Start(10, 6, "b1", 1.0, STOP),), proof=None)
    assert decide(TRIAL, ended).effect is Effect.NOTHING


def test_a_device_on_which_nothing_is_ready_is_rebooted_once() -> None:
    made = decide(GOOD, seen(wish=None, proof=None, unready_s=PATIENCE_S))
    assert (made.effect, made.state.rebooted) == (Effect.REBOOT, "b1")
    again = seen(now=at(2_000.0, "b2"), wish=None, proof=None, unready_s=2 * PATIENCE_S)
    assert decide(made.state, again).effect is Effect.NOTHING
    assert decide(made.state, replace(again, wish=WISH)).effect is Effect.FETCH
    up = seen(
        now=at(2_000.0, "b2"),
        wish=None,
        starts=(Start(11, 6, "b2", 1.0),),
        proof=Proof(6, 11, "b2"),
    )
    assert decide(made.state, up).state.rebooted is None


def test_a_device_that_runs_what_is_wanted_says_so() -> None:
    made = decide(GOOD, calm(wish=Wish("r9", 1, 6), proof=None))
    assert (made.report.phase, made.report.rollout, made.effect) == (Phase.COMMITTED, "r9", Effect.NOTHING)
    idle = decide(State(good=6), calm(wish=None, proof=None))
    assert (idle.report.phase, idle.report.good) == (Phase.IDLE, 6)


def test_a_wish_that_cannot_be_followed_now_is_held() -> None:
    hold = Hold(WISH.key, Phase.REFUSED, "disk is full")
    made = decide(GOOD, calm(hold=hold, proof=None))
    assert (made.effect, made.report.phase) == (Effect.NOTHING, Phase.REFUSED)
    assert decide(GOOD, calm(hold=hold, wish=Wish("r1", 2, 7), proof=None)).effect is Effect.FETCH


@pytest.mark.parametrize(
    ("window", "minute", "spread", "may"),
    [
        ((120, 300), 119, 0.0, False),
        ((120, 300), 120, 0.0, True),
        ((120, 300), 299, 0.99, True),
        ((120, 300), 300, 0.0, False),
        ((120, 300), 149, 0.5, False),
        ((120, 300), 150, 0.5, True),
        ((1380, 60), 1379, 0.0, False),
        ((1380, 60), 1380, 0.0, True),
        ((1380, 60), 1430, 0.9, False),
        ((1380, 60), 30, 0.9, True),
        ((1380, 60), 60, 0.0, False),
        ((60, 60), 5, 0.0, True),
    ],
)
def test_an_update_begins_inside_of_its_window(
    window: tuple[int, int], minute: int, spread: float, may: bool
) -> None:
    wish, wall = replace(WISH, window=window), datetime(2026, 11, 26, *divmod(minute, 60), tzinfo=UTC)
    assert (waiting(wish, replace(NOW, wall=wall), spread) is None) is may


def test_not_before_its_time() -> None:
    wish = replace(WISH, not_before=NOW.wall + timedelta(seconds=1))
    made = decide(GOOD, calm(wish=wish, proof=None))
    assert (made.report.phase, made.effect) == (Phase.WAITING, Effect.NOTHING)
    later = replace(NOW, wall=NOW.wall + timedelta(seconds=1))
    assert decide(GOOD, calm(wish=wish, proof=None, now=later)).effect is Effect.FETCH


def offered(number: int, **more: object) -> Release:
    parts = [Component(kind, "1", f"components/{'0' * 64}.tar", "0" * 64, 1, 1) for kind in "rab"]
    return replace(Release(number, "amd64", "now", *parts), **more)  # type: ignore[arg-type] # by name


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (offered(7), None),
        (offered(5), "above 6"),
        (offered(5, downgrade=True), None),
        (offered(7, arch="arm64"), "for amd64"),
        (offered(7, launcher=LAUNCHER + 1), "flash"),
    ],
)
def test_what_is_never_taken(release: Release, said: str | None) -> None:
    found = refusal(GOOD, release, "amd64")
    assert found is None if said is None else found is not None and said in found


BOOTS = st.sampled_from(["b1", "b2", "b3"])
ENDS = st.none() | st.sampled_from([CRASH, STOP, DOG, End("timeout", "ABRT")])
STARTS = st.lists(st.tuples(st.sampled_from([6, 7, 8]), BOOTS, ENDS), max_size=12).map(
    lambda items: tuple(
        Start(number + 1, release, boot, 1.0, end) for number, (release, boot, end) in enumerate(items)
    )
)
PROOFS = st.none() | st.builds(
    Proof,
    release=st.sampled_from([6, 7]),
    start=st.integers(1, 12),
    boot_id=BOOTS,
    golden=st.booleans(),
    camera=st.booleans(),
    inferences=st.integers(0, 30),
    puback=st.booleans(),
    linked_at=st.none() | st.floats(0, 1e5),
)
WISHES = st.none() | st.builds(
    Wish,
    rollout=st.sampled_from(["r1", "r2"]),
    attempt=st.integers(1, 3),
    release=st.sampled_from([5, 6, 7, 8]),
)
SEEN = st.builds(
    Seen,
    now=st.builds(Moment, st.just(NOW.wall), BOOTS, st.floats(0, 1e5)),
    starts=STARTS,
    wish=WISHES,
    taken_back=st.booleans(),
    proof=PROOFS,
    unready_s=st.floats(0, 2_000),
)
STATES = st.builds(
    State,
    good=st.just(6),
    previous=st.none() | st.just(5),
    trial=st.none()
    | st.builds(
        Trial,
        release=st.just(7),
        rollout=st.none() | st.just("r1"),
        attempt=st.integers(1, 3),
        charged=st.integers(0, 1),
        cut=st.integers(0, 3),
        camera=st.booleans(),
        linked=st.booleans(),
        boot_id=BOOTS,
        since=st.floats(0, 1e5),
    ),
    bad=st.dictionaries(st.sampled_from([7, 8]), st.builds(Bad, st.just("why"), st.integers(1, 3))),
    folded=st.integers(0, 12),
)


@given(STATES, SEEN)
def test_a_decision_is_whole(state: State, given_seen: Seen) -> None:
    made = decide(state, given_seen)
    assert made.state.good is not None, "there is always one to fall back to"
    if made.state.good != state.good:
        assert state.trial is not None
        assert made.state.good == state.trial.release
        assert machine.lacking(state.trial, given_seen) == []
    if made.effect in {Effect.FETCH, Effect.REBOOT}:
        assert made.state.trial is None
    assert made.state.folded >= state.folded
    # To decide again of the same comes to the same: a crash between deciding and doing loses nothing.
    again = decide(made.state, given_seen)
    if made.effect is Effect.NOTHING:
        assert again.state == made.state
    assert again.state.good == made.state.good
    assert set(made.state.bad) >= set(state.bad) - {made.state.good}


@given(STATES, STARTS, BOOTS)
def test_the_launcher_always_knows_what_to_start(state: State, starts: tuple[Start, ...], boot: str) -> None:
    order = to_start(state, starts, boot)
    assert state.good in order
    trial = fold(state, starts, boot).trial
    assert (7 in order) is (trial is not None and not machine.exhausted(trial))


@given(st.lists(st.sampled_from(["crash", "cut", "hang", "stop"]), max_size=20))
def test_a_release_that_never_proves_itself_ends_as_it_must(fates: list[str]) -> None:
    """Whatever happens to it: at most two ends of its own, or three cuts, and the good one runs."""
    state, boot, starts = TRIAL, 1, [Start(1, 6, "b1", 1.0, STOP)]
    state = replace(state, folded=1)
    charged = cuts = 0
    for fate in fates:
        name = f"b{boot}"
        order = to_start(state, starts, name)
        starts.append(Start(len(starts) + 1, order[0], name, 5.0))
        tried = order[0] == 7
        now = at(10.0, name)
        state = decide(state, seen(now=now, starts=starts, proof=None, wish=None)).state
        if fate == "cut":
            boot, cuts = boot + 1, cuts + tried
        else:
            end = {"crash": CRASH, "hang": DOG, "stop": STOP}[fate]
            starts[-1] = replace(starts[-1], end=end)
            charged += tried and fate != "stop"
        now = at(11.0, f"b{boot}")
        state = decide(state, seen(now=now, starts=starts, proof=None, wish=None)).state
        assert (state.trial is None) is (charged >= 2 or cuts > 3)
        assert (7 in state.bad) is (charged >= 2)
    assert charged <= 2
    assert cuts <= 4
