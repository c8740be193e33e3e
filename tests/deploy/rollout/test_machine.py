"""Whatever devices and operators do, in any order: what must always hold of a rollout."""

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from deploy.rollout import logic
from deploy.rollout.model import (
    ENDED,
    FAILED,
    REACHED,
    Rollout,
    Standing,
    State,
    decode,
    encode,
    tally,
)
from edge_agent.contracts.messages import UpdatePhase
from tests.fleet_simulator import FleetSimulator, SimulatedDevice

FATES = st.sampled_from([None, None, None, UpdatePhase.ROLLED_BACK, UpdatePhase.REFUSED, "stuck", "lost"])


class RolloutMachine(RuleBasedStateMachine):
    """A fleet that misbehaves, and an operator who changes their mind."""

    fleet: FleetSimulator
    rollout: Rollout
    attempts: dict[str, int]

    @initialize(
        fates=st.lists(st.tuples(FATES, FATES, st.booleans()), min_size=1, max_size=12),
        waves=st.sampled_from(["1,5%,25%,100%", "100%", "2,50%,100%", "10%,100%"]),
        tolerance=st.sampled_from(["0", "5%", "1", "50%", "100%"]),
    )
    def begin(
        self,
        fates: list[tuple[UpdatePhase | str | None, UpdatePhase | str | None, bool]],
        waves: str,
        tolerance: str,
    ) -> None:
        self.fleet = FleetSimulator(len(fates))
        for name, (first, second, online) in zip(self.fleet.devices, fates, strict=True):
            self.fleet.devices[name].fate = [first, second, None]
            if not online:
                self.fleet.leaves(name)
        self.rollout = self.fleet.begin(waves=tuple(waves.split(",")), tolerance=tolerance)
        self.attempts = {}

    @rule(minutes=st.sampled_from([0.2, 1.0, 10.0, 61.0]))
    def looks(self, minutes: float) -> None:
        """The operator's machine looks; its power may have been cut since: only the file is left."""
        before = self.rollout
        self.rollout = decode(encode(self.fleet.look(self.rollout)), "memory")
        assert self.rollout.wave - before.wave in {0, 1}
        self.asked(before)
        if self.rollout.wave > before.wave or self.rollout.state == State.DONE != before.state:
            self.passed(before)
        self.fleet.later(minutes)

    def asked(self, before: Rollout) -> None:
        """Nobody is asked beyond the places of a wave; only the last one asks everybody."""
        members = self.rollout.members
        fresh = {name for name, member in members.items() if member.wave != before.members[name].wave}
        fresh = {name for name in fresh if members[name].wave is not None}
        for wave, size in list(enumerate(self.rollout.sizes))[:-1]:
            mine = {name for name, member in members.items() if member.wave == wave}
            if fresh & mine:
                assert sum(members[name].standing in REACHED for name in mine) <= size
                assert all(self.fleet.views[name].online for name in fresh & mine)

    def passed(self, before: Rollout) -> None:
        counts = tally(self.rollout.members.values(), before.wave)
        every = tally(self.rollout.members.values())
        assert every[Standing.COMMITTED] >= 1
        if counts.reached:
            assert counts[Standing.COMMITTED] >= counts.reached - before.allowed.of(counts.reached)
            assert counts.failed <= before.allowed.of(counts.reached)
            assert before.well_since is not None or before.soak == timedelta(0)

    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        self.fleet.leaves(data.draw(st.sampled_from(sorted(self.fleet.devices))))

    @rule(data=st.data())
    def returns(self, data: st.DataObject) -> None:
        self.fleet.returns(data.draw(st.sampled_from(sorted(self.fleet.devices))))

    @precondition(lambda self: self.rollout.state == State.RUNNING)
    @rule()
    def pauses(self) -> None:
        self.rollout = logic.paused(self.rollout)

    @precondition(lambda self: self.rollout.state in {State.PAUSED, State.STOPPED})
    @rule()
    def resumes(self) -> None:
        self.rollout = logic.resumed(self.rollout, self.fleet.now)

    @precondition(
        lambda self: (
            self.rollout.state != State.ABORTED
            and any(member.standing in FAILED for member in self.rollout.members.values())
        )
    )
    @rule()
    def retries(self) -> None:
        self.rollout = logic.retried(self.rollout, (), self.fleet.now)

    @precondition(lambda self: self.rollout.state not in ENDED)
    @rule(really=st.sampled_from([False, False, False, True]))
    def aborts(self, really: bool) -> None:
        if really:
            self.rollout = logic.aborted(self.rollout)
            self.fleet.look(self.rollout)
            # At once: nobody is told to run it but those who do.
            for name, view in self.fleet.views.items():
                assert view.desired is None or self.rollout.members[name].phase == UpdatePhase.COMMITTED

    @invariant()
    def attempts_only_rise_and_a_device_never_repeats_a_bad_one(self) -> None:
        if not hasattr(self, "rollout"):
            return
        for name, member in self.rollout.members.items():
            assert member.attempt >= self.attempts.get(name, 1)
            self.attempts[name] = member.attempt
            device: SimulatedDevice = self.fleet.devices[name]
            assert device.bad.get(2, 0) <= member.attempt

    @invariant()
    def what_is_kept_is_what_was_decided(self) -> None:
        if hasattr(self, "rollout"):
            assert decode(encode(self.rollout), "memory") == self.rollout

    @invariant()
    def a_device_is_only_told_what_the_rollout_wants(self) -> None:
        if not hasattr(self, "rollout"):
            return
        for name in logic.wanted(self.rollout):
            assert self.rollout.members[name].wave is not None

    def teardown(self) -> None:
        """Everybody comes back and time passes: it ends, or stops for a reason; nobody blocks it for ever."""
        if not hasattr(self, "rollout"):
            return
        for name in self.fleet.devices:
            self.fleet.returns(name)
        if self.rollout.state == State.PAUSED:
            self.rollout = logic.resumed(self.rollout, self.fleet.now)
        ended = self.fleet.drive(self.rollout, looks=1500)
        assert ended.state in {State.DONE, State.STOPPED, State.ABORTED}
        # One that was aborted after a stop still says why it had stopped.
        assert ended.state == State.ABORTED or (ended.state == State.STOPPED) == (ended.reason is not None)


TestRollout = RolloutMachine.TestCase
TestRollout.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
