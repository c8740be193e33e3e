"""Alerts in a running dashboard: one thread that decides, and one for each channel."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from dashboard.accounts.records import StoreSetting
from dashboard.alerts import channels
from dashboard.alerts.book import Book
from dashboard.alerts.bus import BusChannel
from dashboard.alerts.courier import Courier
from dashboard.alerts.mail import MailChannel
from dashboard.alerts.rules import Rules
from dashboard.alerts.rules import read as read_rules
from dashboard.alerts.sending import Channel
from dashboard.alerts.watch import Sight, Watch
from dashboard.alerts.webhook import WebhookChannel

log = logging.getLogger(__name__)

_PURGE_S = 3600.0
_GOODBYE_S = 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A file of rules, with channels that are ready.

    Args:
        rules: What it says.
        channels: By name.
    """

    rules: Rules
    channels: Mapping[str, Channel]


def read(path: Path, environment: Mapping[str, str] = os.environ) -> Plan:
    """Read an `alerts.yaml` and what it names.

    Args:
        path: Of the file.
        environment: Where secrets may be.

    Raises:
        ConfigError: There is something wrong; everything that is.
    """
    rules = read_rules(path, environment).require()
    folder = path.resolve().parent
    return Plan(rules, {name: _channel(rules, name, folder, environment) for name in rules.channels})


def _channel(rules: Rules, name: str, folder: Path, environment: Mapping[str, str]) -> Channel:
    settings = rules.channels[name].settings
    secrets = {field: secret.read(folder, environment) for field, secret in channels.secrets_of(settings)}
    match settings:
        case channels.Webhook():
            return WebhookChannel(settings, channels.signing_keys(secrets["key"]), folder)
        case channels.Mail():
            return MailChannel(settings, secrets.get("password"), folder, rules.page)
        case channels.Mqtt():
            return BusChannel(settings, secrets.get("password"), folder)


class Alerts:
    """Looks and tells while it is entered.

    While the broker is away, and a while after, nothing is decided: what is kept is not how things are.

    Args:
        engine: Of the recorder's store.
        plan: Rules and channels.
        settings: Returns how stores are called, and their zones.
        connected: Whether the broker is there.
        stores: Which are ours; none is all.
        rng: For the waits between attempts.
    """

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        settings: Callable[[], dict[str, StoreSetting]],
        connected: Callable[[], bool],
        stores: Sequence[str] = (),
        rng: random.Random | None = None,
    ) -> None:
        self._plan, self._connected = plan, connected
        self._book = Book(engine)
        self._watch = Watch(plan.rules, Sight(engine, stores), self._book, settings, stores)
        rng = rng or random.Random()  # noqa: S311 - jitter
        self._couriers = [
            Courier(name, channel, self._book, plan.rules.give_up, rng, _now)
            for name, channel in plan.channels.items()
        ]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts")

    def __enter__(self) -> Self:
        self._thread.start()
        for courier in self._couriers:
            courier.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for courier in self._couriers:
            courier.end()
        self._thread.join()
        for courier in self._couriers:
            courier.join(_GOODBYE_S)

    def _run(self) -> None:
        rules = self._plan.rules
        since, purged = time.monotonic(), float("-inf")
        while not self._ended.wait(rules.every.total_seconds()):
            now = time.monotonic()
            if not self._connected():
                since = now
            if now - since < rules.settle.total_seconds() or not self._connected():
                continue
            try:
                self._look()
                if now - purged > _PURGE_S:
                    self._book.purge(_now() - rules.keep)
                    purged = now
            except sa.exc.SQLAlchemyError as exc:
                log.warning("alerts: database: %s", str(exc).splitlines()[0])

    def _look(self) -> None:
        decision = self._watch.look(_now())
        if decision.notices:
            for courier in self._couriers:
                courier.news.set()


def _now() -> datetime:
    return datetime.now(UTC)
