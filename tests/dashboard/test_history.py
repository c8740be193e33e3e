"""Histories, availability and the fleet, asked of the application on both databases."""

import csv
import io
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from dashboard.accounts.gate import Access
from dashboard.accounts.records import Accounts, StoreSetting
from dashboard.batch import Batch, Place, Refusal
from dashboard.pages import clock, language
from dashboard.store import Arrival, Store
from dashboard.tables import DEVICES
from dashboard.web import Hub, build_app
from edge_agent.contracts import events
from edge_agent.contracts.times import rfc3339
from tests.dashboard.pages import GOLDEN, Visitor, health, snapshot
from tests.dashboard.stored import note, put

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
STREAM = "7f0c9a52d1b84d0e8f4c2b1a90e7d655"
SOURCE = events.source("0417", "cam-12-01")


def ago(hours: float) -> str:
    return rfc3339(NOW - timedelta(hours=hours))


class Past:
    """Writes events of one device into a store, as if they had come."""

    def __init__(self, store: Store) -> None:
        self._store, self._number = store, 0

    def tell(self, kind: str, hours: float, *, late_h: float = 0, **data: object) -> None:
        """Write one that happened so many hours ago."""
        self._number += 1
        body = json.loads((GOLDEN / f"event-{kind}.v1.json").read_text())
        body |= {"sequence": f"{self._number:016d}", "time": ago(hours), "id": f"id-{self._number}"}
        body["data"] |= {"since": ago(hours)} | data
        place = (body["type"], body["subject"], ago(hours - late_h), json.dumps(body))
        put(self._store, [Arrival(SOURCE, body["id"], STREAM, self._number, *place)])


@pytest.fixture
def visitor(store: Store) -> Visitor:
    """Somebody who looks at a store with a week behind it, at a fixed moment."""
    past = Past(store)
    past.tell("restocked", 400)
    past.tell("slot-changed", 100, state="empty", previous="present")
    past.tell("out-of-stock", 50)
    past.tell("restocked", 40)
    past.tell("slot-changed", 40, state="present", previous="empty")
    past.tell("out-of-stock", 10, late_h=9)
    past.tell("restocked", 8, late_h=7)
    past.tell("camera-fault", 4)
    past.tell("camera-fault-cleared", 2)
    state = snapshot(camera={"faults": []}, time=ago(0))
    note(store, SOURCE, "0417", "cam-12-01", state=json.dumps(state))
    return Visitor(build_app(store, Hub(), lambda: True, access()))


def access() -> Access:
    return Access(Accounts(), login=False, clock=lambda: NOW)


def spans(visitor: Visitor, place: str) -> list[tuple[str, float]]:
    found = visitor.get(f"/stores/0417/{place}/history.json?days=7").json()["spans"]
    return [(span["state"], span["seconds"] / 3600) for span in found]


def test_a_products_week(visitor: Visitor) -> None:
    week = [("ok", 118), ("out", 10), ("ok", 30), ("out", 2), ("ok", 4), ("unknown", 2), ("ok", 2)]
    assert spans(visitor, "products/milk-1l") == week
    page = visitor.get("/stores/0417/products/milk-1l?days=7").text
    known, out = 166, 12
    assert f"{(known - out) / known * 100:.1f} %" in page
    assert "2026-W48" in page
    assert page.count('class="out"') == 2
    day = visitor.get("/stores/0417/products/milk-1l?days=1").text
    assert f"{20 / 22 * 100:.1f} %" in day


def test_a_slots_week(visitor: Visitor) -> None:
    """What the first event says of the time before it is no word about how long."""
    week = [("unknown", 68), ("empty", 60), ("present", 36), ("unknown", 2), ("present", 2)]
    assert spans(visitor, "devices/cam-12-01/slots/A3") == week


def test_a_history_as_a_table_and_what_is_not_there(visitor: Visitor) -> None:
    answer = visitor.get("/stores/0417/products/milk-1l/history.csv?days=7")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["state"] for row in rows] == ["ok", "out", "ok", "out", "ok", "unknown", "ok"]
    assert rows[1]["open_seconds"] == rows[1]["seconds"]
    assert rows[1] | {"seconds": "", "open_seconds": ""} == {
        "store": "0417", "shelf": "12", "device": "cam-12-01", "name": "milk-1l", "title": "Milk 1 l",
        "gtin": "09506000134352", "state": "out", "begin": ago(50), "end": ago(40), "seconds": "",
        "open_seconds": "",
    }  # fmt: skip
    whole = list(csv.DictReader(io.StringIO(visitor.get("/stores/0417/availability.csv?days=7").text)))
    assert whole == rows
    for place in (
        "products/none", "products/%00", "products/..%2f..%2fetc", "devices/none/slots/A3",
        "devices/cam-12-01/slots/Z9", "products/none/history.csv",
    ):  # fmt: skip
        assert visitor.get(f"/stores/0417/{place}").status_code == 404, place
    for store in ("none", "%2e%2e", "0417%00", "x" * 200):
        assert visitor.get(f"/stores/{store}/availability").status_code == 404, store
    assert visitor.get("/stores/0417/availability?days=9999999999").status_code == 200


