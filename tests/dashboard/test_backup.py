"""Everything that a recorder keeps comes back, in either database: events, accounts, drafts, labels."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from dashboard import backup as copies
from dashboard.accounts.identity import Role
from dashboard.accounts.records import Accounts, StoreSetting
from dashboard.accounts.tables import METADATA as ACCOUNTS
from dashboard.accounts.tables import beside, open_tables
from dashboard.backup import Kept
from dashboard.batch import Batch
from dashboard.editor.draft import Draft, Drafts
from dashboard.labelling.queue import Queue
from dashboard.queries import EventFilter, Queries
from dashboard.rollup import roll_up
from dashboard.store import Store
from dashboard.tables import METADATA
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.topics import DeviceTopics
from tests.dashboard.stored import note
from tests.dashboard.test_upkeep import HOUR, NOW, SOURCE, STREAM, product, rolled, take

DEVICE = DeviceTopics("0417", "cam-12-01")
PASSWORD = "correct-horse-battery"  # noqa: S105 - of nobody


class Home:
    """A recorder's database, accounts and files."""

    def __init__(self, url: str, files: Path, stack: ExitStack) -> None:
        self.store = stack.enter_context(closing(Store(url)))
        self.accounts = stack.enter_context(closing(Accounts(beside(url))))
        engine = open_tables(beside(url))
        stack.callback(engine.dispose)
        self.files = files
        self.kept = Kept(self.store, engine, files)
        self._engine = engine

    def clear(self) -> None:
        """Empty a server that other tests have used."""
        for engine, metadata in ((self.store.engine, METADATA), (self._engine, ACCOUNTS)):
            with engine.begin() as connection:
                for table in metadata.tables:
                    connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - names of ours

    def fill(self) -> None:
        """Let everything happen once."""
        take(self.store, *(product(number, NOW + number * HOUR, "restocked") for number in (1, 2, 3, 5)))
        with self.store.writing() as connection:
            self.store.take(connection, Batch(oldest={(SOURCE, STREAM): 5}), NOW)
        note(self.store, SOURCE, "0417", "cam", health='{"status": "online"}')
        roll_up(self.store, NOW + 48 * HOUR, {})
        self.accounts.people.add("ann", PASSWORD, Role.ADMIN, NOW)
        self.accounts.settings.set("0417", StoreSetting("Corner shop", "Europe/Berlin"))
        self.token = self.accounts.tokens.make("till", "ann", NOW)
        self.accounts.audit.note("ann", "token", "till", "127.0.0.1", NOW)
        Drafts(self.files / "planograms").save(DEVICE, Draft(shelf="12"), b"a picture")
        queue = Queue(self.files / "labels")
        queue.add(np.full((20, 20, 3), 7, np.uint8), {"device": "cam-12-01", "slot": "A3"}, "milk", "ann")

    def told(self) -> dict[str, object]:
        """Return what somebody sees of it."""
        queries, queue = Queries(self.store.engine), Queue(self.files / "labels")
        (item,) = queue.items("labelled", 9)
        return {
            "events": queries.events(EventFilter(), 0, 99),
            "gaps": queries.gaps(0, 99),
            "devices": queries.devices(None, None, "", 99),
            "days": rolled(self.store),
            "settings": self.accounts.settings.all(),
            "program": self.accounts.tokens.whose(self.token, NOW),
            "draft": Drafts(self.files / "planograms").of(DEVICE),
            "picture": Drafts(self.files / "planograms").picture(DEVICE),
            "label": item,
            "crop": queue.picture(item["name"]),
        }


@contextmanager
def home(url: str, files: Path) -> Iterator[Home]:
    """Open one."""
    with ExitStack() as stack:
        yield Home(url, files, stack)


