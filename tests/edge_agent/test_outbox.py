"""The outbox: nothing is lost but what is counted, and numbers are never given twice."""

import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_agent import salvage
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.events import DeviceData, Kind, decode
from edge_agent.ledger import Ledger
from edge_agent.memory import Draft, Memory
from edge_agent.outbox import Limits, Outbox

SOURCE = "/stores/0417/devices/cam-12-01"
NOW = datetime(2026, 11, 23, 9, 14, 5, 120_000, UTC)
ROOMY = Limits(max_bytes=10**9, max_days=30)


def draft(reason: str = "x", at: datetime = NOW) -> Draft:
    data = DeviceData(store="0417", agent="0.1.0", reason=reason)
    return Draft(kind=Kind.DEVICE_STARTED, subject="device", time=at, data=data)


def opened(path: Path | str = ":memory:", limits: Limits = ROOMY, source: str = SOURCE) -> Outbox:
    return Outbox(path, source=source, limits=limits)


def test_an_event_gets_its_place_and_keeps_it(tmp_path: Path) -> None:
    with opened(tmp_path / "o") as outbox:
        first, second = outbox.record([draft("a"), draft("b")], Memory(), NOW)
        assert (first.sequence, second.sequence) == (1, 2)
        assert first.source == SOURCE
        assert first.streamid == outbox.stream
        stream, rows = outbox.stream, outbox.after(0, 10)
    with opened(tmp_path / "o") as outbox:
        assert (outbox.stream, outbox.after(0, 10)) == (stream, rows)
        assert decode(rows[0].body) == first


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    with opened(tmp_path / "o") as outbox:
        outbox.record([draft(), draft(), draft()], Memory(), NOW)
        outbox.forget_up_to(3)
        assert (outbox.depth, outbox.last, outbox.oldest) == (0, 3, 4)
    with opened(tmp_path / "o") as outbox:
        assert outbox.record([draft()], Memory(), NOW)[0].sequence == 4


def test_a_new_disk_begins_a_new_stream(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as one, opened(tmp_path / "b") as other:
        assert one.stream != other.stream


def test_event_and_memory_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "o")
    outbox.record([draft("a")], Memory(planogram="before"), NOW)

    def fails() -> object:
        yield draft("b")
        message = "power cut"
        raise RuntimeError(message)

    with pytest.raises(RuntimeError):
        outbox.record(fails(), Memory(planogram="after"), NOW)  # type: ignore[arg-type]
    outbox.close()
    with opened(tmp_path / "o") as again:
        assert again.depth == 1
        assert again.memory().planogram == "before"


