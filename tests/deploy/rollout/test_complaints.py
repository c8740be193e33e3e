"""What users of such tools complain about, each as a case; and what an operator may write."""

from dataclasses import replace
from datetime import timedelta

import pytest

from deploy.rollout import logic, waves
from deploy.rollout.model import Rollout, Standing, State, decode, encode, tally
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.messages import UpdatePhase
from tests.fleet_simulator import Chances, FleetSimulator


def standings(rollout: Rollout) -> dict[Standing, int]:
    return dict(tally(rollout.members.values()).counts)


def first(rollout: Rollout) -> str:
    """The canary."""
    return next(iter(rollout.members))


def test_a_device_that_never_returns_blocks_nothing() -> None:
    fleet = FleetSimulator(20)
    rollout = fleet.begin()
    for name in [*rollout.members][:5]:
        fleet.leaves(name)
    ended = fleet.drive(rollout)
    assert ended.state == State.DONE
    assert standings(ended) == {Standing.COMMITTED: 15, Standing.OFFLINE: 5}
    assert {device.good for device in fleet.devices.values() if device.online} == {2}


def test_a_canary_that_is_away_gives_its_place_to_another() -> None:
    fleet = FleetSimulator(20)
    rollout = fleet.look(fleet.begin())
    canary = first(rollout)
    assert fleet.views[canary].desired is not None
    fleet.leaves(canary)
    rollout = fleet.look(rollout)
    assert fleet.views[canary].desired is None
    assert [member.wave for member in rollout.members.values()].count(0) == 1


def test_a_fleet_of_which_nobody_is_there_waits() -> None:
    fleet = FleetSimulator(5, Chances(offline=1.0))
    rollout = fleet.drive(fleet.begin(), looks=500)
    assert (rollout.state, rollout.wave) == (State.RUNNING, 0)
    for name in fleet.devices:
        fleet.returns(name)
    assert fleet.drive(rollout).state == State.DONE


def test_a_rolled_back_device_is_offered_the_release_again_with_a_higher_attempt() -> None:
    fleet = FleetSimulator(10)
    rollout = fleet.begin()
    fleet.devices[first(rollout)].fate = [UpdatePhase.ROLLED_BACK, None]
    stopped = fleet.drive(rollout)
    assert stopped.state == State.STOPPED
    again = logic.retried(stopped, [], fleet.now)
    assert again.members[first(again)].attempt == 2
    ended = fleet.drive(again)
    assert (ended.state, standings(ended)) == (State.DONE, {Standing.COMMITTED: 10})


def test_without_a_higher_attempt_a_bad_release_is_not_tried_again() -> None:
    fleet = FleetSimulator(10)
    rollout = fleet.begin()
    name = first(rollout)
    fleet.devices[name].fate = [UpdatePhase.ROLLED_BACK, None]
    fleet.drive(rollout)
    second = replace(fleet.begin(), id="another")
    second = replace(second, members={name: rollout.members[name], **second.members})
    ended = fleet.drive(second)
    assert ended.state == State.STOPPED
    assert ended.members[name].standing == Standing.REFUSED
    assert fleet.devices[name].good == 1


def test_a_stopped_rollout_is_called_off_at_once() -> None:
    fleet = FleetSimulator(200)
    rollout = fleet.begin(waves=("100%",))
    fleet.devices[first(rollout)].fate = [UpdatePhase.ROLLED_BACK]
    rollout = fleet.look(replace(rollout, tolerance="0"))
    for _ in range(5):
        fleet.later()
    fleet.devices[max(fleet.devices)].place = 1
    stopped = fleet.look(rollout)
    assert stopped.state == State.STOPPED
    aborted = logic.aborted(stopped)
    fleet.look(aborted)
    told = [name for name, view in fleet.views.items() if view.desired is not None]
    assert all(aborted.members[name].phase == UpdatePhase.COMMITTED for name in told)
    # Said once more, as after a broker that was away: devices are told once more.
    assert logic.aborted(logic.settled(aborted)) == aborted
    with pytest.raises(UsageError, match="ended"):
        logic.resumed(aborted, fleet.now)


def test_a_running_rollout_is_called_off_at_once_with_devices_on_their_way() -> None:
    fleet = FleetSimulator(10)
    rollout = fleet.look(fleet.begin())
    fleet.later()
    assert fleet.devices[first(rollout)].place >= 0
    rollout = fleet.look(logic.aborted(rollout))
    assert all(view.desired is None for view in fleet.views.values())
    fleet.later()
    assert fleet.running() == {1: 10}


