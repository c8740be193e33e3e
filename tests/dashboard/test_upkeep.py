"""What is old goes, days are counted and kept, months get tables, backups come back in either database."""

import json
import threading
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dashboard import upkeep
from dashboard.accounts.records import Accounts
from dashboard.availability import day_of
from dashboard.journal import Wanted, histories
from dashboard.pages import timeline
from dashboard.pages.timeline import Span
from dashboard.queries import Queries
from dashboard.retention import prepare_months, purge, purge_days
from dashboard.rollup import roll_up
from dashboard.store import Arrival, Store
from dashboard.tables import AVAILABILITY, EVENTS
from edge_agent.contracts.times import rfc3339
from tests.dashboard import stored
from tests.dashboard.stored import events, put

SOURCE, STREAM, SUBJECT = "/stores/0417/devices/cam", "ab" * 16, "shelf/12/product/milk"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def identity(at: datetime, number: int) -> str:
    return str(uuid.UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | number))


def product(sequence: int, at: datetime, kind: str, received: datetime | None = None) -> Arrival:
    """An event as it was made at a time, and as it came then or later."""
    body = {"type": f"shelfkit.product.{kind}.v1", "time": rfc3339(at), "data": {"since": rfc3339(at)}}
    body |= {"subject": SUBJECT, "streamid": STREAM, "sequence": f"{sequence:016d}"}
    came = rfc3339(received or at)
    name = identity(at, sequence)
    return Arrival(SOURCE, name, STREAM, sequence, body["type"], SUBJECT, came, json.dumps(body))  # type: ignore[arg-type]


def take(store: Store, *arrivals: Arrival) -> None:
    put(store, arrivals)


def fault(sequence: int, at: datetime, kind: str) -> Arrival:
    """A camera is covered, or sees again."""
    made = product(sequence, at, kind)
    body = json.loads(made.body) | {"type": f"shelfkit.camera.{kind}.v1", "subject": "shelf/12"}
    body["data"]["fault"] = "blocked"
    return made._replace(type=body["type"], subject="shelf/12", body=json.dumps(body))


def note(store: Store, state: dict[str, object]) -> None:
    """Let the device say how everything is."""
    stored.note(store, SOURCE, "0417", "cam", state=json.dumps(state))


def rolled(store: Store) -> dict[str, tuple[int, int, int, int]]:
    with store.engine.connect() as connection:
        rows = connection.execute(sa.select(AVAILABILITY).order_by(AVAILABILITY.c.day))
        return {row.day: (row.available_s, row.low_s, row.missing_s, row.events) for row in rows}


def test_days_are_rolled_up_and_again_where_events_come_late(store: Store) -> None:
    begin = NOW - 72 * HOUR
    take(store, product(1, begin, "restocked"), product(4, NOW - HOUR, "low-stock"))
    assert roll_up(store, NOW, {}) == 3
    assert rolled(store) == {
        "2026-11-23": (43200, 0, 0, 1),
        "2026-11-24": (86400, 0, 0, 0),
        "2026-11-25": (86400, 0, 0, 0),
    }
    assert roll_up(store, NOW, {}) == 0, "nothing is counted twice"
    late = [
        product(2, begin + 24 * HOUR, "out-of-stock", NOW),
        product(3, begin + 25 * HOUR, "restocked", NOW),
    ]
    take(store, *late)
    assert roll_up(store, NOW, {}) == 2
    assert rolled(store)["2026-11-24"] == (82800, 0, 3600, 2)
    assert rolled(store)["2026-11-25"] == (86400, 0, 0, 0)
    roll_up(store, NOW + 24 * HOUR, {})
    assert rolled(store)["2026-11-26"] == (11 * 3600, 13 * 3600, 0, 1)
    # Days in which nothing happens are days, too.
    assert roll_up(store, NOW + 72 * HOUR, {}) == 2
    assert rolled(store)["2026-11-28"] == (0, 86400, 0, 0)


def test_a_snapshot_repairs_the_days_of_what_was_lost(store: Store) -> None:
    take(store, product(1, NOW - 72 * HOUR, "restocked"))
    out = {"label": "milk", "state": "out", "since": rfc3339(NOW - 24 * HOUR)}
    note(store, {"shelf": "12", "products": [out], "slots": {}})
    roll_up(store, NOW, {})
    assert rolled(store)["2026-11-25"] == (43200, 0, 43200, 1)


def test_days_are_the_stores_and_counted_anew_when_its_zone_changes(store: Store) -> None:
    begin = datetime(2026, 11, 23, 20, tzinfo=UTC)
    take(store, product(1, begin, "restocked"), product(2, begin + 2 * HOUR, "out-of-stock"))
    there = {"0417": ZoneInfo("Asia/Shanghai")}
    assert roll_up(store, NOW, there) == 2
    # 20:00 in UTC is four in the morning of the next day.
    assert rolled(store) == {"2026-11-24": (7200, 0, 18 * 3600, 2), "2026-11-25": (0, 0, 86400, 0)}
    assert roll_up(store, NOW, {}) == 3
    assert rolled(store)["2026-11-23"] == (7200, 0, 7200, 2)