def test_a_process_killed_in_the_middle_leaves_whole_transactions(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, sys
        from tests.edge_agent.test_outbox import *
        from pathlib import Path
        outbox = opened(Path(sys.argv[1]))
        for number in range(50):
            outbox.record([draft(), draft()], Memory(planogram=str(number)), NOW)
        outbox._database.execute("BEGIN IMMEDIATE")
        half = "INSERT INTO event SELECT 101, kind, recorded, running, body FROM event LIMIT 1"
        outbox._database.execute(half)
        os.kill(os.getpid(), 9)
    """)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "o")], check=False)
    assert done.returncode == -9
    with opened(tmp_path / "o") as outbox:
        assert (outbox.depth, outbox.last, outbox.memory().planogram) == (100, 100, "49")


def test_over_its_limits_the_oldest_go_and_are_counted() -> None:
    outbox = opened(limits=Limits(max_bytes=2000, max_days=30))
    outbox.record([draft() for _ in range(20)], Memory(), NOW)
    assert outbox.dropped == 20 - outbox.depth > 0
    assert outbox.oldest == outbox.dropped + 1
    assert sum(len(row.body) for row in outbox.after(0, 100)) <= 2000


def test_too_old_is_dropped_and_counted() -> None:
    clock = [0.0]
    outbox = Outbox(
        ":memory:", source=SOURCE, limits=Limits(max_bytes=10**9, max_days=2), steady=lambda: clock[0]
    )
    for days in (0, 1, 2.1):
        clock[0] = days * 86400
        outbox.record([draft()], Memory(), NOW + timedelta(days=days))
    assert (outbox.dropped, outbox.oldest) == (1, 2)
    clock[0] += 600
    assert outbox.age_s() == pytest.approx(1.1 * 86400 + 600)


def test_a_clock_that_is_set_makes_nothing_old() -> None:
    outbox = opened(limits=Limits(max_bytes=10**9, max_days=2))
    for days in (0, 60, -700, 9000):
        outbox.record([draft()], Memory(), NOW + timedelta(days=days))
    assert (outbox.dropped, outbox.depth) == (0, 4)


def test_a_device_with_another_name_takes_along_what_waits(tmp_path: Path) -> None:
    with opened(tmp_path / "o") as outbox:
        outbox.record([draft("a"), draft("b"), draft("c")], Memory(), NOW)
        outbox.forget_up_to(1)
        stream, ids = outbox.stream, [event.id for event in outbox.events()]
    renamed = "/stores/0417/devices/cam-99"
    with opened(tmp_path / "o", source=renamed) as outbox:
        found = outbox.events()
        assert [(event.id, event.source, event.sequence) for event in found] == [
            (ids[0], renamed, 1),
            (ids[1], renamed, 2),
        ]
        assert outbox.stream != stream
        assert {event.streamid for event in found} == {outbox.stream}
        assert outbox.record([draft("d")], Memory(), NOW)[0].sequence == 3


def test_memory_of_another_version_is_forgotten_not_fatal(tmp_path: Path) -> None:
    opened(tmp_path / "o").close()
    with sqlite3.connect(tmp_path / "o") as database:
        database.execute("INSERT INTO meta VALUES ('memory', '{\"newer\": 1}')")
    database.close()
    with opened(tmp_path / "o") as outbox:
        assert outbox.memory() == Memory()


def filled(path: Path, count: int = 200, forgotten: int = 20) -> dict[str, int]:
    """Write an outbox; return ids of what waits in it, each with its place."""
    with opened(path) as outbox:
        for number in range(count):
            outbox.record([draft(f"{number:04d}")], Memory(planogram="known"), NOW)
        outbox.forget_up_to(forgotten)
        return {event.id: event.sequence for event in outbox.events()}


def zeroed(path: Path, first: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(first)
        file.write(bytes(length))


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE event (sequence, name)")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "the first page is gone": lambda path: zeroed(path, 0, 4096),
    "its beginning is gone": lambda path: zeroed(path, 0, 100),
    "pages in the middle are gone": lambda path: zeroed(path, 8 * 4096, 3 * 4096),
    "half of it is gone": cut,
    "noise": lambda path: path.write_bytes(random.Random(1).randbytes(30_000)),
    "words": lambda path: path.write_bytes(b"this is no database at all, but long enough to be one" * 99),
    "another database": foreign,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_goes_aside_and_what_can_be_read_begins_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "o"
    known = filled(path)
    DAMAGES[damage](path)
    spoiled = path.read_bytes()
    with opened(path) as outbox:
        found = outbox.events()
        assert [event.sequence for event in found] == list(range(1, len(found) + 1))
        places = [known[event.id] for event in found]
        assert places == sorted(set(places))
        assert {event.streamid for event in found} <= {outbox.stream}
        if damage in {"the first page is gone", "its beginning is gone"}:
            assert (len(found), outbox.dropped, outbox.memory().planogram) == (180, 0, "known")
        if damage == "pages in the middle are gone":
            assert 100 < len(found) < 180
            assert outbox.dropped == 180 - len(found)
        assert outbox.record([draft("new")], Memory(), NOW)[0].sequence == len(found) + 1
    assert damage == "another database" or (tmp_path / "o.damaged-1").read_bytes() == spoiled
    with opened(path) as outbox:
        assert outbox.depth == len(found) + 1
    assert not (tmp_path / "o.damaged-2").exists()


def crashed(folder: Path, count: int = 200) -> tuple[Path, set[str]]:
    """Return the files of an outbox that was not closed, its log included, and the ids in it."""
    (folder / "before").mkdir()
    with opened(folder / "before" / "o") as outbox:
        for number in range(count):
            outbox.record([draft(f"{number:04d}")], Memory(), NOW)
        ids = {event.id for event in outbox.events()}
        for file in (folder / "before").iterdir():
            shutil.copy(file, folder / file.name)
    return folder / "o", ids


@pytest.mark.parametrize("place", [0, 32, 32 + 4120 + 200])
def test_transactions_behind_a_broken_page_of_the_log_are_not_forgotten(tmp_path: Path, place: int) -> None:
    path, ids = crashed(tmp_path)
    with (tmp_path / "o-wal").open("r+b") as file:
        file.seek(place)
        file.write(b"\xa5" * 30)
    with opened(path) as outbox:
        assert {event.id for event in outbox.events()} == ids
        assert (outbox.depth, outbox.dropped) == (200, 0)
    assert (tmp_path / "o.damaged-1").exists()


def test_a_log_whose_file_is_gone_is_read(tmp_path: Path) -> None:
    path, ids = crashed(tmp_path, 20)
    path.unlink()
    with opened(path) as outbox:
        assert {event.id for event in outbox.events()} <= ids
        assert outbox.depth > 0


def test_a_last_transaction_that_a_power_cut_tore_is_no_damage(tmp_path: Path) -> None:
    path, _ = crashed(tmp_path)
    with (tmp_path / "o-wal").open("r+b") as file:
        file.truncate((tmp_path / "o-wal").stat().st_size - 3000)
    with opened(path) as outbox:
        assert outbox.depth >= 199
    assert not (tmp_path / "o.damaged-1").exists()


def test_damage_is_noticed_while_the_agent_runs_and_nothing_it_knows_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "o"
    filled(path, 4000, 20)
    with opened(path) as outbox:
        stream, known = outbox.stream, Memory(planogram="newest")
        outbox.record([draft("4000")], known, NOW)
        assert outbox._database is not None
        outbox._database.execute("PRAGMA cache_size = 10")
        zeroed(path, 4096, path.stat().st_size // 2)
        assert outbox.after(20, 5000) == []
        assert outbox.stream != stream
        assert outbox.memory() == known
        assert outbox.depth + outbox.dropped == 3981
        assert outbox.depth > 1000
        assert [event.sequence for event in outbox.events()] == list(range(1, outbox.depth + 1))


@pytest.mark.parametrize("touch", ["record", "after", "forget_up_to", "age_s", "events"])
def test_contents_that_changed_are_noticed_whoever_meets_them(tmp_path: Path, touch: str) -> None:
    path = tmp_path / "o"
    filled(path, 50, 20)
    with opened(path) as outbox:
        stream = outbox.stream
        assert outbox._database is not None
        outbox._database.execute("UPDATE event SET body = zeroblob(300) WHERE sequence = 30")
        outbox._database.execute("DELETE FROM event WHERE sequence = 21")
        # Otherwise the log still has them as they were, and nothing is lost.
        outbox._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        match touch:
            case "record":
                (event,) = outbox.record([draft("new")], Memory(), NOW)
                assert (event.streamid, event.sequence) == (outbox.stream, 29)
            case "after":
                assert outbox.after(20, 20) == []
            case "forget_up_to":
                # What was delivered is not saved; SQLite itself sees nothing wrong here.
                outbox.forget_up_to(25)
                outbox.events()
                assert outbox.depth + outbox.dropped == 25
                return
            case "age_s":
                assert outbox.age_s() >= 0
            case "events":
                assert len(outbox.events()) == 28
        assert outbox.stream != stream
        assert outbox.dropped == 2


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        with opened(tmp_path / "o") as outbox:
            outbox.record([draft()], Memory(), NOW)
        (tmp_path / "o").write_bytes(b"noise %d" % number * 1000)
    opened(tmp_path / "o").close()
    kept = sorted(file.name for file in tmp_path.iterdir() if "damaged" in file.name)
    assert kept == ["o.damaged-3", "o.damaged-4", "o.damaged-5"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_power_cut_while_a_damaged_file_goes_aside_loses_nothing(tmp_path: Path, moved: bool) -> None:
    path, ids = crashed(tmp_path)
    zeroed(path, 0, 4096)
    salvage.rebuild(path, new=Ledger("ab" * 16, SOURCE), known=None)
    if moved:
        path.rename(tmp_path / "o.damaged-1")
    with opened(path) as outbox:
        assert {event.id for event in outbox.events()} == ids
        assert outbox.stream == "ab" * 16
    left = {file.name for file in tmp_path.iterdir() if file.is_file()}
    assert left == {"o", "o.room", "o.lock", "o.damaged-1", "o.damaged-1-wal", "o.damaged-1-shm"}


def test_a_disk_that_went_back_begins_a_new_stream_with_what_waits(tmp_path: Path) -> None:
    known = filled(tmp_path / "o", 50, 20)
    with opened(tmp_path / "o") as outbox:
        stream = outbox.stream
        outbox.begin_stream()
        assert outbox.stream != stream
        assert [event.id for event in outbox.events()] == list(known)
        assert (outbox.oldest, outbox.last) == (1, 30)
    with opened(tmp_path / "o") as outbox:
        assert (outbox.oldest, outbox.last) == (1, 30)


def test_a_file_of_an_older_version_is_taken_over(tmp_path: Path) -> None:
    known = filled(tmp_path / "o", 50, 20)
    with closing(sqlite3.connect(tmp_path / "o", isolation_level=None)) as database:
        database.execute("DELETE FROM meta WHERE key = 'gone'")
    with opened(tmp_path / "o") as outbox:
        assert [event.id for event in outbox.events()] == list(known)
        assert (outbox.oldest, outbox.last, outbox.dropped) == (21, 50, 0)


def full(outbox: Outbox, *, pages: int = 1) -> None:
    """Let SQLite say that the disk is full, or no longer."""
    assert outbox._database is not None
    outbox._database.execute(f"PRAGMA max_page_count = {pages}")


def test_a_disk_that_is_full_takes_nothing_and_changes_nothing(tmp_path: Path) -> None:
    limits = Limits(max_bytes=60_000, max_days=30)
    with opened(tmp_path / "o", limits) as outbox:
        outbox.record([draft("before")], Memory(planogram="before"), NOW)
        before = (outbox.stream, outbox.last, outbox.depth, outbox._bytes)
        full(outbox)
        for _ in range(50):
            with pytest.raises(DeviceError, match="full"):
                outbox.record([draft("y" * 5000)] * 5, Memory(planogram="later"), NOW)
        assert (outbox.stream, outbox.last, outbox.depth, outbox._bytes) == before
        assert outbox.memory().planogram == "before"
        outbox.forget_up_to(1)
        full(outbox, pages=10_000)
        assert outbox.record([draft("after")], Memory(), NOW, lost=3)[0].sequence == 2
        # Nothing that was not written counts against the limits.
        assert (outbox.depth, outbox.dropped) == (1, 3)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No such file"):
        opened(tmp_path / "nowhere" / "o")


def test_two_agents_do_not_share_a_file(tmp_path: Path) -> None:
    with opened(tmp_path / "o") as outbox:
        outbox.record([draft()], Memory(), NOW)
        with pytest.raises(DeviceError, match="another process"):
            opened(tmp_path / "o")
        assert outbox.depth == 1
    with opened(tmp_path / "o") as outbox:
        assert outbox.depth == 1


class AgainstAList(RuleBasedStateMachine):
    """Whatever is recorded, acknowledged and reopened: the outbox holds what a list would."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = opened()
        self.waiting: list[int] = []
        self.last = 0

    @rule(count=st.integers(0, 4))
    def record(self, count: int) -> None:
        made = self.outbox.record([draft() for _ in range(count)], Memory(), NOW)
        assert [event.sequence for event in made] == list(range(self.last + 1, self.last + count + 1))
        self.waiting += [event.sequence for event in made]
        self.last += count

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        upto = data.draw(st.integers(0, self.last))
        self.outbox.forget_up_to(upto)
        self.waiting = [sequence for sequence in self.waiting if sequence > upto]

    @invariant()
    def same(self) -> None:
        assert [row.sequence for row in self.outbox.after(0, 1000)] == self.waiting
        assert self.outbox.last == self.last
        assert self.outbox.oldest == (self.waiting[0] if self.waiting else self.last + 1)

    def teardown(self) -> None:
        self.outbox.close()


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