def test_a_slow_network_is_overdue_and_not_a_bad_release() -> None:
    fleet = FleetSimulator(10)
    rollout = fleet.begin()
    name = first(rollout)
    fleet.devices[name].fate = ["stuck"]
    stopped = fleet.drive(rollout)
    assert stopped.members[name].standing == Standing.OVERDUE
    assert not fleet.devices[name].bad
    # It gets there after all, under the same attempt: nothing is held against it.
    fleet.devices[name].fate = [None]
    resumed = fleet.drive(logic.resumed(stopped, fleet.now))
    assert resumed.state == State.DONE
    assert standings(resumed) == {Standing.COMMITTED: 10}


def test_a_device_that_is_away_when_it_is_due_is_given_as_long_again_once() -> None:
    fleet = FleetSimulator(3)
    rollout = fleet.begin(waves=("100%",), soak=timedelta(days=1), tolerance="50%")
    name = first(rollout)
    fleet.devices[name].fate = ["stuck"]
    rollout = fleet.look(rollout)
    fleet.leaves(name)
    for _ in range(62):
        fleet.later()
    rollout = fleet.look(rollout)
    assert standings(rollout) == {Standing.OFFLINE: 1, Standing.COMMITTED: 2}
    fleet.returns(name)
    rollout = fleet.look(rollout)
    assert rollout.members[name].standing == Standing.WAITING
    for _ in range(61):
        fleet.later()
    assert fleet.look(rollout).members[name].standing == Standing.OVERDUE


@pytest.mark.parametrize("minutes", [59, 61, 24 * 60])
def test_killed_between_keeping_and_telling_is_no_failure_of_a_device(minutes: int) -> None:
    fleet = FleetSimulator(10)
    kept = logic.step(fleet.begin(), fleet.views, fleet.now)
    assert kept.members[first(kept)].standing == Standing.WAITING
    assert fleet.views[first(kept)].desired is None
    fleet.now += timedelta(minutes=minutes)
    told = fleet.look(logic.resumed(kept, fleet.now))
    assert told.state == State.RUNNING
    # It has its whole time from when it is told, and not more.
    fleet.devices[first(kept)].fate = ["stuck"]
    for _ in range(50):
        fleet.later()
        told = fleet.look(told)
    assert told.members[first(kept)].standing == Standing.UPDATING
    for _ in range(15):
        fleet.later()
        told = fleet.look(told)
    assert told.state == State.STOPPED
    assert "1 overdue" in str(told.reason)


def test_who_cannot_be_told_is_not_late_and_is_not_kept_at_each_look() -> None:
    """The broker takes nothing in: the operator's trouble, and no device's."""
    fleet = FleetSimulator(10)
    rollout = logic.step(fleet.begin(), fleet.views, fleet.now)
    kept = [rollout]
    for _ in range(2 * 60 * 60):
        fleet.now += timedelta(seconds=1)
        rollout = logic.step(rollout, fleet.views, fleet.now)
        if rollout is not kept[-1]:
            kept.append(rollout)
    assert rollout.members[first(rollout)].standing == Standing.WAITING
    assert len(kept) < 25


def test_a_device_that_must_not_begin_yet_is_not_late() -> None:
    fleet = FleetSimulator(10)
    begin = fleet.now + timedelta(hours=5)
    rollout = fleet.look(fleet.begin(not_before=begin))
    told = fleet.views[first(rollout)].desired
    assert told is not None
    assert (told.not_before, told.deadline) == (begin, begin + rollout.within)
    fleet.now = begin + timedelta(minutes=1)
    assert fleet.look(rollout).members[first(rollout)].standing == Standing.WAITING
    # It is kept: another process goes on with it.
    assert decode(encode(rollout), "memory").not_before == begin


@pytest.mark.parametrize("text", ["2026-11-27", "2026-11-27T02:00:00", "tomorrow", "02:00"])
def test_moments_without_a_zone_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--not-before"):
        waves.moment("--not-before", text)


