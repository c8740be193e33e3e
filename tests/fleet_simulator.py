"""Ten thousand devices in memory, behind the real logic of rollouts; messages are real bytes.

A device does what the updater does: it waits for its place in the window, fetches, tries, and commits or
rolls back, settles each wish once, and tries a bad release again only with a higher attempt.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from deploy.rollout.brokers import seen, to_tell
from deploy.rollout.logic import Wish, begun, step, wanted
from deploy.rollout.model import ENDED, NOTHING, Rollout, State, View
from edge_agent.contracts import messages
from edge_agent.contracts.messages import Availability, Desired, Health, Reported, UpdatePhase
from edge_agent.contracts.topics import DeviceTopics

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
_WAY = (
    UpdatePhase.WAITING,
    UpdatePhase.DOWNLOADING,
    UpdatePhase.VERIFIED,
    UpdatePhase.STAGED,
    UpdatePhase.TRIAL,
)


@dataclass(frozen=True, kw_only=True)
class Chances:
    """What becomes of a device, by probability; else it commits.

    Attributes:
        bad: Rolls back.
        refused: Has no room, or is not meant.
        stuck: Begins, and never gets there: overdue.
        lost: Is cut off by what it tries.
        offline: Is away when the rollout begins.
        returns: Of those that are away, at each look.
        leaves: Of those that are there and idle, at each look.
    """

    bad: float = 0.0
    refused: float = 0.0
    stuck: float = 0.0
    lost: float = 0.0
    offline: float = 0.0
    returns: float = 0.0
    leaves: float = 0.0


GOOD = Chances()


@dataclass
class SimulatedDevice:
    """One device.

    Attributes:
        good: The release that it runs.
        fate: What will become of the release that it is told to run, of attempt 1 and of later ones.
    """

    store: str
    good: int
    online: bool
    fate: list[UpdatePhase | str | None]
    desired: Desired | None = None
    place: int = -1
    bad: dict[int, int] = field(default_factory=dict)
    reported: Reported | None = None

    def told(self, wish: Desired | None) -> Reported | None:
        """Take in what it is told; return what it says, if anything."""
        known = self.reported
        if wish is not None and known is not None and self._same(wish, known):
            self.desired = wish
            return None
        self.desired, self.place = wish, -1
        if wish is None:
            return self._says(UpdatePhase.IDLE, None)
        if wish.release == self.good:
            return self._says(UpdatePhase.COMMITTED, wish)
        if wish.attempt <= self.bad.get(wish.release, 0):
            return self._says(UpdatePhase.REFUSED, wish, "it was bad before")
        self.place = 0
        return self._says(_WAY[0], wish)

    def moves(self) -> Reported | None:
        """Take one step on its way; return what it says, if anything."""
        if self.place < 0 or not self.online or self.desired is None:
            return None
        fate = self.fate[min(self.desired.attempt, len(self.fate)) - 1]
        if fate == "stuck" and self.place == 1:
            return None
        if fate == UpdatePhase.REFUSED:
            self.place = -1
            return self._says(UpdatePhase.REFUSED, self.desired, "Expected: room. Received: too little.")
        self.place += 1
        if self.place < len(_WAY):
            return self._says(_WAY[self.place], self.desired)
        self.place = -1
        return self._ends(self.desired, fate)

    def _ends(self, wish: Desired, fate: UpdatePhase | str | None) -> Reported | None:
        if fate == UpdatePhase.ROLLED_BACK:
            self.bad[wish.release] = wish.attempt
            return self._says(UpdatePhase.ROLLED_BACK, wish, "ended 2 times by itself: exit-code 1")
        if fate == "lost":
            self.online = False
            return None
        self.good = wish.release
        return self._says(UpdatePhase.COMMITTED, wish)

    @staticmethod
    def _same(wish: Desired, known: Reported) -> bool:
        return (wish.rollout, wish.attempt, wish.release) == (known.rollout, known.attempt, known.release)

    def _says(self, phase: UpdatePhase, wish: Desired | None, reason: str | None = None) -> Reported:
        self.reported = Reported(
            rollout=wish.rollout if wish else None,
            attempt=wish.attempt if wish else None,
            release=wish.release if wish else None,
            phase=phase,
            good=self.good,
            reason=reason,
            boot_id="5f0c9a52-d1b8-4d0e-8f4c-2b1a90e7d655",
            time=NOW,
        )
        return self.reported


class FleetSimulator:
    """A fleet, its brokers, and the operator's view of them.

    Args:
        count: Of devices, spread over stores of fifty.
        chances: What becomes of them.
        seed: Decides who.
        good: The release that they run.
    """

    def __init__(self, count: int, chances: Chances = GOOD, *, seed: int = 1, good: int = 1) -> None:
        self.rng, self.chances, self.now = random.Random(seed), chances, NOW
        self.devices = {
            f"cam-{number:05}": SimulatedDevice(
                store=f"{number // 50:04}",
                good=good,
                online=self.rng.random() >= chances.offline,
                fate=[self._fate()],
            )
            for number in range(count)
        }
        self.views: dict[str, View] = {}
        self.messages = self.bytes = 0
        for name, device in self.devices.items():
            self._health(name, device)

    def begin(self, release: int = 2, **options: object) -> Rollout:
        """Begin a rollout; `options` as in `Wish`."""
        wish = Wish(
            release=release,
            waves=("1", "5%", "25%", "100%"),
            soak=timedelta(minutes=10),
            within=timedelta(hours=1),
            tolerance="5%",
        )
        stores = {name: device.store for name, device in self.devices.items()}
        return begun(f"r{release}", replace(wish, **options), stores, {}, self.now)  # type: ignore[arg-type]

    def look(self, rollout: Rollout) -> Rollout:
        """Let the operator look once, and tell."""
        rollout = step(rollout, self.views, self.now)
        for name, wish in to_tell(self.devices, wanted(rollout), self.views, {rollout.id}).items():
            device = self.devices[name]
            payload = b"" if wish is None else messages.encode(wish)
            self._said(name, device, "desired", payload)
            if device.online:
                self._hears(name, device, payload)
        return rollout

    def later(self, minutes: float = 1.0) -> None:
        """Let time pass: each device takes a step; some come and go."""
        self.now += timedelta(minutes=minutes)
        for name, device in self.devices.items():
            was = device.online
            said = device.moves()
            if said is not None:
                self._said(name, device, "reported", messages.encode(said))
            if was and device.place < 0 and self.rng.random() < self.chances.leaves:
                device.online = False
            if not was and self.rng.random() < self.chances.returns:
                self.returns(name)
            if device.online != was:
                self._health(name, device)

    def leaves(self, name: str) -> None:
        """Cut a device off."""
        self.devices[name].online = False
        self._health(name, self.devices[name])

    def returns(self, name: str) -> None:
        """Let a device come back; it hears what is retained."""
        device = self.devices[name]
        device.online = True
        self._health(name, device)
        told = self.views.get(name, NOTHING).desired
        self._hears(name, device, b"" if told is None else messages.encode(told))

    def drive(
        self,
        rollout: Rollout,
        *,
        looks: int = 2000,
        minutes: float = 1.0,
        watch: Callable[[Rollout], object] | None = None,
    ) -> Rollout:
        """Look again and again until it has ended or is stopped; watch what it was before."""
        for _ in range(looks):
            rollout = self.look(rollout)
            if watch is not None:
                watch(rollout)
            if rollout.state in {*ENDED, State.STOPPED, State.PAUSED}:
                return rollout
            self.later(minutes)
        return rollout

    def running(self) -> Mapping[int, int]:
        """Return how many devices run which release."""
        found: dict[int, int] = {}
        for device in self.devices.values():
            found[device.good] = found.get(device.good, 0) + 1
        return found

    def touched(self) -> int:
        """Return how many devices were ever told, and heard it."""
        return sum(device.reported is not None for device in self.devices.values())

    def _fate(self) -> UpdatePhase | str | None:
        drawn, chances = self.rng.random(), self.chances
        for fate, share in (
            (UpdatePhase.ROLLED_BACK, chances.bad),
            (UpdatePhase.REFUSED, chances.refused),
            ("stuck", chances.stuck),
            ("lost", chances.lost),
        ):
            if drawn < share:
                return fate
            drawn -= share
        return None

    def _hears(self, name: str, device: SimulatedDevice, payload: bytes) -> None:
        said = device.told(messages.decode(Desired, payload) if payload else None)
        if said is not None:
            self._said(name, device, "reported", messages.encode(said))

    def _health(self, name: str, device: SimulatedDevice) -> None:
        status = Availability.ONLINE if device.online else Availability.OFFLINE
        self._said(name, device, "health", messages.encode(Health(status=status)))

    def _said(self, name: str, device: SimulatedDevice, leaf: str, payload: bytes) -> None:
        self.messages += 1
        self.bytes += len(getattr(DeviceTopics(device.store, name), leaf)) + len(payload)
        self.views[name] = seen(self.views.get(name, NOTHING), leaf, payload)
