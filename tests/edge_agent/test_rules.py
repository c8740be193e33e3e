"""When a reading becomes a fact, and which events a fact makes."""

import pytest
from hypothesis import given
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
