"""Alerts, mutes and deliveries in the recorder's database.

What was decided and what is to be sent for it go in by one commit: nothing is told that is not kept, and
what is kept is told. A delivery is known by channel and key: one that is written twice is there once.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from dashboard.alerts.causes import Cause, Kind
from dashboard.alerts.deciding import Alert, Mute
from dashboard.alerts.telling import Message
from dashboard.schema import writing
from dashboard.tables import ALERTS, DELIVERIES, MUTES, insert_into
from edge_agent.contracts.times import rfc3339

WAITING, SENT, GIVEN_UP = "waiting", "sent", "given-up"

_WATCHING = 7_355_418
"""PostgreSQL's advisory lock of whoever decides; recorders never wait for it."""
_SAID = 300
_OF_CAUSE = tuple(
    name for name in (item.name for item in fields(Cause)) if name in ALERTS.c and name != "since"
)
_MOMENTS = ("since", "opened", "announced", "told", "closed", "taken")
_PLAIN = ("id", "rule", "times", "taken_by", "done")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that waits to be sent, or to be tried again."""

    message: Message
    attempts: int
    created: datetime


class Book:
    """What is written down of alerts; each method takes a connection of its own.

    Args:
        engine: Of the recorder's store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def changing(self) -> AbstractContextManager[Connection]:
        """Give a transaction beside which nobody else decides."""
        return writing(self._engine, _WATCHING)

    def undone(self, stores: Sequence[str], connection: Connection | None = None) -> list[Alert]:
        """Return every alert of some stores (all where none is named) that is not done."""
        query = sa.select(ALERTS).where(ALERTS.c.done.is_(False))
        if stores:
            query = query.where(ALERTS.c.store.in_(stores))
        return [_alert(row) for row in self._rows(query, connection)]

    def mutes(self, now: datetime) -> list[Mute]:
        """Return the mutes that hold."""
        return [
            Mute(
                **{name: row[name] for name in ("store", "device", "rule", "label")},
                until=_moment(row["until"]),
            )
            for row in self.muted(now)
        ]

    def write(
        self, connection: Connection, alerts: Iterable[Alert], mail: Iterable[Message], now: datetime
    ) -> None:
        """Keep what was decided, and what is to be sent for it."""
        rows = [_row(alert) for alert in alerts]
        if rows:
            insert = insert_into(self._engine.dialect.name, ALERTS)
            # Whoever takes an alert does so beside us.
            changed = {
                name: insert.excluded[name] for name in rows[0] if name not in {"id", "taken", "taken_by"}
            }
            connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=changed), rows)
        told = [
            {
                "channel": each.channel,
                "key": each.key,
                "created": rfc3339(now),
                "body": json.dumps(each.items, ensure_ascii=False),
                "state": WAITING,
                "due": rfc3339(now),
                "said": "",
                "ended": None,
                "attempts": 0,
            }
            for each in mail
        ]
        if told:
            connection.execute(
                insert_into(self._engine.dialect.name, DELIVERIES).on_conflict_do_nothing(), told
            )

    def due(self, channel: str, now: datetime, limit: int) -> list[Delivery]:
        """Return what is to be sent through a channel now, the oldest first."""
        sent = DELIVERIES.c
        query = sa.select(DELIVERIES).where(
            sent.state == WAITING, sent.channel == channel, sent.due <= rfc3339(now)
        )
        return [
            Delivery(
                Message(row["channel"], row["key"], tuple(json.loads(row["body"]))),
                row["attempts"],
                datetime.fromisoformat(row["created"]),
            )
            for row in self._rows(query.order_by(sent.created, sent.key).limit(limit))
        ]

    def sent(self, message: Message, said: str, now: datetime) -> None:
        """Note that somebody has a message."""
        self._tried(message, state=SENT, said=said[:_SAID], ended=rfc3339(now))

    def failed(self, message: Message, said: str, again: datetime) -> None:
        """Note that nobody took a message, and when to try again."""
        self._tried(message, said=said[:_SAID], due=rfc3339(again))

    def give_up(self, channel: str, before: datetime, now: datetime, only: Message | None = None) -> None:
        """Try no more what was to be sent before a moment: everything of a channel, or one message."""
        sent = DELIVERIES.c
        query = sa.update(DELIVERIES).where(
            sent.state == WAITING, sent.channel == channel, sent.created < rfc3339(before)
        )
        if only is not None:
            query = query.where(sent.key == only.key)
        with self._engine.begin() as connection:
            connection.execute(query.values(state=GIVEN_UP, ended=rfc3339(now)))

    def purge(self, before: datetime) -> None:
        """Remove what was over long ago."""
        limit = rfc3339(before)
        with self._engine.begin() as connection:
            connection.execute(sa.delete(ALERTS).where(ALERTS.c.done.is_(True), ALERTS.c.closed < limit))
            connection.execute(sa.delete(DELIVERIES).where(DELIVERIES.c.ended < limit))
            connection.execute(sa.delete(MUTES).where(MUTES.c.until < limit))

    def take(self, identity: str, who: str, now: datetime) -> Alert | None:
        """Note that somebody cares for an alert; return it, None where it is none, over, or taken."""
        free = (
            ALERTS.c.id == identity,
            ALERTS.c.closed.is_(None),
            ALERTS.c.taken.is_(None),
            ALERTS.c.opened.is_not(None),
        )
        with self._engine.begin() as connection:
            change = sa.update(ALERTS).where(*free).values(taken=rfc3339(now), taken_by=who)
            if connection.execute(change).rowcount == 0:
                return None
            return _alert(
                connection.execute(sa.select(ALERTS).where(ALERTS.c.id == identity)).mappings().one()
            )

    def mute(self, identity: str, mute: Mute, who: str, now: datetime) -> None:
        """Keep a mute."""
        row = {name: getattr(mute, name) for name in ("store", "device", "rule", "label")}
        row |= {
            "until": None if mute.until is None else rfc3339(mute.until),
            "made_by": who,
            "made": rfc3339(now),
        }
        with self._engine.begin() as connection:
            connection.execute(sa.insert(MUTES), {"id": identity, **row})

    def unmute(self, identity: str) -> Row | None:
        """Take a mute away; return what it was, None where there is none."""
        with self._engine.begin() as connection:
            found = connection.execute(sa.select(MUTES).where(MUTES.c.id == identity)).mappings().first()
            connection.execute(sa.delete(MUTES).where(MUTES.c.id == identity))
        return None if found is None else dict(found)

    def muted(self, now: datetime) -> list[Row]:
        """Return the mutes that hold, with who made them."""
        holds = sa.or_(MUTES.c.until.is_(None), MUTES.c.until > rfc3339(now))
        return self._rows(sa.select(MUTES).where(holds).order_by(MUTES.c.made, MUTES.c.id))

    def opened(self, limit: int) -> list[Alert]:
        """Return what is open, the newest first."""
        query = sa.select(ALERTS).where(
            ALERTS.c.done.is_(False), ALERTS.c.closed.is_(None), ALERTS.c.opened.is_not(None)
        )
        return [
            _alert(row)
            for row in self._rows(query.order_by(ALERTS.c.opened.desc(), ALERTS.c.id).limit(limit))
        ]

    def over(self, limit: int) -> list[Alert]:
        """Return what was open, the latest first."""
        query = sa.select(ALERTS).where(ALERTS.c.closed.is_not(None), ALERTS.c.opened.is_not(None))
        return [
            _alert(row)
            for row in self._rows(query.order_by(ALERTS.c.closed.desc(), ALERTS.c.id).limit(limit))
        ]

    def deliveries(self, first: int, limit: int) -> list[Row]:
        """Return what was sent or is to be, the newest first."""
        sent = DELIVERIES.c
        query = sa.select(DELIVERIES).order_by(sent.created.desc(), sent.channel, sent.key)
        return [
            {**row, "items": json.loads(row["body"])} for row in self._rows(query.offset(first).limit(limit))
        ]

    def counts(self) -> dict[str, int]:
        """Return how many alerts are open, and how many deliveries wait, failed so far, or were given up."""
        opened = sa.select(sa.func.count()).select_from(ALERTS)
        opened = opened.where(
            ALERTS.c.done.is_(False), ALERTS.c.closed.is_(None), ALERTS.c.opened.is_not(None)
        )
        sent = DELIVERIES.c
        query = sa.select(sent.state, sa.func.count().label("number")).group_by(sent.state)
        failing = (
            sa.select(sa.func.count()).select_from(DELIVERIES).where(sent.state == WAITING, sent.attempts > 0)
        )
        with self._engine.connect() as connection:
            states = {row.state: row.number for row in connection.execute(query)}
            return {
                "open": int(connection.execute(opened).scalar_one()),
                "failing": int(connection.execute(failing).scalar_one()),
                **{state: int(states.get(state, 0)) for state in (WAITING, SENT, GIVEN_UP)},
            }

    def _tried(self, message: Message, **values: object) -> None:
        mine = (DELIVERIES.c.channel == message.channel, DELIVERIES.c.key == message.key)
        change = sa.update(DELIVERIES).where(*mine, DELIVERIES.c.state == WAITING)
        with self._engine.begin() as connection:
            connection.execute(change.values(attempts=DELIVERIES.c.attempts + 1, **values))

    def _rows(self, query: sa.Select[Any], connection: Connection | None = None) -> list[Row]:
        if connection is not None:
            return [dict(row) for row in connection.execute(query).mappings()]
        with self._engine.connect() as opened:
            return [dict(row) for row in opened.execute(query).mappings()]


def _row(alert: Alert) -> Row:
    row = {name: getattr(alert, name) for name in _PLAIN}
    row |= {name: getattr(alert.cause, name) for name in _OF_CAUSE}
    moments = {name: getattr(alert, name) for name in _MOMENTS}
    return row | {name: None if value is None else rfc3339(value) for name, value in moments.items()}


def _alert(row: Row | RowMapping) -> Alert:
    cause = Cause(**{name: row[name] for name in _OF_CAUSE if name != "kind"}, kind=Kind(row["kind"]))
    moments: Row = {name: _moment(row[name]) for name in _MOMENTS}
    return Alert(cause=cause, **{name: row[name] for name in _PLAIN}, **moments)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
