"""Moments on the wire: RFC 3339, UTC, milliseconds."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, PlainSerializer


def to_utc(moment: datetime) -> datetime:
    """Return the same moment in UTC, cut to whole milliseconds so that it survives a round trip.

    Raises:
        ValueError: In UTC it lies before the year 1, or after 9999.
    """
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as exc:
        msg = f"Expected: a moment that UTC has. Received: {moment.isoformat()}."
        raise ValueError(msg) from exc
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """Return `2026-11-23T09:14:05.120Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime | None:
    """Read RFC 3339 with a zone; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else None


Timestamp = Annotated[AwareDatetime, AfterValidator(to_utc), PlainSerializer(rfc3339, return_type=str)]
