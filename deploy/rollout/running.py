"""The loop of an operator's machine: look, decide, keep, tell. Killed at any point, the next one goes on.

What was decided is on the disk before a device is told; what a device is told is compared with what its
broker retains, so that being told twice, or not at all before a crash, makes no difference.

One process drives all rollouts of a fleet that go on. Another one that follows a rollout sees in the folder
what becomes of it, and drives as soon as nobody else does.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from datetime import datetime
from typing import NoReturn

from deploy.fleet import Fleet
from deploy.rollout.brokers import PATIENCE_S, Brokers, connected, wait_ready
from deploy.rollout.choice import addresses
from deploy.rollout.kept import Kept
from deploy.rollout.logic import settled, step, together
from deploy.rollout.model import Rollout, State, View
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import KitError

log = logging.getLogger(__name__)

_TICK_S = 0.25
_IDLE_S = 1.0
_INVENTORY_S = 60.0

Show = Callable[[Rollout, Mapping[str, str]], None]
"""Is given a rollout after each look, and the brokers that are away."""


class Driver:
    """Drives rollouts of a fleet.

    Args:
        fleet: The fleet.
        kept: Where they are kept.
        brokers: Of their devices.
        now: UTC.
        alone: Only this one.
    """

    def __init__(
        self,
        fleet: Fleet,
        kept: Kept,
        brokers: Brokers,
        *,
        now: Callable[[], datetime],
        alone: str | None = None,
    ) -> None:
        self._fleet, self._kept, self._brokers = fleet, kept, brokers
        self._now, self._alone = now, alone
        self._reached: dict[str, bool] = {}
        self._left_out: frozenset[str] = frozenset()
        self._looked: tuple[float, int] | None = None

    def look(self) -> list[Rollout]:
        """Look once: take in, decide, keep, tell.

        Returns:
            The rollouts that it drives, as they are now.
        """
        self._brokers.take(_TICK_S)
        self._inventory()
        going = self._kept.going()
        mine = [item for item in going if self._alone in {None, item.id} and self.reach(item)]
        views = self._brokers.views(self._left_out)
        after = {item.id: self._stepped(item, views) for item in mine}
        since = {item.id: item.since or item.created for item in self._kept.every()}
        wishes = together([after.get(item.id, item) for item in going], views, since)
        untold = self._brokers.tell(wishes, {item.id for item in going})
        return [self._settled(item, untold) for item in after.values()]

    def reach(self, rollout: Rollout) -> bool:
        """Connect to the brokers of its devices; tell whether they are known."""
        if rollout.id not in self._reached:
            try:
                self._brokers.reach(addresses_of(self._fleet, rollout))
            except KitError as exc:
                # Somebody has changed its files since it began: no reason to leave the others alone.
                log.warning("%s is not driven: %s", rollout.id, exc)
                self._reached[rollout.id] = False
            else:
                self._reached[rollout.id] = True
        return self._reached[rollout.id]

    def _stepped(self, rollout: Rollout, views: Mapping[str, View]) -> Rollout:
        if not self._brokers.ready(rollout.members):
            return rollout
        at = self._now()
        return self._kept.change(rollout.id, lambda item: step(item, views, at))

    def _settled(self, rollout: Rollout, untold: set[str]) -> Rollout:
        if not rollout.owed or not untold.isdisjoint(rollout.members):
            return rollout
        # It may have been changed since: then it is told first.
        return self._kept.change(rollout.id, lambda item: settled(item) if item == rollout else item)

    def _inventory(self) -> None:
        at, stamp = time.monotonic(), self._kept.inventory_stamp()
        if self._looked is None or at - self._looked[0] >= _INVENTORY_S or self._looked[1] != stamp:
            self._left_out, self._looked = left_out(self._fleet), (at, stamp)
            self._reached = {name: True for name, reached in self._reached.items() if reached}


def looks(
    fleet: Fleet, kept: Kept, id_: str, *, now: Callable[[], datetime], alone: bool = False
) -> Generator[tuple[Rollout, Mapping[str, str]]]:
    """Give a rollout again and again, and the brokers that are away.

    Drives it, and with it all others that go on, while no other process does.

    Args:
        fleet: The fleet.
        kept: Where it is kept.
        id_: Its name.
        now: UTC.
        alone: Whether the others are left alone.

    Raises:
        ServiceError: No broker of its devices lets us in, and it is to be driven.
    """
    while True:
        with kept.runner() as free:
            if free:
                with connected() as brokers:
                    driver = Driver(fleet, kept, brokers, now=now, alone=id_ if alone else None)
                    driver.reach(kept.get(id_))
                    if not alone:
                        wait_ready(brokers)
                    while True:
                        driver.look()
                        yield kept.get(id_), brokers.trouble
        yield kept.get(id_), {}
        time.sleep(_TICK_S)


def followed(
    fleet: Fleet, kept: Kept, id_: str, *, now: Callable[[], datetime], show: Show, at_once: bool = False
) -> tuple[Rollout, Mapping[str, str]]:
    """Follow a rollout until it has ended or is stopped, and its devices are told so.

    Args:
        fleet: The fleet.
        kept: Where it is kept.
        id_: Its name.
        now: UTC.
        show: Called after each look.
        at_once: Wait only until its devices are told what it is now; other rollouts are left alone.

    Returns:
        The rollout, and the brokers that are away. Devices that cannot be told are not waited for for long.

    Raises:
        ServiceError: No broker of its devices lets us in.
    """
    ending: float | None = None
    with closing(looks(fleet, kept, id_, now=now, alone=at_once)) as found:
        for rollout, trouble in found:
            show(rollout, trouble)
            if not at_once and rollout.state in {State.RUNNING, State.PAUSED}:
                ending = None
                continue
            ending = ending or time.monotonic()
            if not rollout.owed or time.monotonic() - ending > PATIENCE_S:
                break
    return rollout, trouble


def driven(fleet: Fleet, kept: Kept, *, now: Callable[[], datetime], show: Show) -> NoReturn:
    """Drive every rollout that goes on, for ever; brokers are connected to while there is one.

    Args:
        fleet: The fleet.
        kept: Where rollouts are kept.
        now: UTC.
        show: Called for each rollout after each look.
    """
    while True:
        with kept.runner() as free:
            while free:
                with connected() as brokers:
                    driver = Driver(fleet, kept, brokers, now=now)
                    while kept.going():
                        for rollout in driver.look():
                            show(rollout, brokers.trouble)
                time.sleep(_IDLE_S)
        time.sleep(_IDLE_S)


def addresses_of(fleet: Fleet, rollout: Rollout) -> Mapping[str, tuple[str, Address]]:
    """Return store and broker of each device of a rollout.

    Raises:
        KitError: One is not known.
    """
    stores = {name: member.store for name, member in rollout.members.items()}
    return addresses(fleet, stores, rollout.broker)


def left_out(fleet: Fleet) -> frozenset[str]:
    """Return who is pinned or revoked."""
    return frozenset(
        device.device for device in fleet.devices() if device.pinned or device.revoked is not None
    )
