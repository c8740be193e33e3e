"""Opening hours: read, written, and laid over time by the clock of a store."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dashboard.hours import Hours, day_ranges
from edge_agent.contracts.errors import UsageError

ZURICH = ZoneInfo("Europe/Zurich")
HOUR = timedelta(hours=1)


def read(text: str) -> Hours:
    hours = Hours.parse(text)
    assert hours is not None
    return hours


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def total(hours: Hours, since: datetime, until: datetime, zone: ZoneInfo = ZURICH) -> timedelta:
    return sum((end - begin for begin, end in hours.spans(since, until, zone)), timedelta())


def test_nothing_said_is_no_opening_hours() -> None:
    assert Hours.parse(" ") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Mo-Fr 08:00-20:00; Sa 9:00-17:00", "Mo-Fr 08:00-20:00; Sa 09:00-17:00"),
        ("mo,we 13:30-18:00,08:00-12:00", "Mo 08:00-12:00,13:30-18:00; We 08:00-12:00,13:30-18:00"),
        ("Sa-Mo 00:00-24:00", "Mo 00:00-24:00; Sa-Su 00:00-24:00"),
        ("Fr 18:00 – 02:00;", "Fr 18:00-02:00"),  # noqa: RUF001 - as it is typed
        ("Mo-Su 08:00-20:00", "Mo-Su 08:00-20:00"),
    ],
)
def test_it_is_written_as_it_is_read(text: str, told: str) -> None:
    assert str(read(text)) == told
    assert read(told) == read(text)


@pytest.mark.parametrize(
    "text",
    [
        "always",
        "Mo",
        "Mo 8-20",
        "Mo 08:60-20:00",
        "Mo 24:01-25:00",
        "Mo 24:00-08:00",
        "Xx 08:00-20:00",
        "Mo 08:00-12:00,11:00-13:00",
        "Mo 08:00-12:00; Mo-Fr 13:00-18:00",
        "Mo 08:00-20:00;" * 100,
    ],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Hours.parse(text)


def test_a_day_reads_what_a_chinese_keyboard_types() -> None:
    assert day_ranges("08：00-12：00，13：30-18：00") == ((480, 720), (810, 1080))  # noqa: RUF001 - as it is typed
    assert day_ranges("") == ()


def test_it_is_open_by_the_clock_of_the_store() -> None:
    hours = read("Mo-Fr 08:00-12:00,13:30-18:30")
    monday = utc(2026, 11, 23)
    assert not hours.open_at(monday + 7 * HOUR - timedelta(seconds=1), ZURICH)
    assert hours.open_at(monday + 7 * HOUR, ZURICH)
    assert not hours.open_at(monday + 11 * HOUR, ZURICH), "the end is no part of a range"
    assert not hours.open_at(utc(2026, 11, 22, 10), ZURICH), "a Sunday"
    assert total(hours, monday, monday + timedelta(days=7)) == 45 * HOUR


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    hours = read("Fr 18:00-02:00; Sa 01:00-03:00")
    friday = utc(2026, 11, 27)
    assert hours.spans(friday, friday + timedelta(days=2), ZURICH) == [
        (friday + 17 * HOUR, friday + 26 * HOUR)
    ]
    assert hours.open_at(friday + 24 * HOUR, ZURICH)


def test_days_when_clocks_are_put_have_their_own_length() -> None:
    whole = read("Mo-Su 00:00-24:00")
    for day, length in ((utc(2026, 3, 28, 23), 23), (utc(2026, 10, 24, 22), 25)):
        assert total(whole, day, day + length * HOUR) == length * HOUR
        assert day.astimezone(ZURICH).hour == (day + length * HOUR).astimezone(ZURICH).hour == 0
    shop = read("Su 01:00-05:00")
    assert total(shop, utc(2026, 3, 28), utc(2026, 3, 30)) == 3 * HOUR
    assert total(shop, utc(2026, 10, 24), utc(2026, 10, 26)) == 5 * HOUR
    # 02:00 to 03:00 does not come on the one day, and comes twice on the other.
    gone = read("Su 02:00-03:00")
    assert total(gone, utc(2026, 3, 28), utc(2026, 3, 30)) == timedelta()
    assert total(gone, utc(2026, 10, 24), utc(2026, 10, 26)) == 2 * HOUR


def test_what_no_clock_shows_is_the_moment_at_which_it_is_put_forward() -> None:
    put_forward, day = utc(2026, 3, 29, 1), (utc(2026, 3, 28), utc(2026, 3, 30))
    assert read("Su 02:30-04:00").spans(*day, ZURICH) == [(put_forward, put_forward + HOUR)]
    assert read("Su 01:00-02:30").spans(*day, ZURICH) == [(put_forward - HOUR, put_forward)]


_DAYS = st.lists(st.integers(0, 24 * 60 - 1), max_size=6, unique=True).map(
    lambda found: tuple(zip(sorted(found)[::2], sorted(found)[1::2], strict=False))
)


@given(st.lists(_DAYS, min_size=7, max_size=7).filter(any), st.integers(0, 4_000 * 86_400))
def test_any_week_survives_writing_and_says_the_same_of_a_moment(
    days: list[tuple[tuple[int, int], ...]], seconds: int
) -> None:
    hours = Hours(tuple(days))
    assert Hours.parse(str(hours)) == hours
    moment = utc(2020, 1, 1) + timedelta(seconds=seconds)
    there = moment.astimezone(ZURICH)
    assume(there.replace(hour=0).utcoffset() == there.replace(hour=23).utcoffset())
    minute = there.hour * 60 + there.minute
    expected = any(begin <= minute < end for begin, end in hours.days[there.weekday()])
    assert hours.open_at(moment, ZURICH) == expected