@pytest.fixture(params=["sqlite", "postgresql"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """One in which everything is."""
    server = request.param == "postgresql"
    url = request.getfixturevalue("postgres_url") if server else f"sqlite:///{tmp_path / 'one.sqlite'}"
    with home(str(url), tmp_path / "one.files") as made:
        made.clear()
        made.fill()
        yield made
        made.clear()


def test_all_of_it_comes_back_in_either_database(full: Home, tmp_path: Path, postgres_url: str) -> None:
    before, out = full.told(), tmp_path / "backup.sqlite"
    counts = copies.backup(full.kept, out)
    expected = {
        "event": 4,
        "gap": 1,
        "device": 1,
        "web_account": 1,
        "web_token": 1,
        "web_audit": 1,
        "file": 4,
    }
    assert {name: counts[name] for name in expected} == expected
    assert sorted(path.name for path in tmp_path.iterdir() if "backup" in path.name) == ["backup.sqlite"]
    assert out.stat().st_mode & 0o077 == 0, "hashes of passwords are in it"
    with pytest.raises(DataError, match="empty database and folder"):
        copies.restore(out, full.kept)
    full.clear()
    for name, url in (("two", f"sqlite:///{tmp_path / 'two.sqlite'}"), ("three", postgres_url)):
        with home(url, tmp_path / f"{name}.files") as other:
            other.clear()
            assert copies.restore(out, other.kept) == counts
            other.token = full.token
            assert other.told() == before
            assert other.accounts.people.right("ann", PASSWORD)
            # What comes now is counted on from there.
            take(other.store, product(6, NOW, "low-stock"))
            other.accounts.tokens.make("second", "ann", NOW)
            other.accounts.audit.note("ann", "token", "second", "", NOW)
            rows = Queries(other.store.engine).events(EventFilter(), 0, 99)
            assert rows[-1]["cursor"] > max(row["cursor"] for row in before["events"])  # type: ignore[attr-defined]
            other.clear()


def test_a_backup_from_before_accounts_were_in_it_comes_back(full: Home, tmp_path: Path) -> None:
    out, old = tmp_path / "backup.sqlite", tmp_path / "old.sqlite"
    copies.backup(full.kept, out)
    shutil.copyfile(out, old)
    with closing(sqlite3.connect(old)) as database:
        for table in (*ACCOUNTS.tables, "file"):
            database.execute(f"DROP TABLE IF EXISTS {table}")
    with home(f"sqlite:///{tmp_path / 'two.sqlite'}", tmp_path / "two.files") as other:
        counts = copies.restore(old, other.kept)
        assert counts["event"] == 4
        assert "web_account" not in counts
        before = Queries(full.store.engine).events(EventFilter(), 0, 99)
        assert Queries(other.store.engine).events(EventFilter(), 0, 99) == before
        assert not other.files.exists()


def test_nothing_is_written_over(full: Home, tmp_path: Path) -> None:
    out = tmp_path / "backup.sqlite"
    copies.backup(full.kept, out)
    with home(f"sqlite:///{tmp_path / 'two.sqlite'}", tmp_path / "two.files") as other:
        other.accounts.people.add("bob", PASSWORD, Role.VIEWER, NOW)
        with pytest.raises(DataError, match="web_account"):
            copies.restore(out, other.kept)
    with home(f"sqlite:///{tmp_path / 'three.sqlite'}", full.files) as third:
        with pytest.raises(DataError, match=r"one\.files"):
            copies.restore(out, third.kept)
        assert Queries(third.store.engine).last_row() == 0


@pytest.mark.parametrize("path", ["../out", "/out", "a/../../out", ""])
def test_files_stay_in_their_folder(tmp_path: Path, path: str) -> None:
    out = tmp_path / "backup.sqlite"
    with home(f"sqlite:///{tmp_path / 'one.sqlite'}", tmp_path / "one.files") as made:
        copies.backup(made.kept, out)
    with closing(sqlite3.connect(out)) as database:
        database.execute("INSERT INTO file VALUES (?, ?)", (path, b"x"))
        database.commit()
    with home(f"sqlite:///{tmp_path / 'two.sqlite'}", tmp_path / "two.files") as other:
        with pytest.raises(DataError, match="files of a recorder"):
            copies.restore(out, other.kept)
        assert not other.files.exists()
    assert not list(tmp_path.rglob("out"))


def test_a_backup_while_somebody_logs_in_and_draws(tmp_path: Path) -> None:
    with home(f"sqlite:///{tmp_path / 'one.sqlite'}", tmp_path / "one.files") as made:
        made.fill()
        queue = sa.create_engine(f"sqlite:///{made.files / 'labels' / 'labels.sqlite'}")
        with queue.begin() as connection:
            connection.exec_driver_sql("UPDATE item SET label = 'not yet'")
            counts = copies.backup(made.kept, tmp_path / "backup.sqlite")
        queue.dispose()
        assert counts["file"] == 4
        with home(f"sqlite:///{tmp_path / 'two.sqlite'}", tmp_path / "two.files") as other:
            copies.restore(tmp_path / "backup.sqlite", other.kept)
            assert [item["label"] for item in Queue(other.files / "labels").items("labelled", 9)] == ["milk"]


@pytest.mark.parametrize("content", [b"", b"no database" * 500])
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with home(f"sqlite:///{tmp_path / 'new.sqlite'}", tmp_path / "new.files") as target:
        with pytest.raises(DataError, match="backup"):
            copies.restore(tmp_path / "x", target.kept)
        with pytest.raises(DataError, match="no file"):
            copies.restore(tmp_path / "y", target.kept)
