"""Safe mode: a broken configuration at start leaves a device that can be reached, says why, and mends itself.

It connects as the last good configuration did, makes no events, and takes the commands that can mend it.
It tries again by itself as well: what it needs may only be late, as a disk that is not there yet.
"""

import logging
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from queue import Empty
from typing import Any

from edge_agent import pushed, setup
from edge_agent.clock import wall
from edge_agent.commands import Commands, Handler, Requests, set_log_level
from edge_agent.contracts import bundle, config, messages
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.errors import KitError
from edge_agent.contracts.messages import Availability, Command, SetLogLevel, SetPlanogram
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.health import notify, published
from edge_agent.launched import launched
from edge_agent.mqtt import Connected, Link, Received
from edge_agent.parts import link_of
from edge_agent.setup import Ready
from edge_agent.updates import Updates
from edge_agent.wishes import Wishes

log = logging.getLogger(__name__)

_HEALTH_S = 15.0
_RETRY_S = 60.0
_WAIT_S = 0.25
_LONGEST_WHY = 2000
_OTHERS = ("snapshot", "recalibrate")


def wait(path: Path, last: DeviceConfig, why: str, asked: Wishes) -> Ready | None:
    """Wait until a configuration is good; None where the agent must end before.

    Args:
        path: Of the `device.yaml`.
        last: The last good one.
        why: What is wrong.
        asked: What signals and commands ask.
    """
    log.error("safe mode, without events: %s", why)
    link = link_of(last)
    link.start()
    safe = _Safe(path, last, why, asked, link)
    try:
        return safe.run()
    finally:
        stopped = messages.Health(status=Availability.STOPPED, safe_mode=safe.why[:_LONGEST_WHY])
        link.close(published(safe.topics, stopped))


class _Safe:
    def __init__(self, path: Path, last: DeviceConfig, why: str, asked: Wishes, link: Link) -> None:
        self._path, self._last, self.why, self._asked, self._link = path, last, why, asked, link
        self.topics = DeviceTopics(last.store, last.device)
        self._began = time.monotonic()
        self._ready: Ready | None = None
        started = launched()
        self._updates = None if started is None else Updates(started, last)
        handlers: dict[str, Handler[Any]] = {
            "ping": Handler(Command, self._ping),
            "reload": Handler(Command, self._reload),
            "restart": Handler(Command, self._restart),
            "set-log-level": Handler(SetLogLevel, set_log_level),
            "set-planogram": Handler(SetPlanogram, self._set_planogram),
        }
        others = _OTHERS, "the device is in safe mode; see `safe_mode` in its health"
        self._commands = Commands(self.topics, Requests(last.state_dir), handlers, others=others)

    def run(self) -> Ready | None:
        notify("READY=1")
        health_due, retry_due = 0.0, time.monotonic() + _RETRY_S
        while not self._asked.end and self._ready is None:
            now = time.monotonic()
            notify("WATCHDOG=1")
            self._say_updates(now)
            if now >= health_due and self._say_health(now):
                health_due = now + _HEALTH_S
            if self._asked.reload.is_set() or now >= retry_due:
                self._asked.reload.clear()
                retry_due = now + _RETRY_S
                self._try()
                health_due = 0.0
            try:
                notice = self._link.notices.get(timeout=_WAIT_S)
            except Empty:
                continue
            if self._updates is not None:
                self._updates.notice(notice)
            if isinstance(notice, Connected):
                health_due = 0.0
            if isinstance(notice, Received):
                reply = self._commands.answer(notice)
                if reply is not None:
                    self._link.publish(reply)
        return self._ready

    def _say_health(self, now: float) -> bool:
        health = messages.Health(
            status=Availability.ONLINE,
            time=wall(now),
            versions={"agent": version("shelfkit")},
            uptime_s=round(now - self._began, 1),
            safe_mode=self.why[:_LONGEST_WHY],
            release=None if self._updates is None else self._updates.release,
            update=None if self._updates is None else self._updates.phase,
        )
        return self._link.publish(published(self.topics, health)) is not None

    def _say_updates(self, now: float) -> None:
        """Hear wishes and pass on reports here too: another release may be what mends it."""
        if self._updates is None:
            return
        self._updates.safe_mode(self.why)
        self._updates.step(now)
        report = self._updates.report()
        if report is not None and self._link.publish(report) is not None:
            self._updates.told()

    def _try(self) -> None:
        try:
            self._ready = setup.ready(self._path)
        except KitError as exc:
            self.why = str(exc)

    def _ping(self, _command: Command) -> Mapping[str, object]:
        return {"safe_mode": self.why[:_LONGEST_WHY]}

    def _reload(self, _command: Command) -> Mapping[str, object]:
        self._ready = setup.ready(self._path)
        return {}

    def _restart(self, _command: Command) -> Mapping[str, object]:
        self._asked.restart.set()
        return {}

    def _set_planogram(self, command: SetPlanogram) -> Mapping[str, object]:
        """Take a planogram; it may be just what was broken."""
        device = config.read(self._path).value or self._last
        labels = bundle.read(device.bundle).manifest.label_names
        place = setup.place_of(device)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=device.state_dir) as room:
            shelf = pushed.received(
                command.planogram, command.reference, Path(room), before=None, labels=labels
            )
            place.push(shelf)
        self._try()
        return {} if self._ready else {"safe_mode": self.why[:_LONGEST_WHY]}
