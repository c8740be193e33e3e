"""Ten thousand devices behind the real logic: a bad release stops early, a good one gets everywhere."""

import pytest

from deploy.rollout.model import Standing, State, tally
from tests.fleet_simulator import Chances, FleetSimulator


def test_a_release_that_is_bad_everywhere_stops_in_its_canary() -> None:
    fleet = FleetSimulator(10_000, Chances(bad=1.0, offline=0.1))
    ended = fleet.drive(fleet.begin())
    assert ended.state == State.STOPPED
    assert ended.wave == 0
    assert fleet.touched() == 1
    assert fleet.running() == {1: 10_000}
    assert "ended 2 times" in str(ended.reason)


def test_a_release_that_is_bad_on_some_boards_stops_before_a_quarter_has_it() -> None:
    fleet = FleetSimulator(10_000, Chances(bad=0.08, offline=0.05), seed=3)
    ended = fleet.drive(fleet.begin(), minutes=5)
    assert ended.state == State.STOPPED
    assert ended.wave <= 1
    assert fleet.touched() <= 501


@pytest.mark.slow
def test_a_good_release_gets_everywhere_though_some_are_away_and_some_fail() -> None:
    fleet = FleetSimulator(10_000, Chances(bad=0.005, refused=0.004, stuck=0.004, offline=0.03), seed=4)
    ended = fleet.drive(fleet.begin(), minutes=5)
    # The canary itself may be one of the few that fail: another seed decides that.
    assert ended.state == State.DONE
    counts = tally(ended.members.values())
    assert counts[Standing.COMMITTED] > 9_500
    assert counts[Standing.OFFLINE] > 200
    assert counts.failed < 500
    assert sum(counts.counts.values()) == 10_000
    # Those that were away have it waiting for them.
    for name, member in ended.members.items():
        if member.standing == Standing.OFFLINE:
            fleet.returns(name)
            break
    for _ in range(10):
        fleet.later()
    assert fleet.devices[name].good == 2 or fleet.devices[name].fate != [None]


def test_a_release_that_cuts_devices_off_does_not_eat_the_fleet_one_by_one() -> None:
    fleet = FleetSimulator(1_000, Chances(lost=1.0))
    ended = fleet.drive(fleet.begin())
    assert ended.state == State.STOPPED
    assert fleet.touched() == 1
    assert tally(ended.members.values())[Standing.OVERDUE] == 1