def test_a_rollout_that_was_begun_before_goes_on() -> None:
    """As files were before devices could be owed a word, and could be told when to begin."""
    kept = (
        b'{"id":"r2-20261126T090000","release":2,"created":"2026-11-26T09:00:00.000Z","waves":["1","100%"],'
        b'"soak":"PT0S","within":"PT1H","tolerance":"5%","since":"2026-11-26T09:00:00.000Z",'
        b'"members":{"cam-00000":{"store":"0000"},"cam-00001":{"store":"0000","wave":0,'
        b'"due":"2026-11-26T10:00:00.000Z","standing":"waiting"}}}'
    )
    fleet = FleetSimulator(2)
    assert fleet.drive(decode(kept, "memory")).state == State.DONE


def test_a_paused_rollout_lets_nobody_begin_and_those_on_their_way_end() -> None:
    fleet = FleetSimulator(10)
    rollout = fleet.begin(waves=("2", "100%"))
    one, two = [*rollout.members][:2]
    rollout = fleet.look(rollout)
    fleet.devices[two].place = -1  # waits for its window
    fleet.later()
    paused = fleet.look(logic.paused(fleet.look(rollout)))
    assert fleet.views[one].desired is not None
    assert fleet.views[two].desired is None
    for _ in range(90):
        fleet.later()
        paused = fleet.look(paused)
    assert fleet.running() == {2: 1, 1: 9}
    assert paused.members[two].standing != Standing.OVERDUE
    assert fleet.drive(logic.resumed(paused, fleet.now)).state == State.DONE


def test_resuming_after_a_stop_proves_the_release_on_another_canary() -> None:
    fleet = FleetSimulator(10)
    rollout = fleet.begin()
    fleet.devices[first(rollout)].fate = [UpdatePhase.ROLLED_BACK]
    stopped = fleet.drive(rollout)
    again = fleet.look(logic.resumed(stopped, fleet.now))
    assert again.wave == 0
    assert [m.standing for m in again.members.values() if m.wave == 0] == [Standing.EXCUSED, Standing.WAITING]
    assert fleet.drive(again).state == State.DONE


def test_a_pinned_device_is_left_alone_and_counts_for_nothing() -> None:
    fleet = FleetSimulator(10)
    rollout = fleet.look(fleet.begin(waves=("100%",)))
    name = first(rollout)
    fleet.views[name] = replace(fleet.views[name], left_out=True)
    rollout = fleet.look(rollout)
    assert rollout.members[name].standing == Standing.LEFT_OUT
    assert fleet.views[name].desired is None
    ended = fleet.drive(rollout)
    assert (ended.state, fleet.devices[name].good) == (State.DONE, 1)


def test_a_device_that_runs_the_release_already_needs_nothing() -> None:
    fleet = FleetSimulator(10, good=2)
    rollout = fleet.begin()
    for name, device in fleet.devices.items():
        device.told(None)
        assert device.reported is not None
        fleet.views[name] = replace(fleet.views[name], reported=device.reported)
    ended = fleet.drive(rollout)
    assert ended.state == State.DONE
    assert all(view.desired is None for view in fleet.views.values())


def test_a_wave_soaks_before_the_next_one_begins() -> None:
    fleet = FleetSimulator(10)
    begun: dict[int, timedelta] = {}
    fleet.drive(
        fleet.begin(soak=timedelta(minutes=30)),
        watch=lambda item: begun.setdefault(item.wave, fleet.now - item.created),
    )
    gaps = [later - earlier for earlier, later in zip(begun.values(), list(begun.values())[1:], strict=False)]
    assert len(gaps) == 2
    assert all(gap >= timedelta(minutes=30) for gap in gaps)


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("1,5%,25%,100%", 10_000, (1, 499, 2000, 7500)),
        ("1,5%,25%,100%", 10, (1, 2, 7)),
        ("1,5%,25%,100%", 1, (1,)),
        ("100%", 7, (7,)),
        ("0.1%,100%", 10_000, (10, 9990)),
        ("50,10%,100%", 100, (50, 50)),
    ],
)
def test_waves_bring_so_many_devices(text: str, count: int, expected: tuple[int, ...]) -> None:
    assert waves.sizes(waves.waves(text), count) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "1,5%", "0,100%", "x,100%", "1.5,100%", "-1,100%", "101%", "1;100%"]
)
def test_waves_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--waves"):
        waves.waves(text)


@pytest.mark.parametrize("text", ["2:00-5:00", "02:00", "24:00-01:00", "02:00-02:00", "02:00-05:60"])
def test_windows_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--window"):
        waves.window(text)


@pytest.mark.parametrize("text", ["", "10", "m", "1.5h", "10 m", "1w"])
def test_spans_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--soak"):
        waves.span("--soak", text)