def test_a_fault_whose_end_nobody_told_is_over_when_the_snapshot_says_so(store: Store) -> None:
    past = Past(store)
    past.tell("restocked", 100)
    past.tell("camera-fault", 60)
    past.tell("out-of-stock", 20)
    text = json.dumps(snapshot(camera={"faults": []}, time=ago(0)))
    note(store, SOURCE, "0417", "cam-12-01", state=text)
    visitor = Visitor(build_app(store, Hub(), lambda: True, access()))
    assert spans(visitor, "products/milk-1l") == [("unknown", 68), ("ok", 40), ("unknown", 40), ("out", 20)]


def test_what_no_event_tells_of_is_as_the_snapshot_says(store: Store) -> None:
    since = ago(30)
    product = {
        "label": "milk-1l",
        "name": "=cmd()",
        "facings": 2,
        "filled": 0,
        "state": "out",
        "since": since,
    }
    text = json.dumps(snapshot(products=[product], camera={"faults": []}))
    note(store, SOURCE, "0417", "cam-12-01", state=text)
    visitor = Visitor(build_app(store, Hub(), lambda: True, access()))
    assert spans(visitor, "products/milk-1l") == [("unknown", 138), ("out", 30)]
    table = visitor.get("/stores/0417/products/milk-1l/history.csv").text
    assert "'=cmd()" in table, "no formula for a spreadsheet"


def test_the_days_of_a_page_are_the_stores(store: Store, visitor: Visitor) -> None:
    inside = access()
    inside.accounts.settings.set("0417", StoreSetting("Shop", "Asia/Shanghai"))
    there = Visitor(build_app(store, Hub(), lambda: True, inside))
    assert "2026-11-26 20:00" in there.get("/stores/0417/products/milk-1l").text
    assert "2026-11-26 12:00" in visitor.get("/stores/0417/products/milk-1l").text


def test_with_opening_hours_no_other_time_counts(store: Store, visitor: Visitor) -> None:
    """Out on Tuesday from 11:00 to 21:00, and on Thursday from 3:00 to 5:00, by the clock of Berlin."""
    assert "no opening hours set" in visitor.get("/stores/0417/availability").text
    inside = access()
    inside.accounts.settings.set("0417", StoreSetting("", "Europe/Berlin", "mon-sun 08:00-20:00"))
    there = Visitor(build_app(store, Hub(), lambda: True, inside))
    table = there.get("/stores/0417/products/milk-1l/history.csv?days=7").text
    rows = [row for row in csv.DictReader(io.StringIO(table)) if row["state"] == "out"]
    assert [float(row["open_seconds"]) / 3600 for row in rows] == [9, 0]
    assert [float(row["seconds"]) / 3600 for row in rows] == [10, 2]
    page = there.get("/stores/0417/products/milk-1l?days=7").text
    assert "Only opening hours count: Monday-Sunday 08:00-20:00." in page
    open_, dark, out = 7 + 6 * 12 + 5, 2, 9
    assert f"{(open_ - dark - out) / (open_ - dark) * 100:.1f} %" in page
    assert there.get("/stores/0417/availability?days=7").text.count("9 h") == 3, "out, longest, top gap"


@pytest.mark.usefixtures("visitor")
def test_opening_hours_are_set_day_by_day(store: Store) -> None:
    def save(**days: str) -> httpx.Response:
        fields = {f"hours-{day}": text for day, text in days.items()}
        return there.post("/stores/0417/settings", data={"csrf": inside.secret, "zone": "UTC", **fields})

    inside = access()
    there = Visitor(build_app(store, Hub(), lambda: True, inside))
    assert save(mon="8:00-12:00, 13:30-18:30", tue="08：00–12：00，13：30–18：30").status_code == 303  # noqa: RUF001 - as it is typed
    assert inside.accounts.settings.of("0417").hours == "mon-tue 08:00-12:00,13:30-18:30"
    assert there.get("/stores/0417/settings").text.count('value="08:00-12:00,13:30-18:30"') == 2
    wrong = save(mon="8-12", wed="09:00-17:00")
    assert wrong.status_code == 400
    assert "Received: 8-12" in wrong.text
    assert 'value="09:00-17:00"' in wrong.text, "what was typed is not lost"
    assert inside.accounts.settings.of("0417").hours.startswith("mon-tue")
    assert save().status_code == 303
    assert inside.accounts.settings.of("0417").week is None


def test_the_fleet_by_filter_order_and_page(store: Store) -> None:
    for number in range(250):
        name = f"cam-{number:03d}"
        said = health(
            status=("online", "offline")[number % 2],
            versions={"agent": f"0.{number % 3}.0"},
            outbox_age_s=float(number),
            update="trial" if number == 7 else None,
        )
        note(store, events.source("1", name), "1", name, health=json.dumps(said))
    visitor = Visitor(build_app(store, Hub(), lambda: True, access()))

    def names(query: str) -> list[str]:
        rows = visitor.get(f"/fleet?{query}").text.split('<tr data-device="')[1:]
        return [row.split('"')[0] for row in rows]

    assert names("") == [f"cam-{number:03d}" for number in range(100)]
    assert names("page=3") == [f"cam-{number:03d}" for number in range(200, 250)]
    assert names("page=4") == []
    assert names("sort=-age")[:2] == ["cam-249", "cam-248"]
    assert names("status=offline&sort=age")[:2] == ["cam-001", "cam-003"]
    assert names("phase=trial") == ["cam-007"]
    assert names("text=24&agent=0.0.0") == ["cam-024", "cam-240", "cam-243", "cam-246", "cam-249"]
    assert names("text=%25") == [], "no wildcard of SQL"
    assert names("store=2") == []
    assert len(names("sort=device;drop&page=-1&status=")) == 100


