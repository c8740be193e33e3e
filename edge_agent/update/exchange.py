"""The updater's side of the folder in which it and the agent write to each other."""

import logging
from dataclasses import replace
from datetime import UTC

from edge_agent.contracts.release import Place
from edge_agent.update import machine
from edge_agent.update.disk import read_small, write_whole
from edge_agent.update.machine import Hold, Moment, Seen
from edge_agent.update.records import (
    Desired,
    Report,
    decode_desired,
    decode_proof,
    decode_starts,
    encode_report,
)

log = logging.getLogger(__name__)


class Exchange:
    """Reads what the others say, and tells them how far it is.

    Args:
        place: The device's releases.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._told: tuple[Report, str] | None = None
        self._ready_at: float | None = None

    @property
    def told(self) -> Report | None:
        """What was told last."""
        return None if self._told is None else self._told[0]

    def desired(self) -> Desired | None:
        """Return what a rollout wants; None where nothing is said."""
        return decode_desired(read_small(self._place.desired))

    def seen(self, now: Moment, *, spread: float = 0.0, hold: Hold | None = None, tail: str = "") -> Seen:
        """Return everything that there is to go by."""
        desired = self.desired()
        zone = None if desired is None else desired.zone
        seen = Seen(
            now=replace(now, wall=now.wall.astimezone(zone)),
            starts=decode_starts(read_small(self._place.starts)),
            wish=None if desired is None else desired.wish,
            taken_back=desired is not None and desired.wish is None,
            proof=decode_proof(read_small(self._place.proof)),
            spread=spread,
            hold=hold,
            tail=tail,
        )
        if self._ready_at is None or machine.ready(seen) is not None:
            self._ready_at = now.up_s
        return replace(seen, unready_s=now.up_s - self._ready_at)

    def tell(self, report: Report, now: Moment) -> None:
        """Write down how far the update is, where that is news.

        Raises:
            DeviceError: The disk does not take it.
        """
        if self._told == (report, now.boot_id):
            return
        time = now.wall.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        write_whole(self._place.reported, encode_report(report, boot_id=now.boot_id, time=time))
        self._told = report, now.boot_id
        why = f": {report.reason}" if report.reason else ""
        log.info("release %s: %s%s; good: %s", report.release or "-", report.phase, why, report.good)
