"""Whatever devices said, and whenever days were kept and events removed: a page says the same."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.availability import read
from dashboard.journal import About, Wanted, histories
from dashboard.pages import timeline
from dashboard.pages.timeline import Span
from dashboard.queries import Queries
from dashboard.retention import purge
from dashboard.rollup import roll_up
from dashboard.store import Arrival, Store
from dashboard.tables import EVENTS, METADATA
from edge_agent.contracts.times import rfc3339
from tests.dashboard.stored import note, put

SOURCE = "/stores/1/devices/cam"
BEGIN, NOW = datetime(2026, 3, 22, 9, tzinfo=UTC), datetime(2026, 4, 3, 15, tzinfo=UTC)
HOURS = int((NOW - BEGIN) / timedelta(hours=1))
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Auckland")

hours = st.floats(0, HOURS - 1).map(lambda value: round(value, 3))
slots = st.tuples(st.sampled_from(["slot/A", "slot/B"]), st.sampled_from(["present", "empty", "misplaced"]))
products = st.tuples(st.just("product/milk"), st.sampled_from(["restocked", "low-stock", "out-of-stock"]))
faults = st.tuples(
    st.sampled_from(["dark", "moved"]), st.sampled_from(["camera-fault", "camera-fault-cleared"])
)
stories = st.lists(
    st.tuples(hours, st.one_of(slots, products, faults), st.floats(0, 40), st.floats(-20, 5)),
    max_size=25,
)
"""When something happened, what, how much later it came, and how wrong the device's clock was."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One for all stories, which nobody wants back after a power cut."""
    made = Store(f"sqlite:///{tmp_path_factory.mktemp('past') / 'd.sqlite'}")
    sa.event.listen(
        made.engine, "checkout", lambda connection, *_: connection.execute("PRAGMA synchronous=OFF")
    )
    yield made
    made.close()


def told(story: list[tuple[float, tuple[str, str], float, float]], clocks: bool) -> list[Arrival]:
    """Return a story as events in the order in which they came; numbered as they were decided."""
    found = []
    for number, (at_h, (about, what), late_h, wrong_h) in enumerate(sorted(story, key=lambda one: one[0]), 1):
        decided = BEGIN + timedelta(hours=at_h)
        said = rfc3339(decided + timedelta(hours=wrong_h if clocks else 0))
        kind = "slot.slot-changed" if about.startswith("slot") else f"product.{what}"
        data: dict[str, Any] = {"since": said, "state": what, "previous": "present"}
        subject = f"shelf/12/{about}"
        if what.startswith("camera"):
            kind, subject, data = f"camera.{what}", "shelf/12", {"since": said, "fault": about}
        body = {"type": f"shelfkit.{kind}.v1", "subject": subject, "time": said, "data": data}
        body |= {"streamid": "ab" * 16, "sequence": f"{number:016d}"}
        came = min(decided + timedelta(hours=late_h), NOW - timedelta(seconds=1))
        text, came_at = json.dumps(body), rfc3339(came)
        place = (SOURCE, str(number), "ab" * 16, number, f"shelfkit.{kind}.v1", subject)
        found.append(Arrival(*place, came_at, text))
    return sorted(found, key=lambda one: one.received)


def snapshot(arrivals: list[Arrival], since: datetime) -> dict[str, Any]:
    """Return what is seen at last: since a moment something is otherwise than events say."""
    holding: set[str] = set()
    for one in sorted(arrivals, key=lambda one: one.sequence):
        if "camera-fault" in one.type:
            fault = json.loads(one.body)["data"]["fault"]
            (holding.discard if "cleared" in one.type else holding.add)(fault)
    at = rfc3339(since)
    milk = {"label": "milk", "name": "Milk", "state": "out", "since": at}
    slots = {"A": {"state": "present", "since": at}, "B": {"state": "empty", "since": at}}
    camera = {"faults": sorted(holding)}
    return {"shelf": "12", "time": rfc3339(NOW), "products": [milk], "slots": slots, "camera": camera}


def shown(store: Store) -> dict[str, list[Span]]:
    """Return what pages of everything say."""
    found: dict[str, list[Span]] = {}
    for about in get_args(About):
        wanted = Wanted("1", about, BEGIN - timedelta(days=2), NOW)
        found |= {one.name: one.spans for one in histories(Queries(store.engine), wanted)}
    return {
        name: spans for name, spans in found.items() if {span.state for span in spans} != {timeline.UNKNOWN}
    }


def expected(arrivals: list[Arrival], state: dict[str, Any], since: datetime) -> dict[str, list[Span]]:
    """Return what all events together say, read at once."""
    reading = read([json.loads(one.body) for one in arrivals], state, since, NOW)
    spans = {about: reading.spans(about, since, NOW) for about in reading.changes}
    whole = {about: timeline.joined(one, BEGIN - timedelta(days=2), NOW) for about, one in spans.items()}
    return {
        about.rpartition("/")[2]: one
        for about, one in whole.items()
        if {span.state for span in one} != {timeline.UNKNOWN}
    }


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=stories,
    clocks=st.booleans(),
    seen=st.none() | st.floats(0, 1),
    zone=st.sampled_from(ZONES),
    looks=st.lists(st.tuples(st.floats(0, HOURS), st.none() | st.integers(6, 10)), max_size=6),
)
def test_what_is_kept_says_what_events_said(
    store: Store,
    story: list[tuple[float, tuple[str, str], float, float]],
    clocks: bool,
    seen: float | None,
    zone: str,
    looks: list[tuple[float, int | None]],
) -> None:
    """Days are kept at any time between, and events removed that are older than any may come late."""
    with store.engine.begin() as connection:
        for table in METADATA.tables.values():
            connection.execute(sa.delete(table))
    arrivals = told(story, clocks)
    note(store, SOURCE, "1", "cam", health="{}")
    there, taken = {"1": ZoneInfo(zone)}, 0
    last_h = max((at_h for at_h, _ in looks), default=0.0)
    state = {} if seen is None else snapshot(arrivals, NOW - timedelta(hours=(HOURS - last_h) * seen))
    for at_h, keep_days in [*sorted(looks, key=lambda one: one[0]), (HOURS, None)]:
        moment = BEGIN + timedelta(hours=at_h)
        came = [one for one in arrivals[taken:] if one.received < rfc3339(moment)]
        put(store, came)
        taken += len(came)
        if at_h == HOURS and seen is not None:
            note(store, SOURCE, "1", "cam", state=json.dumps(state))
        roll_up(store, moment, there)
        if keep_days is not None:
            purge(store, timedelta(days=keep_days), moment)
    first = midnight_of(arrivals, ZoneInfo(zone))
    assert shown(store) == expected(arrivals, state, first)
    with store.engine.begin() as connection:
        today = timeline.midnight(NOW.astimezone(there["1"]).date(), there["1"])
        connection.execute(sa.delete(EVENTS).where(EVENTS.c.received < rfc3339(today - timedelta(days=1))))
    assert shown(store) == expected(arrivals, state, first)


def midnight_of(arrivals: list[Arrival], zone: ZoneInfo) -> datetime:
    """Return when the day begins on which the first event came: before it nothing is known."""
    if not arrivals:
        return BEGIN - timedelta(days=400)
    first = datetime.fromisoformat(arrivals[0].received).astimezone(zone).date()
    return timeline.midnight(first, zone)