def test_a_page_of_ten_thousand_devices_is_a_page(tmp_path: Path) -> None:
    """No limit in seconds: it must not send or hold all of them."""
    store = Store(f"sqlite:///{tmp_path / 'd.sqlite'}")
    text = json.dumps(snapshot())
    names = [f"cam-{number:05d}" for number in range(10_000)]
    rows = [
        {
            "source": events.source("1", name),
            "store": "1",
            "device": name,
            "health": json.dumps(health(outbox_age_s=number % 977)),
            "state": text,
        }
        for number, name in enumerate(names)
    ]
    with store.engine.begin() as connection:
        connection.execute(sa.insert(DEVICES), rows)
    visitor = Visitor(build_app(store, Hub(), lambda: True, access()))
    begin = time.perf_counter()
    answer = visitor.get("/fleet?sort=-age&page=50")
    print(f"one page of 10,000 devices: {time.perf_counter() - begin:.3f} s")  # noqa: T201 - a figure to read
    assert "Devices: 10000" in answer.text
    assert len(answer.content) < 100_000
    assert answer.text.count("<tr data-device=") == 100
    store.close()


def test_languages_have_the_same_words_and_places() -> None:
    known = language.catalogues()
    english = known["en"].words
    for code, one in known.items():
        assert one.words.keys() == english.keys(), code
        for key, text in one.words.items():
            places = sorted(language._PLACE.findall(text))
            assert places == sorted(language._PLACE.findall(english[key])), f"{code} {key}"


@pytest.mark.parametrize(
    ("wished", "accepted", "code"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr-CH, de;q=0.9, zh;q=0.3, en;q=0.2", "zh"),
        (None, "zh;q=0, en;q=0.1", "en"),
        ("en", "zh", "en"),
        ("../../etc", "zh", "zh"),
        (None, "x" * 10_000 + ";q=9,,;;q=", "en"),
    ],
)
def test_the_language_is_the_readers(wished: str | None, accepted: str, code: str) -> None:
    assert language.choose(wished, accepted).code == code


def test_spans_in_words() -> None:
    english = language.catalogues()["en"]
    said = [clock.span(english, seconds) for seconds in (-1, 59, 61, 3600, 7260, 90_000)]
    assert said == ["0 s", "59 s", "1 min", "1 h", "2 h 1 min", "1 d 1 h"]
    assert clock.at("no moment", "UTC") == "no moment"


def test_gaps_are_shown_by_stream_with_their_reason(store: Store) -> None:
    note(store, SOURCE, "0417", "cam-12-01", health=json.dumps(health()))
    stream = "7f0c9a52d1b84d0e8f4c2b1a90e7d655"
    with store.writing() as connection:
        bad = Refusal("2026-11-26T12:00:00.000Z", "t", "no event", b"", Place(SOURCE, stream, 9))
        batch = Batch(refusals=[bad], oldest={(SOURCE, stream): 5})
        store.take(connection, batch, NOW)
    visitor = Visitor(build_app(store, Hub(), lambda: True, access()))
    page = visitor.get("/fleet").text
    rows = [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in page.split("<tr data-gap=")[1:]]
    assert [row.split("cam-12-01 0417 ")[1][:60] for row in rows] == [
        "7f0c9a52 1\u20134 4 lost on the device 2026-11-26 12:00",
        "7f0c9a52 9\u20139 1 no event: in quarantine 2026-11-26 12:00",
    ]
    found = visitor.get("/api/v1/gaps").json()["gaps"]
    assert [(gap["first"], gap["reason"]) for gap in found] == [(1, "lost"), (9, "refused")]
    text = visitor.get("/metrics").text
    assert "shelfkit_events_lost 4.0" in text
    assert "shelfkit_events_refused 1.0" in text


def test_what_is_on_no_planogram_any_more_keeps_its_history(store: Store, visitor: Visitor) -> None:
    state = snapshot(camera={"faults": []}, products=[], slots={}, time=ago(0))
    note(store, SOURCE, "0417", "cam-12-01", state=json.dumps(state))
    page = visitor.get("/stores/0417/products/milk-1l?days=28")
    assert page.status_code == 200
    assert "Milk 1 l" in page.text
    assert spans(visitor, "products/milk-1l")[-1] == ("unknown", 8)
    assert ("out", 10) in spans(visitor, "products/milk-1l")
    assert visitor.get("/stores/0417/devices/cam-12-01/slots/A3").status_code == 200
    assert visitor.get("/stores/0417/products/never").status_code == 404
