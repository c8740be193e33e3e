"""Who is told what, when: by examples, and by whatever days hypothesis thinks of."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.alerts.causes import Cause, Kind
from dashboard.alerts.deciding import Alert, Decision, Mute, Situation, Told, decide
from dashboard.alerts.rules import Rules
from dashboard.alerts.wire import Notice
from tests.dashboard.alerts.files import NOW, out, rules_of

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ZURICH = ZoneInfo("Europe/Zurich")


class Watcher:
    """Keeps what was decided, as the database does.

    Args:
        rules: What counts.
        zone: Of every store.
    """

    def __init__(self, rules: Rules, zone: ZoneInfo = ZURICH) -> None:
        self.rules, self.zone = rules, zone
        self.alerts: dict[str, Alert] = {}
        self.told: list[Told] = []
        self.mutes: list[Mute] = []
        self._ids = map(str, itertools.count(1))

    def look(self, now: datetime, *causes: Cause) -> Decision:
        """Decide, and keep it."""
        here = Situation(self.rules, {"0417": self.zone}, self.mutes, now)
        open_ = [alert for alert in self.alerts.values() if not alert.done]
        decision = decide(here, causes, open_, lambda: next(self._ids))
        self.alerts |= decision.alerts
        self.told += decision.notices
        return decision

    def said(self) -> list[str]:
        """Return what was told, by its key."""
        return [each.key for each in self.told]

    def take(self, identity: str, now: datetime) -> None:
        """Have somebody care for an alert."""
        self.alerts[identity] = replace(self.alerts[identity], taken=now, taken_by="mei")


def rule(folder: Path, text: str = "") -> Rules:
    return rules_of(folder, f"  - {{name: empty, kind: out-of-stock, to: till{text}}}\n")


def test_a_trouble_is_told_once_it_has_lasted_and_again_when_it_is_over(tmp_path: Path) -> None:
    watcher = Watcher(rule(tmp_path, ", after: 15min"))
    cause = out(since=NOW)
    for minute in range(15):
        assert not watcher.look(NOW + minute * MINUTE, cause)
    watcher.look(NOW + 15 * MINUTE, cause)
    assert watcher.said() == ["1.opened"]
    assert not watcher.look(NOW + 600 * MINUTE, cause)
    watcher.look(NOW + 601 * MINUTE)
    assert watcher.said() == ["1.opened", "1.resolved"]
    assert watcher.alerts["1"].done
    watcher.look(NOW + 602 * MINUTE, out(since=NOW + 580 * MINUTE))
    assert watcher.said()[2:] == ["2.opened"]


def test_what_tells_no_beginning_is_remembered_from_when_it_was_first_seen(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "  - {name: cut, kind: device-offline, after: 10min, to: till}\n")
    cause = Cause(kind=Kind.DEVICE_OFFLINE, store="0417", device="cam-12-01")
    watcher = Watcher(rules)
    watcher.look(NOW, cause)
    watcher.look(NOW + 9 * MINUTE, cause)
    assert watcher.said() == []
    watcher.look(NOW + 10 * MINUTE, cause)
    assert watcher.said() == ["1.opened"]
    assert watcher.alerts["1"].since == NOW
    watcher.look(NOW + 11 * MINUTE)
    watcher.look(NOW + 12 * MINUTE, cause)
    watcher.look(NOW + 13 * MINUTE)
    assert watcher.said() == ["1.opened", "1.resolved"], "one that was over before it counted is no alert"
    assert watcher.alerts["2"].done


def test_what_nobody_sees_now_begins_nothing_and_ends_nothing(tmp_path: Path) -> None:
    watcher = Watcher(rule(tmp_path))
    unseen = out(since=NOW, doubtful=True)
    assert not watcher.look(NOW, unseen)
    watcher.look(NOW, replace(unseen, doubtful=False))
    assert not watcher.look(NOW + HOUR, unseen)
    assert watcher.said() == ["1.opened"]


def test_only_opening_hours_count(tmp_path: Path) -> None:
    watcher = Watcher(rule(tmp_path, ", after: 15min, hours: shop"))
    cause = out(since=datetime(2026, 11, 26, 20, 50, tzinfo=ZURICH))
    for minute in range(24 * 60):
        now = datetime(2026, 11, 26, 20, 50, tzinfo=ZURICH) + minute * MINUTE
        if watcher.look(now, cause):
            assert now.astimezone(ZURICH) == datetime(2026, 11, 27, 7, 5, tzinfo=ZURICH)
    assert watcher.said() == ["1.opened"]


def test_quiet_hours_hold_back_what_is_still_so_when_they_end(tmp_path: Path) -> None:
    watcher = Watcher(rule(tmp_path, ', quiet: "21:00-07:00"'))
    evening, morning = (datetime(2026, 11, day, hour, tzinfo=ZURICH) for day, hour in ((26, 22), (27, 7)))
    watcher.look(datetime(2026, 11, 26, 20, tzinfo=ZURICH), out("tea"))
    watcher.look(evening, out("tea"), out("milk-1l"), out("oat-drink"))
    watcher.look(evening + HOUR, out("milk-1l"))
    assert watcher.said() == ["1.opened"]
    decision = watcher.look(morning, out("milk-1l"))
    assert sorted(each.key for each in decision.notices) == ["1.resolved", "2.opened"], "oat-drink was over"


def test_it_is_told_again_while_the_store_is_open_until_somebody_takes_it(tmp_path: Path) -> None:
    watcher = Watcher(rule(tmp_path, ", hours: shop, repeat: 4h"))
    begin = datetime(2026, 11, 26, 10, tzinfo=ZURICH)
    for minute in range(0, 26 * 60, 10):
        watcher.look(begin + minute * MINUTE, out())
    # At 10, 14, 18, and then as soon as the store opens: at 7 and 11.
    assert watcher.said() == ["1.opened", *(f"1.repeated-{number}" for number in (1, 2, 3, 4))]
    watcher.take("1", begin + 26 * HOUR)
    watcher.look(begin + 50 * HOUR, out())
    assert len(watcher.said()) == 5
    watcher.look(begin + 51 * HOUR)
    assert watcher.said()[-1] == "1.resolved"


@pytest.mark.parametrize(
    "mute",
    [Mute(), Mute(store="0417"), Mute(device="cam-12-01"), Mute(rule="empty"), Mute(label="milk-1l")],
)
def test_a_mute_holds_back_until_it_ends(tmp_path: Path, mute: Mute) -> None:
    watcher = Watcher(rule(tmp_path))
    watcher.mutes = [replace(mute, until=NOW + HOUR)]
    watcher.look(NOW, out())
    assert watcher.said() == []
    assert watcher.alerts["1"].opened == NOW
    watcher.look(NOW + HOUR, out())
    assert watcher.said() == ["1.opened"]
    watcher.mutes = [mute]
    watcher.look(NOW + 2 * HOUR)
    assert watcher.said() == ["1.opened"], "nor is its end told"


def test_a_mute_of_another_is_none(tmp_path: Path) -> None:
    watcher = Watcher(rule(tmp_path))
    watcher.mutes = [Mute(store="9"), Mute(store="0417", label="tea"), Mute(until=NOW)]
    watcher.look(NOW, out())
    assert watcher.said() == ["1.opened"]


def test_rules_choose_by_store_device_and_product(tmp_path: Path) -> None:
    lines = {
        "store": 'stores: "0417"',
        "other": "stores: ['9']",
        "device": "devices: cam-13-01",
        "label": "products: [tea, milk-1l]",
        "gtin": 'products: "9506000134352"',
        "nothing": "resolved: false",
    }
    text = "".join(
        f"  - {{name: {name}, kind: out-of-stock, to: till, {line}}}\n" for name, line in lines.items()
    )
    watcher = Watcher(rules_of(tmp_path, text + "  - {name: low, kind: low-stock, to: till}\n"))
    watcher.look(NOW, out(gtin="09506000134352"))
    assert [alert.rule for alert in watcher.alerts.values()] == ["store", "label", "gtin", "nothing"]
    watcher.look(NOW)
    ends = [each.alert.rule for each in watcher.told if each.notice is Notice.RESOLVED]
    assert ends == ["store", "label", "gtin"]


def test_a_rule_that_is_gone_ends_its_alerts_without_a_word(tmp_path: Path) -> None:
    watcher = Watcher(rule(tmp_path))
    watcher.look(NOW, out())
    watcher.rules = rules_of(tmp_path, "  - {name: other, kind: low-stock, to: till}\n")
    watcher.look(NOW, out())
    assert watcher.alerts["1"].done
    assert watcher.said() == ["1.opened"]


def test_what_every_device_has_is_a_trouble_while_it_has_lasted(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "  - {name: still, kind: device-silent, after: 5min, to: till}\n")
    watcher = Watcher(rules)
    for minute in range(20):
        heard = NOW if minute < 10 else NOW + minute * MINUTE
        watcher.look(
            NOW + minute * MINUTE,
            Cause(kind=Kind.DEVICE_SILENT, store="0417", device="cam-12-01", since=heard),
        )
    assert watcher.said() == ["1.opened", "1.resolved"]
    assert watcher.alerts["1"].opened == NOW + 5 * MINUTE
    assert watcher.alerts["1"].closed == NOW + 10 * MINUTE


LABELS = ("milk-1l", "oat-drink", "tea")
TEXTS = (
    "",
    ", after: 10min",
    ", after: 30min, hours: shop",
    ', quiet: ["21:00-07:00", "12:00-13:00"]',
    ', after: 5min, hours: shop, quiet: "22:00-08:00", repeat: 1h',
    ", repeat: 30min",
)
Step = tuple[int, frozenset[str], str]
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.integers(1, 300),
        st.frozensets(st.sampled_from(LABELS)),
        st.sampled_from(["", "", "", "take", "mute", "unmute", "doubt"]),
    ),
    max_size=40,
)


def lived(
    rules: Rules, days: Sequence[Step], begin: datetime
) -> Iterable[tuple[Watcher, datetime, list[Cause], Decision]]:
    """Yield each look of such days; a cause goes on as long as its label is there."""
    watcher, now, since = Watcher(rules), begin, dict[str, datetime]()
    for minutes, labels, what in days:
        now += minutes * MINUTE
        since = {label: since.get(label, now) for label in labels}
        causes = [out(label, since=at, doubtful=what == "doubt") for label, at in since.items()]
        if what == "take":
            for alert in [one for one in watcher.alerts.values() if one.closed is None and one.opened]:
                watcher.take(alert.id, now)
        elif what in {"mute", "unmute"}:
            watcher.mutes = [Mute(store="0417")] if what == "mute" else []
        yield watcher, now, causes, watcher.look(now, *causes)


# Among them the days on which clocks are changed in Zurich.
begins = st.datetimes(datetime(2026, 3, 28), datetime(2026, 10, 26), timezones=st.just(ZURICH))  # noqa: DTZ001


@given(st.sampled_from(TEXTS), steps, begins)
def test_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, text: str, days: list[Step], begin: datetime
) -> None:
    rules = rule(tmp_path_factory.mktemp("rules"), text)
    (the_rule,) = rules.rules
    watcher = Watcher(rules)
    for watcher, now, causes, decision in lived(rules, days, begin):
        assert len(set(watcher.said())) == len(watcher.said()), "nothing is told twice"
        alive = {alert.key: alert for alert in watcher.alerts.values() if alert.closed is None}
        assert len(alive) == sum(alert.closed is None for alert in watcher.alerts.values())
        assert {key[-1] for key in alive} <= {cause.subject for cause in causes}, "it ends with its cause"
        local = now.astimezone(ZURICH)
        quiet = the_rule.silence.holds(now, ZURICH)
        for each in decision.notices:
            assert not quiet
            assert watcher.mutes == []
            assert each.notice is Notice.RESOLVED or each.alert.taken is None
            if each.notice is Notice.REPEATED:
                assert rules.opening(the_rule).holds(now, ZURICH)
        for alert in decision.alerts.values():
            if alert.opened == now and the_rule.hours:
                assert 7 <= local.hour < 21
        again = watcher.look(now, *causes)
        assert not again, "the same moment a second time changes nothing"
    for alert in watcher.alerts.values():
        notices = [each.notice for each in watcher.told if each.alert.id == alert.id]
        assert notices.count(Notice.OPENED) == (alert.announced is not None)
        if Notice.RESOLVED in notices:
            assert (notices[0], notices[-1]) == (Notice.OPENED, Notice.RESOLVED)
        assert alert.opened is None or alert.opened - alert.since >= the_rule.after
        if alert.closed is not None and alert.announced is None:
            assert notices == []


@settings(max_examples=30)
@given(steps, begins)
def test_nothing_is_lost(tmp_path_factory: pytest.TempPathFactory, days: list[Step], begin: datetime) -> None:
    """Once all hindrances are gone, everything that is still wrong has been told."""
    rules = rule(tmp_path_factory.mktemp("rules"), ', after: 10min, hours: shop, quiet: "12:00-14:00"')
    looks = list(lived(rules, days, begin))
    watcher, begin = (looks[-1][0], looks[-1][1]) if looks else (Watcher(rules), begin)
    watcher.mutes = []
    seen = [out(label, since=begin - HOUR) for label in LABELS]
    watcher.look(begin, *seen)
    for hour in range(7 * 24):
        watcher.look(begin + hour * HOUR, *seen)
    alive = [alert for alert in watcher.alerts.values() if alert.closed is None]
    assert {alert.cause.label for alert in alive} == set(LABELS)
    assert all(alert.announced or alert.taken for alert in alive)
    assert all(alert.done for alert in watcher.alerts.values() if alert.closed is not None)
