"""What is written down, on both databases; what is looked at; and couriers that fail and come again."""

import contextlib
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dashboard import backup as copies
from dashboard.accounts.records import StoreSetting
from dashboard.alerts.book import GIVEN_UP, SENT, WAITING, Book
from dashboard.alerts.causes import Kind
from dashboard.alerts.courier import Courier
from dashboard.alerts.deciding import Alert, Mute
from dashboard.alerts.rules import Rules
from dashboard.alerts.sending import AwayError, RefusedError, Send
from dashboard.alerts.telling import Message
from dashboard.alerts.watch import Sight, Watch
from dashboard.store import Store
from edge_agent.contracts import events
from tests.dashboard.alerts.files import NOW, out, rules_of
from tests.dashboard.alerts.test_causes import golden
from tests.dashboard.stored import note
from tests.dashboard.test_backup import Home

MINUTE = timedelta(minutes=1)
RULE = "  - {name: empty, kind: out-of-stock, after: 10min, to: till}\n"
CUT = "  - {name: cut, kind: device-offline, after: 10min, to: till}\n"
PRODUCT = golden("state")["products"][0]


def says(
    store: Store, device: str, state: dict[str, Any] | None, health: dict[str, Any] | None, shop: str = "0417"
) -> None:
    """Have a device say something."""
    told = {
        name: json.dumps(value) for name, value in (("state", state), ("health", health)) if value is not None
    }
    note(store, events.source(shop, device), shop, device, **told)


def shelf(level: str, since: datetime = NOW) -> dict[str, Any]:
    told = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return golden(
        "state", products=[PRODUCT | {"state": level, "since": told}], camera={"faults": []}, slots={}
    )


def watch(store: Store, rules: Rules, *stores: str) -> Watch:
    """Return one who looks as after a start."""
    settings = {
        "0417": StoreSetting("Bahnhofstrasse", "Europe/Zurich"),
        "9": StoreSetting("", "Mars/Olympus"),
    }
    return Watch(rules, Sight(store.engine, stores), Book(store.engine), lambda: settings, stores)


def keys(store: Store) -> list[str]:
    return sorted(row["key"].partition(".")[2] for row in Book(store.engine).deliveries(0, 100))


def test_what_was_told_is_not_told_again_after_a_restart(store: Store, tmp_path: Path) -> None:
    rules = rules_of(tmp_path, RULE)
    says(store, "cam-12-01", shelf("out"), golden("health"))
    for minute in (0, 5, 9):
        watch(store, rules).look(NOW + minute * MINUTE)
    assert keys(store) == []
    for minute in (10, 11, 200):
        watch(store, rules).look(NOW + minute * MINUTE)
    assert keys(store) == ["opened"]
    (alert,) = Book(store.engine).opened(9)
    assert (alert.since, alert.opened, alert.announced) == (NOW, NOW + 10 * MINUTE, NOW + 10 * MINUTE)
    says(store, "cam-12-01", shelf("ok"), None)
    watch(store, rules).look(NOW + 201 * MINUTE)
    assert keys(store) == ["opened", "resolved"]
    (body,) = {row["items"][0]["title"] for row in Book(store.engine).deliveries(0, 9)}
    assert body == "Bahnhofstrasse"


def test_what_tells_no_beginning_is_remembered_over_a_restart(store: Store, tmp_path: Path) -> None:
    rules = rules_of(tmp_path, CUT)
    says(store, "cam-12-01", None, {"status": "offline"})
    watch(store, rules).look(NOW)
    assert Book(store.engine).opened(9) == []
    watch(store, rules).look(NOW + 10 * MINUTE)
    assert keys(store) == ["opened"]


def test_a_device_that_is_heard_is_not_silent(store: Store, tmp_path: Path) -> None:
    """Whatever its own clock says."""
    rules = rules_of(tmp_path, "  - {name: still, kind: device-silent, after: 5min, to: till}\n")
    wrong = golden("health", clock_synchronized=False, outbox_age_s=0)
    says(store, "cam-12-01", None, wrong)
    one = watch(store, rules)
    for minute in range(10):
        says(store, "cam-12-01", None, wrong | {"uptime_s": minute})
        one.look(NOW + minute * MINUTE)
    assert keys(store) == []
    for minute in range(10, 20):
        one.look(NOW + minute * MINUTE)
    assert keys(store) == ["opened"]


def test_each_recorder_looks_after_its_own_stores(store: Store, tmp_path: Path) -> None:
    rules = rules_of(tmp_path, RULE)
    says(store, "cam-12-01", shelf("out"), None)
    says(store, "cam-1", shelf("out"), None, "9")
    one, other = watch(store, rules, "0417"), watch(store, rules, "9")
    for minute in (10, 11):
        one.look(NOW + minute * MINUTE)
        other.look(NOW + minute * MINUTE)
    assert {alert.cause.store for alert in Book(store.engine).opened(9)} == {"0417", "9"}
    assert keys(store) == ["opened", "opened"]


