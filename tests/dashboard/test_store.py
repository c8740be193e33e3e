"""The store, on SQLite and on PostgreSQL: once each, whole up to a number, gaps told."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.batch import Batch
from dashboard.store import Arrival, Store, _holes
from edge_agent.contracts.errors import ServiceError
from tests.dashboard.stored import devices, events, gaps, note, put

SOURCE, STREAM = "/stores/1/devices/cam", "ab" * 16
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def arrival(sequence: int, stream: str = STREAM, source: str = SOURCE) -> Arrival:
    return Arrival(
        source, f"{stream[:4]}-{sequence}", stream, sequence, "t", "s", "2026", f'{{"n": {sequence}}}'
    )


def take(store: Store, *sequences: int) -> int:
    return put(store, [arrival(number) for number in sequences])[SOURCE, STREAM]


def skip(store: Store, oldest: int) -> int:
    with store.writing() as connection:
        return store.take(connection, Batch(oldest={(SOURCE, STREAM): oldest}), NOW)[SOURCE, STREAM]


def rows(store: Store) -> list[int]:
    return [row["event"]["n"] for row in events(store)]


def test_each_event_once_in_whatever_order_and_however_often(store: Store) -> None:
    assert take(store, 2, 3) == 0
    assert take(store, 1) == 3
    assert take(store, 1, 2, 3, 5) == 3
    assert take(store, 4) == 5
    assert sorted(rows(store)) == [1, 2, 3, 4, 5]


def test_what_a_device_no_longer_has_is_a_gap_and_is_passed(store: Store) -> None:
    take(store, 1, 2, 5)
    assert skip(store, 2) == 2
    assert gaps(store) == []
    assert skip(store, 8) == 7
    assert gaps(store) == [(3, 4, "lost"), (6, 7, "lost")]
    assert take(store, 8) == 8
    assert skip(store, 8) == 8
    assert len(gaps(store)) == 2


def test_a_recorder_that_is_new_begins_where_the_device_is(store: Store) -> None:
    assert take(store, 41, 42) == 0
    assert skip(store, 41) == 42
    assert gaps(store) == [(1, 40, "lost")]


def test_streams_and_devices_do_not_mix(store: Store) -> None:
    other, stream = "/stores/1/devices/other", "cd" * 16
    take(store, 1)
    assert put(store, [arrival(2, stream, other), arrival(1)]) == {(SOURCE, STREAM): 1, (other, stream): 0}
    note(store, SOURCE, "1", "cam", health="online")
    note(store, SOURCE, "1", "cam", state="{}")
    note(store, SOURCE, "1", "cam", health="offline")
    assert devices(store) == [
        {"source": SOURCE, "store": "1", "device": "cam", "state": "{}", "health": "offline", "heard": None}
    ]


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    def fails() -> None:
        with store.engine.begin() as connection:
            store.take(connection, Batch([arrival(1)]), NOW)
            message = "power cut"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError):
        fails()
    assert rows(store) == []


@given(st.sets(st.integers(1, 30)))
def test_holes_are_what_is_not_there(there: set[int]) -> None:
    found = {number for first, last in _holes(sorted(there), 1, 30) for number in range(first, last + 1)}
    assert found == set(range(1, 31)) - there


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 12), max_size=30))
def test_the_number_is_the_end_of_what_is_whole(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('s') / 's.sqlite'}")
    there: set[int] = set()
    for number in order:
        there.add(number)
        assert take(store, number) == next(n for n in range(14) if n + 1 not in there)
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/at/all.sqlite",
        "postgresql://kit:secret@127.0.0.1:1/kit",
        "oracle://x",
        "no url",
    ],
)
def test_a_database_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(ServiceError, match="database") as error:
        Store(url)
    assert "secret" not in str(error.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no database" * 100)
    with pytest.raises(ServiceError):
        Store(f"sqlite:///{tmp_path / 'x'}")
