"""What a recorder does beside recording, every hour: months, roll-ups, and what is old goes."""

import logging
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from dashboard.accounts.records import Settings
from dashboard.retention import prepare_months, purge, purge_days
from dashboard.rollup import Zones, roll_up
from dashboard.store import Store
from edge_agent.contracts.errors import UsageError

log = logging.getLogger(__name__)

_EVERY_S = 3600.0
_AGAIN_S = 60.0


def read_age(text: str) -> timedelta | None:
    """Read `400d`; None for `forever`.

    Raises:
        UsageError: It is something else.
    """
    if text == "forever":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})d", text)
    if found is None:
        raise UsageError(f"Expected: an age as days (400d) or forever. Received: {text!r}.")
    return timedelta(days=int(found[1]))


@dataclass(frozen=True, slots=True)
class Policy:
    """From which age on events and rolled-up days go; None: never."""

    events: timedelta | None
    days: timedelta | None


def zones_of(settings: Settings) -> Zones:
    """Return the zone of each store that has one."""
    return {store: ZoneInfo(setting.zone) for store, setting in settings.all().items()}


def look_after(store: Store, policy: Policy, now: datetime, zones: Zones) -> dict[str, int]:
    """Do it once; return what was done. What is rolled up is never taken from events that went before."""
    return {
        "months": len(prepare_months(store, now)),
        "rolled_up": roll_up(store, now, zones),
        "removed": 0 if policy.events is None else purge(store, policy.events, now),
        "removed_days": 0 if policy.days is None else purge_days(store, policy.days, now),
    }


class Upkeep:
    """Does it again and again, in a thread of its own.

    Args:
        store: The database.
        policy: What goes when.
        settings: Asked each time for the zones of stores.
    """

    def __init__(self, store: Store, policy: Policy, settings: Settings) -> None:
        self._store, self._policy, self._settings = store, policy, settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        wait = 0.0
        while not self._ended.wait(wait):
            try:
                zones = zones_of(self._settings)
                done = look_after(self._store, self._policy, datetime.now(UTC), zones)
            except sa.exc.SQLAlchemyError as exc:
                log.warning("upkeep: %s", str(exc).splitlines()[0])
                wait = _AGAIN_S
            except Exception:  # the recorder goes on for weeks: so must what makes room for it
                log.exception("upkeep")
                wait = _AGAIN_S
            else:
                log.info("upkeep: %s", done)
                wait = _EVERY_S