def test_two_who_look_at_the_same_tell_it_once(store: Store, tmp_path: Path) -> None:
    rules = rules_of(tmp_path, RULE)
    for number in range(20):
        says(store, f"cam-{number}", shelf("out"), None)
    ready = threading.Barrier(4)

    def look() -> None:
        one = watch(store, rules)
        ready.wait()
        one.look(NOW + 10 * MINUTE)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys(store) == ["opened"] * 20
    assert len(Book(store.engine).opened(99)) == 20


def test_more_devices_than_a_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.alerts.watch._PAGE", 7)
    for number in range(15):
        says(store, f"cam-{number}", shelf("out"), None)
    sight = Sight(store.engine, ())
    assert len(sight.look(NOW)) == 15
    with store.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM device WHERE device = 'cam-3'"))
    assert len(sight.look(NOW)) == 14


def test_somebody_takes_an_alert_once(store: Store, tmp_path: Path) -> None:
    rules, book = rules_of(tmp_path, RULE.replace("after", "repeat: 2min, after")), Book(store.engine)
    says(store, "cam-12-01", shelf("out"), None)
    watch(store, rules).look(NOW + 10 * MINUTE)
    (alert,) = book.opened(9)
    taken = book.take(alert.id, "mei", NOW + 11 * MINUTE)
    assert taken == replace(alert, taken=NOW + 11 * MINUTE, taken_by="mei")
    assert book.take(alert.id, "ben", NOW) is None
    assert book.take("none", "ben", NOW) is None
    watch(store, rules).look(NOW + 20 * MINUTE)
    assert keys(store) == ["opened"]
    (alert,) = book.opened(9)
    assert alert.taken_by == "mei"
    says(store, "cam-12-01", shelf("ok"), None)
    watch(store, rules).look(NOW + 21 * MINUTE)
    assert book.take(alert.id, "ben", NOW) is None
    assert [(one.id, one.taken_by) for one in book.over(9)] == [(alert.id, "mei")]


def test_mutes_are_kept_until_they_end(store: Store) -> None:
    book = Book(store.engine)
    book.mute("m1", Mute(store="0417", until=NOW + MINUTE), "mei", NOW)
    book.mute("m2", Mute(label="tea"), "mei", NOW)
    assert book.mutes(NOW) == [Mute(store="0417", until=NOW + MINUTE), Mute(label="tea")]
    assert book.mutes(NOW + MINUTE) == [Mute(label="tea")]
    found = book.unmute("m2")
    assert found is not None
    assert found["label"] == "tea"
    assert book.unmute("m2") is None
    assert book.mutes(NOW + MINUTE) == []


def test_what_is_over_long_ago_goes(store: Store, tmp_path: Path) -> None:
    rules, book = rules_of(tmp_path, RULE), Book(store.engine)
    says(store, "cam-12-01", shelf("out"), None)
    says(store, "cam-13-01", shelf("out"), None)
    watch(store, rules).look(NOW + 10 * MINUTE)
    says(store, "cam-12-01", shelf("ok"), None)
    watch(store, rules).look(NOW + 11 * MINUTE)
    for each in book.due("till", NOW + 11 * MINUTE, 9):
        book.sent(each.message, "", NOW + 11 * MINUTE)
    book.mute("m", Mute(until=NOW), "mei", NOW)
    book.purge(NOW + 11 * MINUTE)
    assert (len(book.over(9)), len(book.deliveries(0, 9))) == (1, 3)
    book.purge(NOW + 12 * MINUTE)
    assert (len(book.over(9)), len(book.deliveries(0, 9)), len(book.opened(9))) == (0, 0, 1)


def test_a_backup_has_them(store: Store, tmp_path: Path) -> None:
    rules = rules_of(tmp_path, RULE)
    says(store, "cam-12-01", shelf("out"), None)
    watch(store, rules).look(NOW + 10 * MINUTE)
    with contextlib.ExitStack() as stack:
        again = Home(f"sqlite:///{tmp_path / 'again.sqlite'}", tmp_path / "files", stack)
        copies.backup(replace(again.kept, store=store), tmp_path / "backup.sqlite")
        copies.restore(tmp_path / "backup.sqlite", again.kept)
        watch(again.store, rules).look(NOW + 20 * MINUTE)
        assert keys(again.store) == ["opened"]


