"""Databases of every version before open, and keep what they had; a newer one is left alone."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dashboard import schema
from dashboard.store import Arrival, Store
from dashboard.tables import METADATA, month
from edge_agent.contracts.errors import ServiceError
from tests.dashboard.stored import events, put

SOURCE, STREAM = "/stores/1/devices/cam", "ab" * 16
# As the kit's first database was made, before versions were counted.
FIRST = (
    (
        "CREATE TABLE event (row {serial}, source TEXT NOT NULL, id TEXT NOT NULL,"
        " stream TEXT NOT NULL, sequence BIGINT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL,"
        " received TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (source, id))"
    ),
    "CREATE INDEX event_place ON event (source, stream, sequence)",
    "CREATE TABLE stream (source TEXT, stream TEXT, upto BIGINT NOT NULL, PRIMARY KEY (source, stream))",
    (
        "CREATE TABLE gap (source TEXT, stream TEXT, first BIGINT, last BIGINT NOT NULL, noted TEXT NOT NULL,"
        " PRIMARY KEY (source, stream, first))"
    ),
    (
        "CREATE TABLE device (source TEXT PRIMARY KEY, store TEXT NOT NULL, device TEXT NOT NULL,"
        " state TEXT, health TEXT)"
    ),
)
IDS = ("019ab300-17c0-7084-811a-cb00fd72c0a8", "01a207af-17c0-7084-811a-cb00fd72c0a8", "x")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where there is an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.sqlite'}"
        return
    found = str(request.getfixturevalue("postgres_url"))
    empty(found)
    yield found
    # Whatever the test leaves there is not for others.
    empty(found)


def empty(url: str) -> None:
    engine = schema.open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()


def as_it_was_first(url: str) -> None:
    engine = schema.open_engine(url)
    serial = "BIGSERIAL PRIMARY KEY" if "postgres" in url else "INTEGER PRIMARY KEY AUTOINCREMENT"
    with engine.begin() as connection:
        for line in FIRST:
            connection.exec_driver_sql(line.format(serial=serial))
        for number, identity in enumerate(IDS, start=2):
            row = (SOURCE, identity, STREAM, number, "t", "s", "2026", json.dumps({"n": number}))
            line = "INSERT INTO event (source, id, stream, sequence, type, subject, received, body) VALUES "
            connection.exec_driver_sql(line + str(row))
        connection.exec_driver_sql(f"INSERT INTO stream VALUES ('{SOURCE}', '{STREAM}', 0)")  # noqa: S608
    engine.dispose()


def test_a_database_of_the_first_version_goes_on_working(url: str) -> None:
    as_it_was_first(url)
    store = Store(url)
    assert schema.version(store.engine) == "0006"
    assert [row["event"]["n"] for row in events(store)] == [2, 3, 4]
    again = [
        Arrival(SOURCE, each, STREAM, place, "t", "s", "2026", "{}") for place, each in enumerate(IDS, 2)
    ]
    new = Arrival(SOURCE, "new", STREAM, 1, "t", "s", "2026", '{"n": 1}')
    assert put(store, [*again, new]) == {(SOURCE, STREAM): 4}
    found = events(store)
    assert [row["event"]["n"] for row in found] == [2, 3, 4, 1]
    assert [row["cursor"] for row in found] == sorted(row["cursor"] for row in found)
    store.close()


def test_a_new_database_is_what_the_tables_say(url: str) -> None:
    store = Store(url)
    found = sa.inspect(store.engine)
    for name, table in METADATA.tables.items():
        columns = {column["name"] for column in found.get_columns(name)}
        assert columns - {"month"} == set(table.columns.keys()), name
    assert schema.upgrade(store.engine) == []
    store.close()


def test_many_start_at_once_on_a_new_database(url: str) -> None:
    failures: list[Exception] = []

    def start() -> None:
        try:
            Store(url).close()
        except Exception as exc:  # noqa: BLE001 - told below
            failures.append(exc)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_database_of_a_newer_program_is_left_alone(url: str) -> None:
    Store(url).close()
    engine = schema.open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(ServiceError, match="9999"):
        Store(url)


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("01a207af-17c0-7084-811a-cb00fd72c0a8", 202611),
        ("5", 0),
        ("0" * 36, 0),
        ("f" * 8 + "-ffff-7fff-bfff-" + "f" * 12, 0),
    ],
)
def test_a_month_is_what_the_id_says(identity: str, expected: int) -> None:
    assert month(identity) == expected
