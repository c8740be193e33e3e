"""Moments on the wire: RFC 3339, UTC, milliseconds."""

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, PlainSerializer

# A clock that was never set begins with 1970. At the other end every zone still has the moment.
_FIRST, _BEHIND = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def to_utc(moment: datetime) -> datetime:
    """Return the same moment in UTC, cut to whole milliseconds so that it survives a round trip.

    Raises:
        ValueError: It is not of the years 1970 to 9998.
    """
    if not in_reach(moment):
        msg = f"Expected: a moment of the years 1970 to 9998. Received: {moment.isoformat()}."
        raise ValueError(msg)
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def in_reach(moment: datetime) -> bool:
    """Whether a moment is one of those that may be on the wire: the years 1970 to 9998, in UTC."""
    return _FIRST <= moment < _BEHIND


def rfc3339(moment: datetime) -> str:
    """Return `2026-11-23T09:14:05.120Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime | None:
    """Read RFC 3339 with a zone; None for anything else, and for a moment out of reach."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None and in_reach(found) else None


def zone_named(name: str) -> ZoneInfo | None:
    """Return the time zone of a name, such as Europe/Berlin; None where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _told(value: object) -> object:
    """Refuse a number, which pydantic takes for seconds since 1970."""
    if not isinstance(value, str | datetime):
        msg = "Expected: RFC 3339 with a zone, like 2026-11-23T09:14:05Z."
        raise ValueError(msg)  # noqa: TRY004 - what pydantic makes a problem of
    return value


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_told),
    AfterValidator(to_utc),
    PlainSerializer(rfc3339, return_type=str),
]
