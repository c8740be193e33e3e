"""Makes guessing slow: after a few failures each further one costs a longer wait."""

from dataclasses import dataclass
from datetime import datetime, timedelta

_MOST_KEYS = 10_000
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(minutes=15)
_FORGOTTEN = timedelta(hours=1)


@dataclass(slots=True)
class _Failures:
    count: int
    latest: datetime


class Throttle:
    """Counts failures by key; keys are counted apart.

    A name from one address may fail 5 times, an address 20 times, a name from anywhere 100 times. So whoever
    guesses from elsewhere does not lock the owner out at once.
    """

    free = (5, 20, 100)

    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], _Failures] = {}

    def wait(self, name: str, address: str, now: datetime) -> timedelta:
        """Return how long to wait before the next try; zero where it may be made now."""
        waits = [
            self._wait(key, free, now) for key, free in zip(_keys(name, address), self.free, strict=True)
        ]
        return max(waits)

    def _wait(self, key: tuple[str, str], free: int, now: datetime) -> timedelta:
        found = self._failures.get(key)
        if found is None or found.count < free:
            return timedelta()
        wait = min(_FIRST_WAIT * (1 << min(found.count - free, 10)), _LONGEST_WAIT)
        return max(found.latest + wait - now, timedelta())

    def failed(self, name: str, address: str, now: datetime) -> None:
        """Count a failure."""
        for key in _keys(name, address):
            found = self._failures.pop(key, None)
            if found is None or now - found.latest > _FORGOTTEN:
                found = _Failures(0, now)
            # Put in again: the oldest stand first, and go first.
            self._failures[key] = _Failures(found.count + 1, now)
        while len(self._failures) > _MOST_KEYS:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of somebody who then knew it; of others on the address, the try was none."""
        own, *shared = _keys(name, address)
        self._failures.pop(own, None)
        for key in shared:
            found = self._failures.get(key)
            if found is not None:
                found.count -= 1


def _keys(name: str, address: str) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
    return (name, address), ("", address), (name, "")
