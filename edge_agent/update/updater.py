"""The updater at work: what the state machine decides is made durable, told, and done. In this order.

Telling waits for nobody: where the disk does not take it, the next look tells it, and what is due is done.

A failure of network, disk or repository is held against no release: it is tried again, ever more seldom.
"""

import hashlib
import logging
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from edge_agent.contracts.errors import BundleError, ConfigError, DeviceError, KitError, ServiceError
from edge_agent.contracts.release import Place, Release
from edge_agent.update import exchange, launcher, machine, slots, state
from edge_agent.update.fetch import Repository
from edge_agent.update.install import download
from edge_agent.update.machine import Decision, Effect, Hold, Moment, Phase, Seen
from edge_agent.update.records import Report, Source, Wish
from edge_agent.update.refusals import ExpiredError
from edge_agent.update.state import State
from edge_agent.update.units import LAUNCHED
from edge_agent.update.wire import Tls

log = logging.getLogger(__name__)

_FIRST_HOLD_S, _LONGEST_HOLD_S = 60.0, 3600.0
_FIRST_RESTART_S, _LONGEST_RESTART_S = 30.0, 600.0
_LOOK_S = 1.0
_SYSTEM_S = 60.0


class System(Protocol):
    """What the updater needs of the machine."""

    def restart(self) -> None:
        """Let the agent end, and the launcher start what holds now."""

    def reboot(self) -> None:
        """Begin a new life of the machine."""

    def tail(self) -> str:
        """Return the agent's last lines."""


class Systemd:
    """A machine under systemd; what does not work is said, and changes nothing."""

    def restart(self) -> None:
        """Let the agent end, and the launcher start what holds now."""
        self._run("systemctl", "restart", "--no-block", LAUNCHED)

    def reboot(self) -> None:
        """Begin a new life of the machine."""
        self._run("systemctl", "reboot", "--no-block")

    def tail(self) -> str:
        """Return the agent's last lines."""
        return self._run("journalctl", "--unit", LAUNCHED, "--lines=20", "--output=cat", "--no-pager")

    def _run(self, *command: str) -> str:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=_SYSTEM_S
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            log.warning("%s: %s", command[0], exc)
            return ""
        if done.returncode:
            log.warning("%s: %s", " ".join(command), done.stderr.strip()[-300:])
        return done.stdout


class TakenBackError(Exception):
    """What is being fetched is not wanted any more: no error to anybody outside."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When a device looks, and when it begins.

    Attributes:
        device_id: What makes it begin at another moment of a window than others.
        jitter_s: Where a wish has no window, devices begin within this time.
        tick_s: Between two looks.
    """

    device_id: str = ""
    jitter_s: float = 0.0
    tick_s: float = 2.0


