"""Reading a SQLite file without SQLite: every row that SQLite has, and nothing that never was."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.sqlitefile import Remains, Value

values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.binary(max_size=20),
    st.integers(1000, 60_000).map(lambda size: bytes([size % 251]) * size),
)
tables = st.lists(st.tuples(values, values), max_size=60)


def written(path: Path, rows: list[tuple[Value, Value]], page_size: int) -> sqlite3.Connection:
    """Return the open database, so that its log stays beside it."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA page_size = {page_size}")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE thing (one, two)")
    database.executemany("INSERT INTO thing VALUES (?, ?)", rows)
    return database


def found(path: Path) -> set[tuple[int, tuple[Value, ...]]]:
    with Remains(path) as remains:
        return {(cell.rowid, cell.values) for cell in remains.cells()}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables, st.sampled_from([512, 1024, 4096, 65536]), st.booleans())
def test_whatever_sqlite_has_is_found(
    tmp_path: Path, rows: list[tuple[Value, Value]], page_size: int, checkpointed: bool
) -> None:
    path = tmp_path / "thing.sqlite"
    for old in tmp_path.glob("thing*"):
        old.unlink()
    with closing(written(path, rows, page_size)) as database:
        if checkpointed:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        wanted = {(number, *row) for number, row in enumerate(rows, start=1)}
        assert wanted <= {(rowid, *columns) for rowid, columns in found(path) if len(columns) == 2}


def test_what_was_never_committed_is_not_found(tmp_path: Path) -> None:
    path = tmp_path / "thing.sqlite"
    with closing(written(path, [(1, "there")], 4096)) as database:
        # Pages of a transaction that is larger than the cache are in the log before its end.
        database.execute("PRAGMA cache_size = 5")
        database.execute("BEGIN")
        database.executemany("INSERT INTO thing VALUES (?, ?)", [(2, "not there" * 300)] * 200)
        assert path.with_name("thing.sqlite-wal").stat().st_size > 100_000
        assert {values[0] for _, values in found(path) if len(values) == 2} == {1}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=9000), st.binary(max_size=9000), st.booleans())
def test_anything_at_all_can_be_read(tmp_path: Path, main: bytes, log: bytes, disguised: bool) -> None:
    leaf = bytes.fromhex("0d0000ffff0000 00".replace(" ", ""))
    (tmp_path / "thing").write_bytes(leaf + main if disguised else main)
    (tmp_path / "thing-wal").write_bytes(log)
    found(tmp_path / "thing")


@pytest.mark.parametrize("name", ["nowhere", "folder"])
def test_what_is_not_there_has_no_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    assert found(tmp_path / name) == set()
