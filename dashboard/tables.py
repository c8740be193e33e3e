"""The recorder's tables as they are now; `dashboard/migrations` brings older databases here.

On PostgreSQL `event` has one column more, `month`, by which it is partitioned. The month is taken from
the id alone (a UUIDv7 says when it was made), so an event that comes twice falls into one partition,
and (source, id, month) is as unique as (source, id).
"""

import uuid
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

METADATA = sa.MetaData()
BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NO_MONTH = 0
LOST, REFUSED = "lost", "refused"
"""Why events are missing: their device has them no more, or what came was none and is in quarantine."""
_UUID7 = 7


def _text(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=primary_key, nullable=nullable)


EVENTS = sa.Table(
    "event",
    METADATA,
    sa.Column("row", BIG, primary_key=True, autoincrement=True),
    *map(_text, ("source", "id", "stream")),
    sa.Column("sequence", BIG, nullable=False),
    *map(_text, ("type", "subject", "received", "body")),
    sa.UniqueConstraint("source", "id"),
    sa.Index("event_place", "source", "stream", "sequence"),
    sa.Index("event_time", "source", "received"),
)
STREAMS = sa.Table(
    "stream",
    METADATA,
    _text("source", primary_key=True),
    _text("stream", primary_key=True),
    sa.Column("upto", BIG, nullable=False),
    # The highest sequence that ever came: while it is not beyond `upto` nothing waits behind a hole.
    sa.Column("top", BIG),
)
GAPS = sa.Table(
    "gap",
    METADATA,
    _text("source", primary_key=True),
    _text("stream", primary_key=True),
    sa.Column("first", BIG, primary_key=True),
    sa.Column("last", BIG, nullable=False),
    _text("noted"),
    _text("reason", nullable=True),
)
DEVICES = sa.Table(
    "device",
    METADATA,
    _text("source", primary_key=True),
    *map(_text, ("store", "device")),
    _text("state", nullable=True),
    _text("health", nullable=True),
    # By the recorder's clock: when something of it came that it said itself, and just then.
    _text("heard", nullable=True),
)
FORGOTTEN = sa.Table("forgotten", METADATA, _text("source", primary_key=True), _text("noted"))
QUARANTINE = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("row", BIG, primary_key=True, autoincrement=True),
    *map(_text, ("received", "topic", "reason")),
    sa.Column("size", BIG, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
AVAILABILITY = sa.Table(
    "availability",
    METADATA,
    _text("source", primary_key=True),
    _text("subject", primary_key=True),
    _text("day", primary_key=True),
    *map(_text, ("store", "shelf", "about", "name")),
    *(
        sa.Column(name, sa.Integer, nullable=False)
        for name in ("available_s", "low_s", "missing_s", "other_s", "events")
    ),
    # How often it was out, and the longest of these times, in this day.
    *(sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in ("gaps", "longest_s")),
    # In which state that day ended, and since when; of a camera (`about`), the faults that held then.
    *map(_text, ("last", "since")),
    # When it was in which state, as far as that is known: JSON, [[begin, end, state], ...] in ms since 1970.
    _text("spans"),
    sa.Index("availability_name", "store", "about", "name", "day"),
)
ROLLED = sa.Table(
    "rolled",
    METADATA,
    _text("source", primary_key=True),
    # The first day that is not in `availability` yet, and the zone whose days are.
    *map(_text, ("next", "zone")),
)
PROGRESS = sa.Table("progress", METADATA, _text("name", primary_key=True), sa.Column("row", BIG))
DAYS, PURGED = "availability", "purged"
"""Of what: the last event that days know of; before when events may be gone, in ms since 1970."""
ALERTS = sa.Table(
    "alert",
    METADATA,
    _text("id", primary_key=True),
    *map(_text, ("rule", "kind", "store", "device", "shelf", "subject", "label", "name", "gtin", "detail")),
    _text("since"),
    *(_text(name, nullable=True) for name in ("opened", "announced", "told", "closed", "taken")),
    sa.Column("times", sa.Integer, nullable=False),
    _text("taken_by"),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Index("alert_done", "done", "closed"),
)
MUTES = sa.Table(
    "alert_mute",
    METADATA,
    _text("id", primary_key=True),
    *map(_text, ("store", "device", "rule", "label", "made", "made_by")),
    _text("until", nullable=True),
)
DELIVERIES = sa.Table(
    "alert_delivery",
    METADATA,
    _text("channel", primary_key=True),
    _text("key", primary_key=True),
    *map(_text, ("created", "body", "state", "due", "said")),
    _text("ended", nullable=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Index("alert_delivery_due", "state", "channel", "due"),
)


def month(identity: str) -> int:
    """Return the month in which an id was made, as 202611; 0 where it does not say."""
    try:
        value = uuid.UUID(identity)
        made = datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return NO_MONTH
    return made.year * 100 + made.month if value.version == _UUID7 else NO_MONTH


def insert_into(dialect: str, table: sa.Table) -> Any:  # noqa: ANN401 - one of two dialects' own classes
    """Return an INSERT of a dialect, which may say what happens where a row is there already."""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)