class Street:
    """A channel that does as it is bid; keeps what arrived."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.away = False
        self.refuses: set[str] = set()

    @contextmanager
    def session(self) -> Iterator[Send]:
        if self.away:
            raise AwayError("nobody is there")
        yield self._send

    def _send(self, message: Message, _now: datetime) -> str:
        if message.key in self.refuses:
            raise RefusedError("not this one")
        if self.away:
            raise AwayError("gone meanwhile")
        self.arrived.append(message.key)
        return "thanks"


class Post:
    """A courier with a clock that a test turns, and messages in the book."""

    def __init__(self, store: Store, count: int = 3) -> None:
        self.book, self.street, self.now = Book(store.engine), Street(), NOW
        self.put(*(f"{number}.opened" for number in range(count)))
        self.courier = self.another()

    def put(self, *names: str) -> None:
        mail = [Message("till", name, ({"id": name},)) for name in names]
        with self.book.changing() as connection:
            self.book.write(connection, [], mail, self.now)

    def another(self) -> Courier:
        """Return one who knows nothing but the book."""
        give_up, rng = timedelta(hours=12), random.Random(1)
        return Courier("till", self.street, self.book, give_up, rng, lambda: self.now)

    def states(self) -> list[tuple[str, int]]:
        rows = sorted(self.book.deliveries(0, 100), key=lambda row: row["key"])
        return [(row["state"], row["attempts"]) for row in rows]


def test_what_waits_is_sent_once_in_order(store: Store) -> None:
    post = Post(store)
    assert not post.courier.serve()
    assert not post.another().serve()
    assert post.street.arrived == ["0.opened", "1.opened", "2.opened"]
    assert post.states() == [(SENT, 1)] * 3
    post.put("0.opened")
    post.courier.serve()
    assert len(post.street.arrived) == 3, "what has a key that was sent is not sent again"


def test_a_channel_that_is_away_is_left_alone_longer_and_longer(store: Store) -> None:
    post = Post(store)
    post.street.away = True
    pauses = []
    for _ in range(6):
        pauses.append(post.courier.serve())
        post.now += pauses[-1]
    assert all(later > 1.2 * earlier for earlier, later in zip(pauses[:-1:2], pauses[1::2], strict=True))
    assert post.states() == [(WAITING, 6), (WAITING, 0), (WAITING, 0)]
    post.street.away = False
    post.now += pauses[-1]
    post.courier.serve()
    assert post.street.arrived == ["0.opened", "1.opened", "2.opened"]
    assert post.book.counts() == {"open": 0, "failing": 0, WAITING: 0, SENT: 3, GIVEN_UP: 0}


def test_one_that_is_refused_holds_up_no_other(store: Store) -> None:
    post = Post(store)
    post.street.refuses = {"0.opened"}
    post.courier.serve()
    assert post.street.arrived == ["1.opened", "2.opened"]
    assert post.states() == [(WAITING, 1), (SENT, 1), (SENT, 1)]
    assert post.book.counts()["failing"] == 1
    post.courier.serve()
    assert post.states()[0] == (WAITING, 1), "not before its time"
    post.street.refuses = set()
    post.now += MINUTE
    post.courier.serve()
    assert post.street.arrived == ["1.opened", "2.opened", "0.opened"]


@pytest.mark.parametrize("away", [True, False])
def test_in_the_end_it_is_given_up(store: Store, away: bool) -> None:
    post = Post(store, 1)
    post.street.away, post.street.refuses = away, {"0.opened"}
    tries = 0
    while post.states()[0][0] == WAITING:
        post.now += post.courier.serve() or timedelta(minutes=30)
        tries += 1
    assert timedelta(hours=12) <= post.now - NOW < timedelta(hours=14)
    assert tries < 50
    assert post.states()[0][0] == GIVEN_UP
    (row,) = post.book.deliveries(0, 9)
    assert ("nobody is there" if away else "not this one") in row["said"]


def test_who_dies_between_sending_and_noting_sends_the_same_again(store: Store) -> None:
    post = Post(store, 1)

    class Dying(Book):
        def sent(self, *_told: object) -> None:
            raise sa.exc.OperationalError("the disk is full", None, Exception())

    dying = Courier(
        "till", post.street, Dying(store.engine), timedelta(days=3), random.Random(1), lambda: NOW
    )
    with pytest.raises(sa.exc.OperationalError):
        dying.serve()
    post.courier.serve()
    assert post.street.arrived == ["0.opened", "0.opened"]
    assert post.states() == [(SENT, 1)]


def test_an_alert_comes_back_as_it_was(store: Store) -> None:
    cause = out(kind=Kind.MISPLACED, since=NOW, gtin="1", shelf="")
    alert = Alert(
        id="x", rule="r", cause=replace(cause, since=None), since=NOW, opened=NOW, times=3, closed=NOW
    )
    book = Book(store.engine)
    with book.changing() as connection:
        book.write(connection, [alert], [], NOW)
    assert book.undone(()) == [alert]
    assert book.undone(["0417"]) == [alert]
    assert book.undone(["9"]) == []
    assert datetime.now(UTC) > NOW