def test_a_day_with_a_changed_clock_has_as_many_hours_as_it_has(store: Store) -> None:
    take(store, product(1, datetime(2026, 10, 20, tzinfo=UTC), "restocked"))
    roll_up(store, NOW, {"0417": ZoneInfo("Europe/Berlin")})
    assert rolled(store)["2026-10-24"][0] == 86400
    assert rolled(store)["2026-10-25"][0] == 25 * 3600


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/St_Johns"])
def test_pages_say_the_same_whether_days_are_kept_or_not(store: Store, zone: str) -> None:
    """Events, a covered camera, and what a snapshot says alone; then without events."""
    begin = NOW - 120 * HOUR
    kinds = ("restocked", "low-stock", "out-of-stock")
    take(store, *(product(n, begin + n * 7 * HOUR, kinds[n % 3]) for n in range(1, 17)))
    take(
        store, fault(17, NOW - 70 * HOUR, "camera-fault"), fault(18, NOW - 60 * HOUR, "camera-fault-cleared")
    )
    tea = {"label": "tea", "name": "Tea", "state": "low", "since": rfc3339(NOW - 50 * HOUR)}
    milk = {"label": "milk", "name": "Milk", "state": "ok", "since": rfc3339(NOW - 8 * HOUR)}
    note(store, {"shelf": "12", "products": [milk, tea], "slots": {}, "time": rfc3339(NOW)})
    there = ZoneInfo(zone)

    def shown() -> dict[str, list[Span]]:
        found = histories(Queries(store.engine), Wanted("0417", "product", begin, NOW))
        return {one.title: one.spans for one in found}

    raw = shown()
    assert {name: len(told) for name, told in raw.items()} == {"Milk": 18, "Tea": 2}
    assert roll_up(store, NOW, {"0417": there}) > 0
    assert shown() == raw
    midnight = timeline.midnight(NOW.astimezone(there).date(), there)
    with store.writing() as connection:
        connection.execute(sa.delete(EVENTS).where(EVENTS.c.received < rfc3339(midnight)))
    assert shown() == raw, "days need no events any more"


def test_what_is_old_goes_and_what_waits_behind_a_hole_stays(store: Store) -> None:
    old, young = NOW - timedelta(days=500), NOW - timedelta(days=5)
    prepare_months(store, old)
    take(store, product(1, old, "restocked"), product(2, old, "low-stock"), product(4, old, "restocked"))
    take(store, product(6, young, "restocked"))
    roll_up(store, NOW, {})
    assert purge(store, timedelta(days=400), NOW) == 2
    with store.engine.connect() as connection:
        left = [row[0] for row in connection.exec_driver_sql("SELECT sequence FROM event ORDER BY sequence")]
    assert left == [4, 6]
    take(store, product(3, young, "low-stock"), product(5, young, "low-stock"))
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT upto FROM stream").scalar() == 6
    assert min(rolled(store)) == "2025-10-22"
    purge_days(store, timedelta(days=300), NOW)
    assert min(rolled(store)) == "2026-01-30"


def test_months_have_tables_and_what_came_before_moves_there(postgres_url: str) -> None:
    store = Store(postgres_url)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE event, stream, gap, device, availability, progress")
    past = datetime(2024, 2, 10, tzinfo=UTC)
    strange = product(3, NOW, "restocked")
    take(store, product(1, past, "restocked"), product(2, NOW, "restocked"))
    take(store, Arrival(SOURCE, "no-uuid", STREAM, 3, strange.type, SUBJECT, strange.received, strange.body))
    before = events(store)
    made = prepare_months(store, NOW)
    assert {"event_202402", "event_202611", "event_202612", "event_202701"} <= {
        *made,
        "event_202611",
        "event_202612",
        "event_202701",
    }
    assert events(store) == before
    with store.engine.connect() as connection:
        count = {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar()  # noqa: S608
            for name in ("event_202402", "event_202611", "event_other")
        }
    assert count == {"event_202402": 1, "event_202611": 1, "event_other": 1}
    take(store, product(1, past, "restocked"), product(2, NOW, "restocked"))
    assert len(events(store)) == 3
    assert prepare_months(store, NOW) == []
    purge(store, timedelta(days=400), past + timedelta(days=500))
    with store.engine.connect() as connection:
        assert not sa.inspect(connection).has_table("event_202402")
    store.close()


def test_upkeep_goes_on_whatever_befell_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries, again = [], threading.Event()

    def look_after(*_given: object) -> dict[str, int]:
        tries.append(1)
        if len(tries) == 1:
            message = "date value out of range"
            raise OverflowError(message)
        again.set()
        return {}

    monkeypatch.setattr(upkeep, "look_after", look_after)
    monkeypatch.setattr(upkeep, "_AGAIN_S", 0.01)
    accounts = Accounts()
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    with upkeep.Upkeep(store, upkeep.Policy(None, None), accounts.settings):
        assert again.wait(10)
    store.close()
    accounts.close()


def test_days_are_made_of_what_this_version_knows(store: Store) -> None:
    newer = product(1, NOW - 48 * HOUR, "restocked")
    body = json.loads(newer.body) | {"type": "shelfkit.product.restocked.v2", "data": {"since": [1]}}
    far = json.loads(newer.body) | {"data": {"since": "9999-12-31T23:59:59-05:00"}}
    utc = ZoneInfo("UTC")
    assert [day_of(one, utc) for one in (body, far)] == [date(2026, 11, 24)] * 2
    row = (newer.source, newer.id, newer.stream, newer.sequence, body["type"], newer.subject, newer.received)
    take(store, Arrival(*row, json.dumps(body)))
    assert roll_up(store, NOW, {}) == 0


def test_a_device_whose_days_cannot_be_written_is_no_matter_of_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """What an older recorder took in: a name that no index holds, and a snapshot that is none."""
    name = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(1000))
    bad = product(1, NOW - 48 * HOUR, "restocked")
    source = "/stores/0417/devices/aaa"
    row = (source, bad.id, STREAM, 1, bad.type, f"shelf/12/product/{name}", bad.received, bad.body)
    take(store, Arrival(*row), product(2, NOW - 48 * HOUR, "restocked"))
    stored.note(store, source, "0417", "aaa", state="no JSON")
    assert roll_up(store, NOW, {}) == 2
    assert [line for line in caplog.messages if source in line]
