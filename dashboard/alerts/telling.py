"""What is sent: messages made of a decision, each with a key that stays however often it is tried. Pure."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard.accounts.records import StoreSetting
from dashboard.alerts.deciding import Told
from dashboard.alerts.rules import Rules
from edge_agent.contracts.times import rfc3339

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one channel.

    Args:
        channel: Its name.
        key: The same each time that it is tried.
        items: What it tells; for programs one thing each, for people all that there is at a moment.
    """

    channel: str
    key: str
    items: tuple[Json, ...]


def messages(
    rules: Rules, notices: Sequence[Told], setting: Callable[[str], StoreSetting], now: datetime
) -> Iterator[Message]:
    """Yield what to send for what was decided.

    Args:
        rules: Who is told.
        notices: What is to be told.
        setting: Returns how a store is called, and its zone.
        now: When it was decided.
    """
    for_people: dict[str, dict[str, Json]] = {}
    for told in notices:
        rule = rules.rule(told.alert.rule)
        item = item_of(told, setting(told.alert.cause.store), now)
        for channel in rule.to if rule is not None else ():
            if rules.channels[channel].kind == "mail":
                for_people.setdefault(channel, {})[told.key] = item
            else:
                yield Message(channel, told.key, (item,))
    for channel, items in for_people.items():
        keys = sorted(items)
        one = keys[0] if len(keys) == 1 else hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]
        yield Message(channel, one, tuple(items.values()))


def item_of(told: Told, setting: StoreSetting, now: datetime) -> Json:
    """Return everything that is told of an alert, whatever becomes of it before somebody hears it."""
    alert, cause = told.alert, told.alert.cause
    moments = {"since": alert.since, "opened": alert.opened, "closed": alert.closed}
    return {
        "id": told.key,
        "notice": told.notice.value,
        "time": rfc3339(now),
        "alert": alert.id,
        "rule": alert.rule,
        "kind": cause.kind.value,
        "store": cause.store,
        "title": setting.title,
        "zone": setting.zone,
        "device": cause.device,
        "shelf": cause.shelf,
        "subject": cause.subject,
        "label": cause.label,
        "name": cause.name,
        "gtin": cause.gtin,
        "detail": cause.detail,
        **{name: rfc3339(moment) for name, moment in moments.items() if moment is not None},
    }
