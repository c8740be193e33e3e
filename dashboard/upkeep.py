"""What a recorder does beside recording, every hour: months, roll-ups, and what is old goes."""

import logging
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Self

import sqlalchemy as sa

from dashboard.retention import prepare_months, purge
from dashboard.rollup import roll_up
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
        raise UsageError(f"Expected: --keep as days (400d) or forever. Received: {text!r}.")
    return timedelta(days=int(found[1]))


def look_after(store: Store, keep: timedelta | None, now: datetime) -> dict[str, int]:
    """Do it once; return what was done. What is rolled up is never taken from events that went before."""
    return {
        "months": len(prepare_months(store, now)),
        "rolled_up": roll_up(store, now),
        "removed": 0 if keep is None else purge(store, keep, now),
    }


class Upkeep:
    """Does it again and again, in a thread of its own.

    Args:
        store: The database.
        keep: The age from which on events go; None: never.
    """

    def __init__(self, store: Store, keep: timedelta | None) -> None:
        self._store, self._keep = store, keep
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
                done = look_after(self._store, self._keep, datetime.now(UTC))
            except sa.exc.SQLAlchemyError as exc:
                log.warning("upkeep: %s", str(exc).splitlines()[0])
                wait = _AGAIN_S
            else:
                log.info("upkeep: %s", done)
                wait = _EVERY_S
