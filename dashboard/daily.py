"""Day by day: what is kept of the days that are over, and from events what is not kept yet, as today."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from dashboard.availability import TYPES, Day, days, read
from dashboard.pages.timeline import Figures
from dashboard.queries import Queries
from dashboard.rollup import midnight
from edge_agent.contracts import events
from edge_agent.contracts.events import Kind, is_subject

_DAY = timedelta(days=1)
_KINDS = {"product": Kind.RESTOCKED, "slot": Kind.SLOT_CHANGED}


@dataclass(frozen=True, slots=True)
class Daily:
    """The days of one product on one shelf, or of one slot; days of which nothing is known are left out."""

    device: str
    shelf: str
    name: str
    days: list[Day]

    @property
    def figures(self) -> Figures:
        """Their sum; a time without stock counts in each day that it touches."""
        return summed(self.days)


def summed(found: Iterable[Day]) -> Figures:
    """Return the sum of days."""
    every = [day.figures for day in found]
    return Figures(
        sum(one.known for one in every),
        sum(one.out for one in every),
        max((one.longest for one in every), default=0),
        sum(one.gaps for one in every),
    )


def daily(
    queries: Queries, store: str, about: str, zone: ZoneInfo, first: date, now: datetime
) -> list[Daily]:
    """Return the days of every product or slot of a store, from the first day until now.

    Args:
        queries: To the recorder's database.
        store: Of which store.
        about: `product` or `slot`.
        zone: The store's: its days are meant.
        first: The first day.
        now: Where the last day, which is today, ends for the time being.
    """
    kept: dict[tuple[str, str], list[Day]] = defaultdict(list)
    rolled = queries.rolled(store)
    for row in queries.days(store, about, first - _DAY, now.astimezone(zone).date()):
        if rolled.get(row["source"], ("", ""))[1] == zone.key:
            kept[row["source"], row["subject"]].append(_day(row))
    for device, state, _ in queries.latest(store):
        source = events.source(store, device)
        after, of = rolled.get(source, ("", ""))
        begin = max(first, date.fromisoformat(after)) if of == zone.key else first
        eve = begin - _DAY
        before = {
            subject: day.last
            for (other, subject), told in kept.items()
            for day in told
            if other == source and day.day == eve
        }
        since = midnight(begin, zone)
        if since >= now:
            continue
        bodies = queries.told(source, TYPES, since - _DAY, now + _DAY)
        reading = read(bodies, json.loads(state) if state else {}, since, now, before)
        for subject in reading.changes:
            if is_subject(subject, _KINDS[about]):
                rest = [day for day in kept[source, subject] if day.day < begin]
                kept[source, subject] = rest + days(reading, subject, since, now, zone)
    found = []
    for (source, subject), told in sorted(kept.items()):
        within = [day for day in told if day.day >= first]
        if within:
            _, shelf, _, name = subject.split("/")
            found.append(Daily(source.rpartition("/")[2], shelf, name, within))
    return found


def _day(row: dict[str, object]) -> Day:
    values = {name: row[name] for name in Day.__dataclass_fields__}
    return Day(**values | {"day": date.fromisoformat(str(row["day"]))})  # type: ignore[arg-type]
