"""How long pages of the past take over a year of one store, from events alone and from kept days.

Usage: python benchmarks/history.py [--days 365] [--slots 200] [--result FILE]

One shelf of 200 slots and 50 products, each slot emptied and filled twice a day, as one device tells it, in
SQLite. Each page is asked for three times, in this process, without a network; the median counts. `events` is
before the recorder has counted any day, `kept` after that, and `purged` when all events but those of ten days
are gone. `equal` says whether the CSV files were the same byte for byte.
"""

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import measured
import typer

from dashboard.accounts.gate import Access
from dashboard.accounts.records import Accounts
from dashboard.batch import Arrival, Batch
from dashboard.retention import purge
from dashboard.rollup import roll_up
from dashboard.store import Store
from dashboard.web import Hub, build_app
from edge_agent.contracts.command import new_app, run_command
from edge_agent.contracts.times import rfc3339

_SCRIPT = "history.py"
_SOURCE, _STREAM = "/stores/1/devices/cam", "7f0c9a52d1b84d0e8f4c2b1a90e7d655"
_FACINGS, _BATCH, _TIMES = 4, 5000, 3
_PLACES = {
    "availability": "/stores/1/availability?days={days}",
    "product": "/stores/1/products/p-1?days={days}",
    "slot": "/stores/1/devices/cam/slots/A1?days={days}",
    "api_days": "/api/v1/stores/1/days?about=product&days={days}",
}

app = new_app()


@app.command()
def main(
    days: Annotated[int, typer.Option(min=12, max=365, help="Of so many days.")] = 365,
    slots: Annotated[int, typer.Option(min=4, help="On one shelf.")] = 200,
    result: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
) -> None:
    """Measure pages of a year."""
    now = datetime.now(UTC).replace(hour=15, minute=0, second=0, microsecond=0)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'd.sqlite'}")
        count = _fill(store, now, days, slots)
        figures: dict[str, Any] = {"days": days, "slots": slots, "events": count}
        access = Access(Accounts(), login=False, clock=lambda: now)
        pages = _Pages(build_app(store, Hub(), lambda: True, access), days)
        figures["events_ms"], raw = pages.times(), pages.table()
        begin = time.perf_counter()
        figures["kept_rows"] = roll_up(store, now, {})
        figures["roll_up_s"] = round(time.perf_counter() - begin, 1)
        figures["kept_ms"], kept = pages.times(), pages.table()
        purge(store, timedelta(days=10), now)
        figures["purged_ms"], purged = pages.times(), pages.table()
        figures["equal"] = raw == kept == purged
        store.close()
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


class _Pages:
    """Asks an application for its pages."""

    def __init__(self, application: Any, days: int) -> None:  # noqa: ANN401 - Starlette's
        self._transport, self._days = httpx.ASGITransport(application), days

    def get(self, place: str) -> str:
        """Return a page."""
        return asyncio.run(self._get(place.format(days=self._days)))

    async def _get(self, place: str) -> str:
        async with httpx.AsyncClient(transport=self._transport, base_url="http://127.0.0.1") as client:
            return (await client.get(place)).raise_for_status().text

    def times(self) -> dict[str, float]:
        """Return how long each takes, in milliseconds."""
        found = {}
        for name, place in _PLACES.items():
            took = []
            for _ in range(_TIMES):
                begin = time.perf_counter()
                self.get(place)
                took.append((time.perf_counter() - begin) * 1000)
            found[name] = round(statistics.median(took), 1)
        return found

    def table(self) -> str:
        """Return what one sees, as a file."""
        return self.get("/stores/1/availability.csv?days={days}")


def _fill(store: Store, now: datetime, days: int, slots: int) -> int:
    """Let a year of events come in, and the snapshot behind it; return how many events."""
    told = sorted(_story(now, days, slots), key=lambda one: one[0])
    names = [_name(number) for number in range(slots)]
    filled = dict.fromkeys({_product(number) for number in range(slots)}, _FACINGS)
    seen = dict.fromkeys(names, ("present", now))
    levels: dict[str, tuple[str, datetime]] = {}
    arrivals: list[Arrival] = []
    for at, number, state in told:
        name, product = _name(number), _product(number)
        seen[name] = (state, at)
        filled[product] += 1 if state == "present" else -1
        previous = "empty" if state == "present" else "present"
        arrivals.append(
            _event(len(arrivals), at, "slot.slot-changed", f"slot/{name}", state=state, previous=previous)
        )
        level = "out" if filled[product] <= 0 else "ok"
        if levels.get(product, ("", at))[0] != level:
            levels[product] = (level, at)
            kind = "out-of-stock" if level == "out" else "restocked"
            arrivals.append(_event(len(arrivals), at, f"product.{kind}", f"product/{product}"))
    for first in range(0, len(arrivals), _BATCH):
        with store.writing() as connection:
            store.take(connection, Batch(arrivals[first : first + _BATCH]), now)
    state = {
        "shelf": "1",
        "time": rfc3339(now),
        "camera": {"faults": []},
        "products": [
            {"label": label, "name": label, "state": level, "since": rfc3339(at)}
            for label, (level, at) in levels.items()
        ],
        "slots": {name: {"state": state, "since": rfc3339(at)} for name, (state, at) in seen.items()},
    }
    with store.writing() as connection:
        latest = {"store": "1", "device": "cam", "state": json.dumps(state)}
        store.take(connection, Batch(latest={_SOURCE: latest}), now)
    return len(arrivals)


def _story(now: datetime, days: int, slots: int) -> Iterator[tuple[datetime, int, str]]:
    """Yield when which slot is emptied and filled: twice a day each, between 8 and 20 o'clock."""
    chance = random.Random(7)  # noqa: S311 - secures nothing
    for day in range(days):
        morning = (now - timedelta(days=day)).replace(hour=8, minute=0)
        for number in range(slots):
            moments = sorted(chance.random() * 12 for _ in range(4))
            for place, hours in enumerate(moments):
                at = morning + timedelta(hours=hours)
                if at < now:
                    yield at, number, ("empty", "present")[place % 2]


def _name(number: int) -> str:
    return f"{chr(65 + number // 20)}{number % 20 + 1}"


def _product(number: int) -> str:
    return f"p-{number // _FACINGS}"


def _event(number: int, at: datetime, kind: str, about: str, **data: str) -> Arrival:
    subject, name = f"shelf/1/{about}", f"shelfkit.{kind}.v1"
    body = {
        "specversion": "1.0",
        "id": f"{number:032x}",
        "source": _SOURCE,
        "type": name,
        "subject": subject,
        "time": rfc3339(at),
        "streamid": _STREAM,
        "sequence": f"{number + 1:016d}",
        "data": {"store": "1", "shelf": "1", "since": rfc3339(at), **data},
    }
    return Arrival(
        _SOURCE, f"{number:032x}", _STREAM, number + 1, name, subject, rfc3339(at), json.dumps(body)
    )


if __name__ == "__main__":
    sys.exit(run_command(app))
