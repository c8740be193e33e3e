"""Times of the week, also where clocks are changed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.hours import ALWAYS, DAYS, Week, read_day, read_line, read_week

ZURICH, APIA, LORD_HOWE = ZoneInfo("Europe/Zurich"), ZoneInfo("Pacific/Apia"), ZoneInfo("Australia/Lord_Howe")
ZONES = [ZoneInfo("UTC"), ZURICH, ZoneInfo("America/St_Johns"), APIA, LORD_HOWE, ZoneInfo("Asia/Shanghai")]
SHOP = read_week({"mon-fri": ["07:00-21:00"], "sat": ["13:00-20:00", "08:00-12:00"]})
NIGHT = read_week({"mon-sun": ["22:00-06:00"]})


def at(text: str, zone: ZoneInfo = ZURICH, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("week", "text", "open_"),
    [
        (SHOP, "2026-11-26T06:59:59", False),
        (SHOP, "2026-11-26T07:00", True),
        (SHOP, "2026-11-26T20:59:59", True),
        (SHOP, "2026-11-26T21:00", False),
        (SHOP, "2026-11-28T12:30", False),
        (SHOP, "2026-11-28T13:00", True),
        (SHOP, "2026-11-29T13:00", False),
        (NIGHT, "2026-11-29T22:00", True),
        (NIGHT, "2026-11-30T05:59:59", True),
        (NIGHT, "2026-11-30T06:00", False),
        (ALWAYS, "2026-11-30T00:00", True),
        (Week(((),) * 7), "2026-11-30T12:00", False),
    ],
)
def test_a_moment_lies_within_or_not(week: Week, text: str, open_: bool) -> None:
    assert week.holds(at(text), ZURICH) == open_


def test_the_same_moment_elsewhere_is_another_time() -> None:
    assert not SHOP.holds(at("2026-11-26T22:00"), ZURICH)
    assert SHOP.holds(at("2026-11-26T22:00"), ZoneInfo("America/New_York"))


def test_days_over_the_end_of_the_week() -> None:
    week = read_week({"sat-mon": ["10:00-11:00"]})
    assert [bool(day) for day in week.days] == [True, False, False, False, False, True, True]


def hours(week: Week, begin: str, end: str) -> float:
    spans = week.spans(at(begin), at(end), ZURICH)
    return sum((to - since).total_seconds() for since, to in spans) / 3600


def test_where_clocks_go_forward_an_hour_is_missing_and_where_they_go_back_there_is_one_more() -> None:
    """In Zurich on 2026-03-29 at 2:00 and on 2026-10-25 at 3:00."""
    every = read_week({"mon-sun": ["00:00-24:00"]})
    assert hours(every, "2026-03-29T00:00", "2026-03-30T00:00") == 23
    assert hours(every, "2026-10-25T00:00", "2026-10-26T00:00") == 25
    shop = read_week({"sun": ["07:00-21:00"]})
    assert hours(shop, "2026-03-29T00:00", "2026-03-30T00:00") == 14
    assert hours(NIGHT, "2026-03-28T21:00", "2026-03-29T21:00") == 7
    assert hours(NIGHT, "2026-10-24T21:00", "2026-10-25T21:00") == 9


def test_a_time_that_the_clock_skips_is_the_moment_of_the_jump() -> None:
    skipped = read_week({"sun": ["02:15-02:45"]})
    assert hours(skipped, "2026-03-29T00:00", "2026-03-29T12:00") == 0
    into = read_week({"sun": ["01:30-02:30"]})
    assert hours(into, "2026-03-29T00:00", "2026-03-29T12:00") == 0.5
    out_of = read_week({"sun": ["02:30-03:15"]})
    assert hours(out_of, "2026-03-29T00:00", "2026-03-29T12:00") == 0.25
    assert not out_of.holds(at("2026-03-29T01:59:59"), ZURICH)
    assert out_of.holds(at("2026-03-29T03:00"), ZURICH)


def test_what_was_open_counts() -> None:
    begin, quarter = at("2026-11-26T20:55"), timedelta(minutes=15)
    assert not SHOP.covers(begin, at("2026-11-27T07:09:59"), ZURICH, quarter)
    assert SHOP.covers(begin, at("2026-11-27T07:10"), ZURICH, quarter)
    twice = read_week({"mon-sun": ["10:00-11:00", "10:30-11:30"]})
    assert not twice.covers(at("2026-11-26T09:00"), at("2026-11-26T12:00"), ZURICH, timedelta(minutes=91))
    assert twice.covers(at("2026-11-26T09:00"), at("2026-11-26T12:00"), ZURICH, timedelta(minutes=90))


@pytest.mark.parametrize("ranges", [{"mon": ["7-9"]}, {"mon": ["07:00"]}, {"mon": ["24:00-25:00"]}])
def test_what_is_no_time_is_refused(ranges: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="received"):
        read_week(ranges)


@pytest.mark.parametrize("name", ["monday", "mon-", "", "fri-mun", "mon-tue-wed"])
def test_what_is_no_day_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="received"):
        read_week({name: ["07:00-09:00"]})


minutes = st.integers(0, 1439).map(lambda value: f"{value // 60:02d}:{value % 60:02d}")
ranges = st.builds(lambda a, b: f"{a}-{b}", minutes, minutes)
weeks = st.dictionaries(st.sampled_from(DAYS), st.lists(ranges, max_size=3), max_size=7).map(read_week)
moments = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(weeks, moments, st.integers(0, 14 * 24 * 60), st.sampled_from(ZONES), st.data())
def test_spans_are_what_holds(
    week: Week, begin: datetime, long: int, zone: ZoneInfo, data: st.DataObject
) -> None:
    """Also in weeks in which clocks are changed, by half an hour or a whole day."""
    begin = begin.replace(microsecond=0)
    end = begin + timedelta(minutes=long)
    spans = list(week.spans(begin, end, zone))
    assert all(begin <= since < to <= end for since, to in spans)
    inside = data.draw(st.integers(0, max(long * 60 - 1, 0)))
    moment = begin + timedelta(seconds=inside)
    if moment < end:
        near = moment + timedelta(seconds=1)
        assert week.holds(moment, zone) == any(since < near and moment < to for since, to in spans)


@given(moments, st.integers(1, 400), st.sampled_from(ZONES))
def test_always_leaves_nothing_out(begin: datetime, days: int, zone: ZoneInfo) -> None:
    end = begin + timedelta(days=days)
    reached = begin
    for since, to in ALWAYS.spans(begin, end, zone):
        assert since == reached
        reached = to
    assert reached == end


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mon-fri 08:00-20:00; sat 09:00-17:00", "mon-fri 08:00-20:00; sat 09:00-17:00"),
        ("mon 13:30-18:00,08:00-12:00; wed 08:00-12:00", "mon 08:00-12:00,13:30-18:00; wed 08:00-12:00"),
        ("sat-mon 00:00-24:00", "mon 00:00-24:00; sat-sun 00:00-24:00"),
        ("fri 18:00-02:00;", "fri 18:00-02:00"),
    ],
)
def test_a_line_is_written_as_it_is_read(text: str, told: str) -> None:
    week = read_line(text)
    assert week is not None
    assert str(week) == told
    assert read_line(told) == week


def test_an_empty_line_says_nothing() -> None:
    assert read_line(" ; ") is None


@pytest.mark.parametrize(
    "text", ["always", "mon", "mon 8-20", "mon 08:60-20:00", "mon 08:00-12:00; mon 13:00-14:00"]
)
def test_another_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_line(text)


def test_a_day_is_read_as_people_type_it() -> None:
    assert read_day("") == ""
    assert read_day(" 8:00 – 12:00; 13:30-18:00 ") == "08:00-12:00,13:30-18:00"  # noqa: RUF001 - as it is typed
    assert read_day("13：30-18：00，8：00-12：00") == "08:00-12:00,13:30-18:00"  # noqa: RUF001 - as it is typed


def test_ranges_that_overlap_count_once() -> None:
    week = read_week({"fri": ["18:00-03:00"], "sat": ["01:00-05:00"]})
    assert list(week.spans(at("2026-11-27T00:00"), at("2026-11-29T00:00"), ZURICH)) == [
        (at("2026-11-27T18:00"), at("2026-11-28T03:00")),
        (at("2026-11-28T03:00"), at("2026-11-28T05:00")),
    ]
