"""The loop of an operator's machine: look, decide, keep, tell. Killed at any point, the next one goes on.

What was decided is on the disk before a device is told; what a device is told is compared with what its
broker retains, so that being told twice, or not at all before a crash, makes no difference.
"""

import time
from collections.abc import Callable
from datetime import datetime

from deploy.fleet import Fleet
from deploy.rollout.brokers import Brokers
from deploy.rollout.kept import Kept
from deploy.rollout.logic import step, wanted
from deploy.rollout.model import ENDED, Rollout, State

_TICK_S = 0.25
_INVENTORY_S = 60.0
_LAST_WORDS_S = 15.0


def run(
    kept: Kept,
    id_: str,
    brokers: Brokers,
    left_out: Callable[[], frozenset[str]],
    *,
    now: Callable[[], datetime],
    show: Callable[[Rollout, Brokers], None],
) -> Rollout:
    """Run a rollout until it has ended or is stopped; return it.

    Args:
        kept: Where it is kept.
        id_: Its name.
        brokers: Of its devices.
        left_out: Says who is pinned or revoked.
        now: UTC.
        show: Called after each look.
    """
    out, looked, stamp = left_out(), time.monotonic(), kept.inventory_stamp()
    ending: float | None = None
    while True:
        brokers.take(_TICK_S)
        if time.monotonic() - looked >= _INVENTORY_S or kept.inventory_stamp() != stamp:
            out, looked, stamp = left_out(), time.monotonic(), kept.inventory_stamp()
        if brokers.ready:
            views, at = brokers.views(out), now()
            rollout = kept.change(id_, lambda before: step(before, views, at))  # noqa: B023 - called at once
            untold = brokers.tell(wanted(rollout), id_)
        else:
            rollout, untold = kept.get(id_), len(brokers.trouble)
        show(rollout, brokers)
        if rollout.state not in {*ENDED, State.STOPPED}:
            ending = None
            continue
        ending = ending or time.monotonic()
        if not untold or time.monotonic() - ending > _LAST_WORDS_S:
            return rollout


def left_out(fleet: Fleet) -> frozenset[str]:
    """Return who is pinned or revoked."""
    return frozenset(
        device.device for device in fleet.devices() if device.pinned or device.revoked is not None
    )
