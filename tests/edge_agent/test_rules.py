"""When a reading becomes a fact, and which events a fact makes."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import rules
from edge_agent.contracts.events import Kind, SlotCondition, StockLevel
from edge_agent.rules import Confirmed, FaultTrack, Reading, Track

P, E, M, U = SlotCondition.PRESENT, SlotCondition.EMPTY, SlotCondition.MISPLACED, SlotCondition.UNKNOWN


def fold(readings: list[Reading | None], confirm_s: float) -> list[Confirmed]:
    """Return what is confirmed, each only when it differs from the one before."""
    track, found = Track(), list[Confirmed]()
    for reading in readings:
        track, confirmed = rules.step(track, reading, confirm_s)
        if confirmed is not None and (not found or found[-1].label != confirmed.label):
            found.append(confirmed)
    return found


def seen(*labels: str | None, every: float = 0.5, hidden: str = "hand") -> list[Reading | None]:
    return [
        None if label == hidden else Reading(label, 0.9, number * every)
        for number, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["tea"], []),
        (["tea", "tea"], []),
        (["tea", "tea", "tea"], [("tea", 0.0)]),
        (["tea", "milk", "tea", "milk", "tea"], []),
        (["tea", "tea", "hand", "tea", "tea"], []),
        (["hand", "tea", "tea", "tea"], [("tea", 0.5)]),
        (["tea", "tea", "tea", "hand", "empty", "empty", "empty"], [("tea", 0.0), ("empty", 2.0)]),
        ([None, None, None, None], []),
        ([None, None, None, None, None], [(None, 0.0)]),
    ],
)
def test_an_answer_counts_once_it_has_held(
    labels: list[str | None], expected: list[tuple[str | None, float]]
) -> None:
    assert [(item.label, item.since) for item in fold(seen(*labels), 1.0)] == expected


def test_one_picture_never_counts_even_where_nothing_must_hold() -> None:
    assert fold(seen("tea"), 0.0) == []
    assert [item.label for item in fold(seen("tea", "tea"), 0.0)] == ["tea"]


@given(
    st.lists(st.sampled_from(["tea", "milk", "empty", None, "hand"]), max_size=60),
    st.floats(0, 5, allow_nan=False),
)
def test_whatever_comes_a_fact_was_seen_for_long_enough_without_a_break(
    labels: list[str | None], confirm_s: float
) -> None:
    readings = seen(*labels)
    track = Track()
    for number, reading in enumerate(readings):
        track, confirmed = rules.step(track, reading, confirm_s)
        if confirmed is None or reading is None:
            continue
        first = round(confirmed.since / 0.5)
        assert reading.at - confirmed.since >= confirm_s
        assert number > first
        assert all(
            item is not None and item.label == confirmed.label for item in readings[first : number + 1]
        )


def counted(
    story: Sequence[tuple[str, float]], *, every: float = 0.5, confirm_s: float = 3.0
) -> list[Confirmed]:
    """Return what counts of answers that follow each other, each shown for some seconds."""
    readings: list[Reading | None] = []
    at = 0.0
    for label, lasts in story:
        for _ in range(max(round(lasts / every), 1)):
            readings.append(Reading(label, 0.9, at))
            at += every
    return fold(readings, confirm_s)


def plain(story: list[tuple[str, float]], confirm_s: float = 3.0) -> list[str]:
    """Return what would count if unrest did not: each answer that lasts, told once."""
    lasting: list[str] = []
    for label, lasts in story:
        if lasts > confirm_s + 0.5 and lasting[-1:] != [label]:
            lasting.append(label)
    return lasting


lasting = st.sampled_from([0.5, 1.5, 4.0, 8.0, 60.0])
answers = st.sampled_from(["tea", "empty", "jam"])


def apart(labels: list[str]) -> list[str]:
    """Return labels none of which is the one before."""
    return [label for number, label in enumerate(labels) if labels[number - 1 : number] != [label]]


@given(st.lists(answers, min_size=1, max_size=12).map(apart), st.lists(lasting, min_size=12, max_size=12))
def test_shoppers_do_not_feel_the_guard(labels: list[str], times: list[float]) -> None:
    story = list(zip(labels, times, strict=False))
    # The first answer is no change: eleven more may come as fast as they like.
    assert [item.label for item in counted(story)] == plain(story)


@settings(max_examples=15)
@given(st.floats(600, 3600), st.integers(20, 40))
def test_six_changes_an_hour_all_day_long_are_told_as_they_come(period: float, changes: int) -> None:
    story = [("empty" if number % 2 else "tea", period) for number in range(changes)]
    found = counted(story, every=20.0)
    assert [item.label for item in found] == [label for label, _ in story]


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from([0.5, 1.0, 4.0, 5.0, 9.0, 30.0, 200.0, 400.0]), min_size=1, max_size=6),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.floats(1, 8),
)
def test_a_slot_that_cannot_make_up_its_mind_does_not_flood(
    pattern: list[float], confirm_s: float, hours: float
) -> None:
    track, known, changes, at, number = Track(), "", 0, 0.0, 0
    while at < hours * 3600:
        label = "empty" if number % 2 else "tea"
        # The least that an answer must be seen, and what is needed at the most: an adversary's frames.
        lasts, begin = pattern[number % len(pattern)], at
        for at in (begin, begin + lasts / 2, begin + lasts):
            track, confirmed = rules.step(track, Reading(label, 0.9, at), confirm_s)
            if confirmed is not None and confirmed.label != known:
                known, changes = str(confirmed.label), changes + 1
        at += 0.5
        number += 1
    assert changes <= 22 + 13 * hours


@given(st.lists(st.floats(0.5, 20), min_size=1, max_size=300), st.sampled_from([0.0, 1.0, 3.0]))
def test_whatever_came_before_what_holds_for_five_minutes_counts(
    times: list[float], confirm_s: float
) -> None:
    story = [("empty" if number % 2 else "tea", lasts) for number, lasts in enumerate(times)]
    found = counted([*story, ("jam", 301.0)], confirm_s=confirm_s)
    assert found[-1].label == "jam"


def test_unrest_fades_and_then_nothing_is_slower_than_before() -> None:
    restless = [("empty" if number % 2 else "tea", 4.0) for number in range(40)]
    told = counted(restless)
    assert 12 <= len(told) < 20
    rested = counted([*restless, ("tea", 3 * 3600.0), ("empty", 4.0), ("tea", 4.0), ("empty", 4.0)])
    assert [item.label for item in rested[-3:]] == ["empty", "tea", "empty"]


@pytest.mark.parametrize(
    ("moments", "since"),
    [
        # A burst every three minutes: once at the end of the first, and not for long enough in the second.
        ([2.5, 180.0, 180.5, 181.0], None),
        ([2.5, 180.0, 180.5, 181.0, 181.5], 2.5),
        # One picture every five minutes: at the third.
        ([0.0, 300.0], None),
        ([0.0, 300.0, 600.0], 0.0),
        # A slow camera that is never left alone for long.
        ([0.0, 25.0], 0.0),
    ],
)
def test_time_in_which_nobody_looked_is_worth_half_a_hold(moments: list[float], since: float | None) -> None:
    found = fold([Reading("tea", 0.9, at) for at in moments], 3.0)
    assert [item.since for item in found] == ([] if since is None else [since])
    track, changed = FaultTrack(), None
    for at in moments:
        assert changed is None
        track, changed = rules.fault_step(track, at, seen=True, confirm_s=3.0, clear_s=1.0)
    assert changed == since


@pytest.mark.parametrize(("label", "expected"), [("tea", P), ("empty", E), ("milk", M), (None, U)])
def test_what_an_answer_means(label: str | None, expected: SlotCondition) -> None:
    assert rules.condition_of(label, "tea") is expected


@pytest.mark.parametrize(
    ("before", "now", "kinds"),
    [
        (None, (P, "tea"), []),
        (None, (E, "empty"), ["slot-changed"]),
        (None, (M, "milk"), ["slot-changed", "misplaced"]),
        (None, (U, None), ["slot-changed", "unknown-product"]),
        ((P, "tea"), (P, "tea"), []),
        ((P, "tea"), (E, "empty"), ["slot-changed"]),
        ((E, "empty"), (P, "tea"), ["slot-changed"]),
        ((P, "tea"), (M, "milk"), ["slot-changed", "misplaced"]),
        ((M, "milk"), (M, "cola"), ["slot-changed", "misplaced"]),
        ((M, "milk"), (E, "empty"), ["slot-changed", "misplaced-cleared"]),
        ((M, "milk"), (U, None), ["slot-changed", "misplaced-cleared", "unknown-product"]),
        ((U, None), (P, "tea"), ["slot-changed"]),
    ],
)
def test_events_of_a_slot(
    before: tuple[SlotCondition, str | None] | None, now: tuple[SlotCondition, str | None], kinds: list[str]
) -> None:
    assert [kind.value for kind in rules.slot_events(before, now)] == kinds


@pytest.mark.parametrize(
    ("filled", "low_at", "level"), [(0, 0, "out"), (0, 2, "out"), (1, 0, "ok"), (2, 2, "low"), (3, 2, "ok")]
)
def test_levels(filled: int, low_at: int, level: str) -> None:
    assert rules.level_of(filled, low_at).value == level


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        (None, "ok", None),
        (None, "low", Kind.LOW_STOCK),
        (None, "out", Kind.OUT_OF_STOCK),
        ("ok", "ok", None),
        ("ok", "low", Kind.LOW_STOCK),
        ("low", "out", Kind.OUT_OF_STOCK),
        ("out", "low", Kind.LOW_STOCK),
        ("out", "ok", Kind.RESTOCKED),
        ("low", "ok", Kind.RESTOCKED),
    ],
)
def test_events_of_a_product(before: str | None, now: str, kind: Kind | None) -> None:
    assert rules.product_event(StockLevel(before) if before else None, StockLevel(now)) is kind


def test_a_fault_is_raised_and_cleared_after_its_own_time() -> None:
    track, changes = FaultTrack(), []
    for number, blocked in enumerate([0, 1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0]):
        track, since = rules.fault_step(track, float(number), seen=bool(blocked), confirm_s=2, clear_s=3)
        if since is not None:
            changes.append((number, track.active, since))
    assert changes == [(5, True, 3.0), (12, False, 9.0)]


@pytest.mark.parametrize(("last", "expected"), [(None, True), (0.0, True), (50.0, False)])
def test_a_slot_is_stale_when_it_was_not_seen_for_long(last: float | None, expected: bool) -> None:
    assert rules.stale(last, 100.0, 60.0) is expected
