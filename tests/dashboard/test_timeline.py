"""Spans and figures: pure, so every rule is shown with a moment of its own."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.pages.timeline import (
    UNKNOWN,
    Change,
    Opening,
    Span,
    blind_spans,
    clipped,
    days,
    figures,
    spans,
    weeks,
    without,
)

START = datetime(2026, 3, 23, tzinfo=UTC)
END = START + timedelta(days=10)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def told(found: list[Span]) -> list[tuple[float, float, str]]:
    hour = timedelta(hours=1)
    return [((span.begin - START) / hour, (span.end - START) / hour, span.state) for span in found]


def test_a_state_holds_until_the_next_one_and_what_was_before_is_not_made_up() -> None:
    changes = [Change(at(2), "out"), Change(at(3), "out"), Change(at(5), "ok")]
    assert told(spans(changes, START, at(8))) == [(0, 2, UNKNOWN), (2, 5, "out"), (5, 8, "ok")]
    assert told(spans([Change(at(-9), "low"), *changes], START, at(8)))[0] == (0, 2, "low")
    assert told(spans([], START, at(8))) == [(0, 8, UNKNOWN)]


def test_a_clock_that_was_put_back_does_not_turn_time_round() -> None:
    changes = [Change(at(4), "out"), Change(at(1), "ok"), Change(at(6), "low")]
    assert told(spans(changes, START, at(8))) == [(0, 4, UNKNOWN), (4, 6, "ok"), (6, 8, "low")]
    assert told(spans([Change(at(99), "out")], START, at(8))) == [(0, 8, UNKNOWN)]


def test_nothing_is_known_while_the_camera_is_covered() -> None:
    seen = [Span(START, at(4), "ok"), Span(at(4), at(8), "out")]
    blind = [Span(at(1), at(2), "blind"), Span(at(3), at(5), "blind")]
    assert told(without(seen, blind)) == [
        (0, 1, "ok"), (1, 2, UNKNOWN), (2, 3, "ok"), (3, 5, UNKNOWN), (5, 8, "out"),
    ]  # fmt: skip


def test_faults_may_overlap() -> None:
    faults = [(at(1), "dark", True), (at(2), "moved", True), (at(3), "dark", False), (at(5), "moved", False)]
    assert told(blind_spans([*faults, (at(6), "lost", True)], START, at(8))) == [
        (1, 5, "blind"), (6, 8, "blind"),
    ]  # fmt: skip


def test_figures_are_of_what_is_known() -> None:
    found = figures([Span(START, at(6), UNKNOWN), Span(at(6), at(7), "out"), Span(at(7), at(10), "low")])
    assert (found.known, found.out, found.longest, found.gaps) == (4 * 3600, 3600, 3600, 1)
    assert found.availability == 0.75
    assert figures([Span(START, at(6), UNKNOWN)]).availability is None
    assert figures([]).availability is None


def test_a_gap_over_night_is_one_as_long_as_the_shop_was_open() -> None:
    opening = Opening([(at(8), at(20)), (at(32), at(44))])
    found = figures(
        [Span(at(6), at(18), "ok"), Span(at(18), at(36), "out"), Span(at(45), at(47), "out")], opening
    )
    assert (found.known, found.out, found.longest, found.gaps) == (16 * 3600, 6 * 3600, 6 * 3600, 1)
    assert figures([Span(at(6), at(48), "ok")], Opening([])).availability is None


def test_days_are_of_the_store_and_some_have_23_hours() -> None:
    zone = ZoneInfo("Europe/Zurich")
    found = days(at(12), END, zone)
    lengths = {day.isoformat(): (end - begin) / timedelta(hours=1) for day, begin, end in found}
    assert lengths["2026-03-23"] == 11, "the first is a part of one"
    assert lengths["2026-03-28"] == 24
    assert lengths["2026-03-29"] == 23, "clocks go forward"
    assert [name for name, _, _ in weeks(found)] == ["2026-W13", "2026-W14"]
    assert all(one[2] == other[1] for one, other in pairwise(found))


@given(
    st.lists(st.tuples(st.floats(-50, 300), st.sampled_from(["ok", "low", "out", UNKNOWN])), max_size=20),
    st.lists(st.tuples(st.floats(-50, 300), st.sampled_from(["dark", "lost"]), st.booleans()), max_size=10),
)
def test_no_moment_is_lost_or_twice_there(
    raw: list[tuple[float, str]], faults: list[tuple[float, str, bool]]
) -> None:
    seen = spans([Change(at(hours), state) for hours, state in raw], START, END)
    blind = blind_spans([(at(hours), name, begins) for hours, name, begins in faults], START, END)
    found = without(seen, blind)
    assert (found[0].begin, found[-1].end) == (START, END)
    assert all(one.end == other.begin and one.state != other.state for one, other in pairwise(found))
    whole = figures(found)
    zone = ZoneInfo("America/Sao_Paulo")
    parts = [figures(clipped(found, begin, end)) for _, begin, end in days(START, END, zone)]
    assert sum(part.out for part in parts) == pytest.approx(whole.out)
    assert sum(part.known for part in parts) == pytest.approx(whole.known)
