"""What an operator writes: `1,5%,25%,100%`, `10m`, `5%`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from edge_agent.contracts import times
from edge_agent.contracts.errors import UsageError

_SHARE = re.compile(r"(?P<amount>\d{1,7}(?:\.\d{1,3})?)(?P<percent>%?)")
_SPAN = re.compile(r"(?P<amount>\d{1,6})(?P<unit>[smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WINDOW = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
_THOUSANDTHS = 1000
_WHOLE = 100


@dataclass(frozen=True, slots=True)
class Share:
    """So many devices, or so many of a hundred; a fraction counts in thousandths."""

    thousandths: int
    percent: bool

    def of(self, count: int) -> int:
        """Return how many of so many devices it allows, rounded down."""
        if not self.percent:
            return min(count, self.thousandths // _THOUSANDTHS)
        return min(count, count * self.thousandths // (_WHOLE * _THOUSANDTHS))

    def at_least(self, count: int) -> int:
        """Return how many of so many devices it takes, rounded up."""
        if not self.percent:
            return min(count, self.thousandths // _THOUSANDTHS)
        return min(count, -(-count * self.thousandths // (_WHOLE * _THOUSANDTHS)))


def share(option: str, text: str) -> Share:
    """Read `3` or `5%`.

    Raises:
        UsageError: It is neither.
    """
    found = _SHARE.fullmatch(text.strip())
    if found is None or ("." in found["amount"] and not found["percent"]):
        raise UsageError(f"Expected: {option} as a number of devices or a share: 3, 5%. Received: {text!r}.")
    made = Share(round(float(found["amount"]) * _THOUSANDTHS), bool(found["percent"]))
    if made.percent and made.thousandths > _WHOLE * _THOUSANDTHS:
        raise UsageError(f"Expected: {option} up to 100%. Received: {text!r}.")
    return made


def waves(text: str) -> tuple[str, ...]:
    """Read `1,5%,25%,100%`.

    Raises:
        UsageError: A wave is none, or the last one leaves devices out.
    """
    names = tuple(part.strip() for part in text.split(","))
    shares = [share("--waves", name) for name in names]
    if any(item.thousandths == 0 for item in shares):
        raise UsageError(f"Expected: --waves of at least one device each. Received: {text!r}.")
    if not shares[-1].percent or shares[-1].at_least(_WHOLE) != _WHOLE:
        raise UsageError(f"Expected: --waves that end with everybody: 1,5%,25%,100%. Received: {text!r}.")
    return names


def sizes(names: Sequence[str], count: int) -> tuple[int, ...]:
    """Return how many devices each wave brings; one that would bring nobody is left out."""
    found: list[int] = []
    reached = 0
    for name in names:
        upto = share("--waves", name).at_least(count)
        if upto > reached:
            found.append(upto - reached)
            reached = upto
    return tuple(found)


def span(option: str, text: str) -> timedelta:
    """Read `30s`, `10m`, `2h` or `1d`.

    Raises:
        UsageError: It is none.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"Expected: {option} as 30s, 10m, 2h or 1d. Received: {text!r}.")
    return timedelta(**{_UNITS[found["unit"]]: int(found["amount"])})


def moment(option: str, text: str) -> datetime | None:
    """Read `2026-11-27T02:00:00+01:00`; nothing where it is empty.

    Raises:
        UsageError: It is none, or without a zone.
    """
    found = times.moment(text)
    if text and found is None:
        raise UsageError(
            f"Expected: {option} with its zone: 2026-11-27T02:00:00Z, 2026-11-27T02:00+01:00. "
            f"Received: {text!r}."
        )
    return found


def window(text: str) -> str | None:
    """Read `02:00-05:00`; nothing where it is empty.

    Raises:
        UsageError: It is none.
    """
    if text and (not _WINDOW.fullmatch(text) or text[:5] == text[6:]):
        raise UsageError(f"Expected: --window as 02:00-05:00. Received: {text!r}.")
    return text or None
