"""The outbox: nothing is lost but what is counted, and numbers are never given twice."""

import sqlite3
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.events import DeviceData, Kind, decode
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
        outbox._database.execute(
            "INSERT INTO event SELECT 101, kind, recorded, running, body FROM event LIMIT 1")
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


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="unable to open"):
        opened(tmp_path / "nowhere" / "o")


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