class Updater:
    """One device's updater.

    Args:
        place: The device's releases.
        arch: Of the device, as Debian names it.
        system: The machine.
        pace: When it looks and begins.
        boot: This life of the machine.
        up_s: Seconds since it began.
        wall: The clock, which may be wrong.
    """

    def __init__(
        self,
        place: Place,
        arch: str,
        system: System,
        *,
        pace: Pace = Pace(),
        boot: str | None = None,
        up_s: Callable[[], float] = launcher.up_s,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.place, self._arch, self._system, self._pace = place, arch, system, pace
        self._boot, self._up_s, self._wall = boot or launcher.boot_id(), up_s, wall
        self._exchange = exchange.Exchange(place)
        self._hold: Hold | None = None
        self._hold_until, self._hold_s = 0.0, _FIRST_HOLD_S
        self._heard: tuple[tuple[str | None, int, int], float] | None = None
        self._restart_after, self._restart_s = 0.0, _FIRST_RESTART_S
        self._tidy = False

    def run(self, stop: threading.Event) -> None:
        """Go on until told to end; nothing that fails once ends it."""
        while not stop.is_set():
            try:
                with slots.locked(self.place, wait=False) as mine:
                    if mine:
                        self.tick()
            except (DeviceError, OSError) as exc:
                log.warning("%s", exc)
            stop.wait(self._pace.tick_s)

    @property
    def told(self) -> Report | None:
        """What was told last."""
        return self._exchange.told

    def tick(self) -> Decision:
        """Look once, and do what is due.

        Raises:
            DeviceError: The disk does not take it; the next look tries again.
        """
        known = state.load(self.place)
        now = self._now()
        seen = self._seen(now)
        decision = machine.decide(known, seen)
        if decision.charged is not None:
            # Said why, with the agent's own last words.
            decision = machine.decide(known, replace(seen, tail=self._system.tail().strip()[-1500:]))
        self._keep(known, decision.state)
        self._tell(replace(decision.report, previous=decision.state.previous), now)
        self._do(decision, seen)
        return decision

    def _tell(self, report: Report, now: Moment) -> None:
        try:
            self._exchange.tell(report, now)
        except DeviceError as exc:
            log.warning("%s", exc)

    def _now(self) -> Moment:
        return Moment(self._wall(), self._boot, self._up_s())

    def _seen(self, now: Moment) -> Seen:
        seen = self._exchange.seen(now, hold=self._hold if now.up_s < self._hold_until else None)
        if seen.wish is None:
            self._heard = None
            return seen
        if self._heard is None or self._heard[0] != seen.wish.key:
            self._heard = seen.wish.key, now.up_s
            self._hold, self._hold_s = None, _FIRST_HOLD_S
        spread = self._spread(seen.wish)
        late = self._heard[1] + spread * self._pace.jitter_s
        if seen.wish.window is None and now.up_s < late and seen.hold is None:
            hold = Hold(seen.wish.key, Phase.WAITING, "devices do not all begin at once")
            seen = replace(seen, hold=hold)
        return replace(seen, spread=spread)

    def _spread(self, wish: Wish) -> float:
        text = f"{self._pace.device_id}/{wish.rollout}/{wish.attempt}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32

    def _keep(self, before: State, after: State) -> None:
        """Make a state hold, and the disk fit it; a disk that is full is made room on for the next look."""
        try:
            if after != before or not self.place.state.exists():
                state.save(self.place, after)
            slots.settle(self.place, after)
        except DeviceError:
            self._clean(before)
            raise
        if before.trial is not None and after.trial is None:
            self._tidy = False

    def _do(self, decision: Decision, seen: Seen) -> None:
        if decision.effect is Effect.FETCH and seen.wish is not None:
            self._fetch(decision.state, seen.wish, seen)
        elif decision.effect is Effect.RESTART:
            self._restart(seen.now, at_once=decision.report.phase == Phase.ROLLED_BACK)
        elif decision.effect is Effect.REBOOT:
            log.error("%s", decision.report.reason)
            self._system.reboot()
        elif not self._tidy and decision.state.trial is None:
            self._clean(decision.state)
            self._tidy = True
        if decision.effect is Effect.NOTHING:
            self._restart_s = _FIRST_RESTART_S

    def _clean(self, known: State) -> None:
        """Remove what no release needs that this state keeps."""
        slots.forget_downloads(self.place)
        slots.collect(self.place, known)

    def _restart(self, now: Moment, *, at_once: bool = False) -> None:
        """Let the agent be started anew; not again and again where that leads nowhere."""
        if not at_once and now.up_s < self._restart_after:
            return
        self._system.restart()
        self._restart_after = now.up_s + self._restart_s
        self._restart_s = min(2 * self._restart_s, _LONGEST_RESTART_S)

    def _fetch(self, known: State, wish: Wish, seen: Seen) -> None:
        """Bring a release onto the device and on trial; a failure is held against nobody."""
        try:
            release = self._staged(known, wish, self._source())
        except TakenBackError as exc:
            log.info("%s", exc)
        except ServiceError as exc:
            self._wait(wish, Phase.WAITING, exc)
        except ExpiredError as exc:
            self._wait(wish, Phase.WAITING, exc)
        except (BundleError, ConfigError, DeviceError) as exc:
            self._wait(wish, Phase.REFUSED, exc)
        else:
            self.try_out(known, wish, release, seen)

    def _source(self) -> Source:
        desired = self._exchange.desired()
        if desired is None or desired.source is None:
            raise ConfigError("Expected: updates.url in device.yaml. Received: none.")
        return desired.source

    def _wait(self, wish: Wish, phase: Phase, error: KitError) -> None:
        now = self._now()
        self._hold = Hold(wish.key, phase, str(error)[:1000])
        self._hold_until = now.up_s + self._hold_s
        self._hold_s = min(2 * self._hold_s, _LONGEST_HOLD_S)
        report = self._report(wish, phase, self._hold.reason)
        self._tell(report, now)
        log.warning("release %d: %s", wish.release, error)

    def _report(self, wish: Wish, phase: Phase, reason: str | None = None) -> Report:
        known = state.load(self.place)
        return Report(
            phase.value, wish.rollout, wish.attempt, wish.release, known.good, reason, known.previous
        )

    def _staged(self, known: State, wish: Wish, source: Source) -> Release | None:
        """Fetch, verify and lay down a release; None where this device does not take it."""
        repository = Repository(self.place, source.url, tls=self._tls(source), now=self._wall)
        repository.refresh()
        release = repository.release(wish.release, self._arch)
        reason = machine.refusal(known, release, self._arch)
        if reason is not None:
            self._keep(known, machine.settled(known, wish, Phase.REFUSED, reason))
            return None
        archives = download(self.place, repository, release, self._watch(known, wish))
        self._tell(self._report(wish, Phase.VERIFIED), self._now())
        slots.stage(self.place, release, archives)
        self._tell(self._report(wish, Phase.STAGED), self._now())
        return release

    def _watch(self, known: State, wish: Wish) -> Callable[[int], None]:
        """Return what ends a download that is not wanted any more, or that must not be waited for."""
        due = 0.0

        def look(_bytes: int) -> None:
            nonlocal due
            if wish.rollout is None or self._up_s() < due:
                return
            due = self._up_s() + _LOOK_S
            seen = self._exchange.seen(self._now())
            if seen.taken_back or (seen.wish is not None and seen.wish.key != wish.key):
                raise TakenBackError(f"release {wish.release} is not wanted any more")
            if machine.decide(known, seen).effect is Effect.REBOOT:
                raise TakenBackError(f"release {wish.release} comes later: nothing is ready here")

        return look

    def try_out(self, known: State, wish: Wish, release: Release | None, seen: Seen) -> None:
        """Let a staged release prove itself.

        Raises:
            DeviceError: The disk does not take it.
        """
        if release is None:
            refused = state.load(self.place).settled[-1]
            self._tell(self._report(wish, Phase.REFUSED, refused.reason), self._now())
            return
        after = machine.begun(known, wish, replace(seen, now=self._now()))
        self._keep(known, after)
        slots.forget_downloads(self.place)
        self._tidy = False
        self._tell(self._report(wish, Phase.TRIAL), self._now())
        self._restart_s = _FIRST_RESTART_S
        self._restart(self._now(), at_once=True)

    def _tls(self, source: Source) -> Tls:
        """Return the certificates to fetch with: the device's own, and nobody else's on this machine."""
        paths = [None if name is None else Path(name) for name in (source.ca, source.certificate, source.key)]
        root = self.place.root.resolve()
        for path in paths:
            if path is not None and not path.resolve().is_relative_to(root):
                raise ConfigError(f"Expected: certificates below {root}. Received: {path}.")
        return Tls(*paths)

    def apply(self, folder: str, number: int | None) -> tuple[int, bool]:
        """Take a release from a folder, such as a stick, and let it prove itself.

        Returns:
            Its number, and whether it is on trial now: the one that is good has nothing to prove.

        Raises:
            KitError: It cannot be taken.
        """
        with slots.locked(self.place):
            known = state.load(self.place)
            if known.trial is not None:
                raise DeviceError(
                    f"Expected: a device that tries nothing. Received: {known.trial.release} on trial.",
                    hint="wait until it is committed or rolled back: python3 -m edge_agent.update status",
                )
            source = Source(folder)
            wanted = number or self._newest(source)
            if wanted == known.good:
                return wanted, False
            attempt = known.bad[wanted].attempt + 1 if wanted in known.bad else 1
            wish = Wish(None, attempt, wanted)
            release = self._staged(known, wish, source)
            if release is None:
                raise BundleError(str(state.load(self.place).settled[-1].reason))
            self.try_out(known, wish, release, self._exchange.seen(self._now()))
            return wanted, True

    def _newest(self, source: Source) -> int:
        repository = Repository(self.place, source.url, now=self._wall)
        repository.refresh()
        return repository.newest(self._arch)
