"""The page of alerts: who may do what there, and what a device's words cannot do to it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboard.accounts.records import StoreSetting
from dashboard.alerts.book import Book
from dashboard.alerts.causes import Kind
from dashboard.alerts.deciding import Alert, Mute, Told
from dashboard.alerts.telling import Message, item_of
from dashboard.alerts.wire import Notice
from dashboard.web import Hub, build_app
from tests.dashboard.alerts.files import NOW, out, rules_of
from tests.dashboard.pages import Visitor, hidden
from tests.dashboard.test_accounts import House

RULES = "  - {name: empty, kind: out-of-stock, to: till}\n"


class Office(House):
    """A house with a rule, and alerts that a test writes down."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.book = Book(self.store.engine)
        rules = rules_of(folder, RULES)
        self.app = build_app(self.store, Hub(), lambda: True, self.access, rules=rules)
        self.accounts.settings.set("0417", StoreSetting("Bahnhofstrasse", "Europe/Zurich"))

    def alert(self, number: int = 1, **more: Any) -> Alert:  # noqa: ANN401 - of a cause
        """Write down an alert that was told, and what was sent for it."""
        at = NOW - timedelta(minutes=20)
        alert = Alert(
            id=f"a-{number}", rule="empty", cause=out(**more), since=at, opened=NOW, announced=NOW, told=NOW
        )
        item = item_of(Told(Notice.OPENED, alert), StoreSetting("", "UTC"), NOW)
        with self.book.changing() as connection:
            self.book.write(connection, [alert], [Message("till", f"a-{number}.opened", (item,))], NOW)
        return alert


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.accounts.close()
    made.store.close()


def send(client: Visitor, what: str, **fields: str) -> int:
    csrf = hidden(client.get("/account"))
    return client.post(f"/alerts/{what}", data={"csrf": csrf, **fields}).status_code


def test_what_is_wrong_stands_there_by_the_clock_of_its_store(office: Office) -> None:
    office.alert()
    text = office.member("viewer").get("/alerts").text
    for said in (
        "Open now: 1",
        "Out of stock: Milk 1 l (0/4)",
        "Bahnhofstrasse, Shelf 12, cam-12-01",
        "since 2026-11-26 12:40 (20 min)",
        "told 2026-11-26 13:00",
        'href="/stores/0417"',
    ):
        assert said in text, said
    assert "/alerts/take" not in text
    assert "/alerts/mute" not in text
    assert 'href="/alerts" aria-current="page"' in text


def test_staff_takes_an_alert_and_a_viewer_does_not(office: Office) -> None:
    office.alert()
    viewer, staff = office.member("viewer"), office.member("staff")
    assert send(viewer, "take", alert="a-1") == 403
    assert send(staff, "take", alert="a-1") == 303
    assert "✓ staff, 2026-11-26 13:00" in viewer.get("/alerts").text
    assert send(staff, "take", alert="a-1") == 409
    assert send(staff, "take", alert="none") == 409
    assert send(staff, "take") == 409
    assert office.audited()[0] == ("staff", "alert-take")


def test_an_administrator_mutes_and_ends_it(office: Office) -> None:
    office.alert()
    staff, admin = office.member("staff"), office.member("admin")
    assert send(staff, "mute", store="0417", hours="1") == 403
    assert send(staff, "unmute", mute="x") == 403
    assert send(admin, "mute", store="0417", device="", rule="empty", label="", hours="8") == 303
    (mute,) = office.book.muted(NOW)
    assert office.book.mutes(NOW) == [Mute(store="0417", rule="empty", until=NOW + timedelta(hours=8))]
    text = staff.get("/alerts").text
    assert "0417 · empty" in text
    assert '<span class="pill low">muted</span>' in text
    assert send(admin, "unmute", mute=mute["id"]) == 303
    assert send(admin, "unmute", mute=mute["id"]) == 303
    assert office.book.mutes(NOW) == []
    assert send(admin, "mute", hours="") == 303
    assert office.book.mutes(NOW) == [Mute()]
    assert [what for _, what in office.audited()[:3]] == ["alert-mute", "alert-unmute", "alert-mute"]


@pytest.mark.parametrize(
    "fields",
    [{"hours": "2"}, {"hours": "1e9"}, {"store": "x" * 129, "hours": "1"}, {"rule": "a\nb", "hours": "1"}],
)
def test_a_mute_that_makes_no_sense(office: Office, fields: dict[str, str]) -> None:
    assert send(office.member("admin"), "mute", **fields) == 400
    assert office.book.muted(NOW) == []


def test_the_form_is_filled_from_an_alert(office: Office) -> None:
    office.alert()
    admin = office.member("admin")
    text = admin.get("/alerts?store=0417&device=cam-12-01&rule=empty&label=%22%3E%3Cscript%3E").text
    assert 'name="store" value="0417"' in text
    assert '<option value="empty" selected>' in text
    assert "<script>" not in text


def test_what_devices_say_stays_a_text(office: Office) -> None:
    evil = '<img src=x onerror="alert(1)">'
    office.alert(label=evil, name=evil, detail=evil, shelf=evil)
    for number, kind in enumerate(Kind, start=2):
        office.alert(number, kind=kind, subject=f"camera/{evil}", detail=evil, name="", label="")
    admin = office.member("admin")
    for path in ("/alerts", "/alerts/log"):
        for code in ("en", "zh"):
            admin.cookies.set("shelfkit_language", code, domain="kit.local")
            answer = admin.get(path)
            assert answer.status_code == 200
            assert "<img src=x" not in answer.text
    assert "onerror" in admin.get("/alerts").text


def test_what_is_over_and_what_was_delivered(office: Office) -> None:
    alert = office.alert()
    over = replace(alert, closed=NOW + timedelta(minutes=10), done=True)
    with office.book.changing() as connection:
        office.book.write(connection, [over], [], NOW)
    (waiting,) = office.book.due("till", NOW, 9)
    viewer = office.member("viewer")
    assert "waiting" in viewer.get("/alerts/log").text
    office.book.sent(waiting.message, "HTTP 200", NOW)
    text = viewer.get("/alerts/log").text
    for said in ("✓ sent", "HTTP 200", "Alert: Out of stock: Milk 1 l", "till"):
        assert said in text, said
    text = viewer.get("/alerts").text
    assert "Over lately" in text
    assert "30 min" in text
    assert "Nothing is wrong" in text


def test_the_log_has_pages(office: Office) -> None:
    for number in range(101):
        office.alert(number)
    viewer = office.member("viewer")
    first, second = viewer.get("/alerts/log").text, viewer.get("/alerts/log?page=2").text
    assert (first.count("<tr data-key="), second.count("<tr data-key=")) == (100, 1)
    assert 'href="?page=2"' in first
    assert 'href="?page=1"' in second
    for odd in ("0", "-1", "x", "9" * 30):
        assert viewer.get(f"/alerts/log?page={odd}").status_code == 200


def test_without_rules_it_says_so(office: Office) -> None:
    app = build_app(office.store, Hub(), lambda: True)
    text = Visitor(app).get("/alerts").text
    assert "started without --alerts" in text
    assert "Nothing is wrong" in text


def test_what_prometheus_may_know(office: Office) -> None:
    office.alert()
    text = office.member("viewer").get("/metrics").text
    assert "shelfkit_alerts_open 1.0" in text
    assert 'shelfkit_alert_deliveries{state="waiting"} 1.0' in text
    assert 'shelfkit_alert_deliveries{state="given-up"} 0.0' in text
