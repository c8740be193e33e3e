"""The agent does not break: damaged files, full disks, clocks, days without a broker, brokers that lie."""

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.camera.base import Frame
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.events import Event, SlotData
from edge_agent.memory import Memory
from edge_agent.mqtt import Link
from edge_agent.outbox import Limits, Outbox
from edge_agent.publisher import Publisher
from tests.brokers import Mosquitto, free_port
from tests.conftest import Kit, find_program
from tests.edge_agent.clocked_agent import SOURCE, TOPICS
from tests.edge_agent.test_agent import START, Shelf, picture, words
from tests.edge_agent.test_outbox import NOW, draft
from tests.edge_agent.test_outbox import full as filled_up
from tests.edge_agent.test_publisher import pumped
from tests.shops import (
    Shop,
    Swallower,
    assert_no_state_changed_without_an_event,
    assert_whole,
    fill,
    recorded,
    recorder,
    small_disk,
    wait_until,
    waiting_and_last,
)

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]


# --- a damaged file ---------------------------------------------------------------------------------


def waiting_ids(outbox: Path, folder: Path) -> dict[str, int]:
    """Return the ids in the files of an agent that was killed, each with its place; they stay as they are."""
    folder.mkdir()
    for file in outbox.parent.glob("outbox.sqlite*"):
        if "damaged" not in file.name:
            shutil.copy(file, folder / file.name)
    with closing(sqlite3.connect(folder / outbox.name)) as database:
        rows = database.execute("SELECT sequence, body FROM event").fetchall()
    return {json.loads(body)["id"]: sequence for sequence, body in rows}


def spoil(outbox: Path, chance: random.Random) -> None:
    """Overwrite some of a file, as a worn card does."""
    victim = max(outbox.parent.glob("outbox.sqlite*[el]"), key=lambda file: file.stat().st_size)
    with victim.open("r+b") as file:
        file.seek(chance.randrange(4096, max(victim.stat().st_size - 6000, 4097)))
        file.write(chance.randbytes(6000))


def dropped(outbox: Path) -> int:
    with closing(sqlite3.connect(outbox)) as database:
        (value,) = database.execute("SELECT value FROM meta WHERE key = 'dropped'").fetchone()
    return int(value)


@pytest.mark.slow
def test_an_agent_whose_file_is_damaged_goes_on_and_loses_only_what_is_counted(
    tmp_path: Path, bundle_folder: Path, kit: Kit
) -> None:
    chance = random.Random(4)
    written: set[str] = set()
    with (
        Mosquitto(find_program("mosquitto"), tmp_path / "broker") as broker,
        Shop(tmp_path, bundle_folder, kit, broker, seconds=12) as shop,
    ):
        broker.kill()
        for number in range(3):
            shop.agent.start()
            before = depth(shop)
            wait_until(lambda before=before: depth(shop) >= before + 15, 60)  # type: ignore[misc] # a number
            shop.agent.kill()
            written |= set(waiting_ids(shop.outbox, tmp_path / f"copy-{number}"))
            spoil(shop.outbox, chance)
        broker.start()
        shop.finish()
        lost = dropped(shop.outbox)
        _, last = waiting_and_last(shop.outbox)
        told = shop.agent.told()
    found, gaps = recorded(tmp_path)
    there = {str(event["id"]) for event in found}
    assert len(written) > 25
    assert len(there) == len(found)
    assert len(written - there) == lost < len(written)
    assert gaps == []
    assert_whole(found, last)
    assert told.count("the outbox was damaged") == len(list(shop.outbox.parent.glob("*damaged-?"))) >= 1
    assert "Traceback" not in told


def depth(shop: Shop) -> int:
    try:
        return waiting_and_last(shop.outbox)[0]
    except sqlite3.Error:
        return 0


@pytest.mark.slow
def test_what_the_recorder_has_already_does_not_stop_the_stream_that_begins_after_damage(
    tmp_path: Path, bundle_folder: Path, kit: Kit
) -> None:
    chance = random.Random(5)
    with (
        Mosquitto(find_program("mosquitto"), tmp_path / "broker") as broker,
        Shop(tmp_path, bundle_folder, kit, broker, seconds=12) as shop,
    ):
        for _ in range(3):
            before = len(recorded(tmp_path)[0])
            shop.agent.start()
            wait_until(lambda before=before: len(recorded(tmp_path)[0]) > before + 5, 60)  # type: ignore[misc]
            # The recorder has these, and the agent will not hear of it.
            shop.recorder.send(signal.SIGSTOP)
            time.sleep(1)
            shop.agent.kill()
            spoil(shop.outbox, chance)
            with shop.outbox.open("r+b") as file:
                file.write(bytes(4096))
            shop.recorder.send(signal.SIGCONT)
        shop.finish()
    found, _ = recorded(tmp_path)
    assert len({str(event["id"]) for event in found}) == len(found) > 20


@pytest.mark.slow
def test_the_agent_lives_on_while_its_disk_is_full(tmp_path: Path, bundle_folder: Path, kit: Kit) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(find_program("mosquitto"), tmp_path / "broker"))
        shop = stack.enter_context(Shop(tmp_path, bundle_folder, kit, broker, seconds=30))
        try:
            disk = stack.enter_context(small_disk(tmp_path / "state"))
        except (PermissionError, FileNotFoundError) as exc:
            pytest.skip(f"this user may not mount a small disk: {exc}")
        broker.kill()
        shop.agent.start()
        wait_until(lambda: depth(shop) > 10, 60)
        filler = fill(disk)
        time.sleep(8)
        assert not shop.agent.ended()
        assert "full" in shop.agent.told()
        broker.start()
        time.sleep(4)
        filler.unlink()
        wait_until(shop.agent.ended, 120)
        assert shop.agent.code == 0
        shop.finish()
        waits, last = waiting_and_last(shop.outbox)
        lost = dropped(shop.outbox)
    found, gaps = recorded(tmp_path)
    assert (waits, lost, gaps) == (0, 0, [])
    assert_whole(found, last)
    assert_no_state_changed_without_an_event(found)


# --- a disk that is full ----------------------------------------------------------------------------


def show(shelf: Shelf, seconds: float, **contents: str) -> tuple[list[Event], int]:
    """Show a scene as the loop of the agent does: an error is no end; return events, and errors."""
    found: list[Event] = []
    errors = 0
    for _ in range(round(seconds * 5)):
        shelf.at = round(shelf.at + 0.2, 3)
        try:
            found += shelf.agent.see(Frame(picture(round(shelf.at * 10), **contents), shelf.at))
        except DeviceError:
            errors += 1
    return found, errors


@contextmanager
def disk_of(kind: str, folder: Path, stack: ExitStack) -> Iterator[tuple[Path, "Disk"]]:
    """Give a folder, and what makes its disk full and empty again."""
    if kind == "mounted":
        try:
            place = stack.enter_context(small_disk(folder / "disk"))
        except (PermissionError, FileNotFoundError) as exc:
            pytest.skip(f"this user may not mount a small disk: {exc}")
        yield place, Disk(place)
    else:
        yield folder, Disk(None)


class Disk:
    """Full or not: a real one, or SQLite's own word for it where nothing can be mounted."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def full(self, outbox: Outbox) -> None:
        if self._folder is None:
            filled_up(outbox)
        else:
            fill(self._folder)

    def empty(self, outbox: Outbox) -> None:
        if self._folder is None:
            filled_up(outbox, pages=10_000)
        else:
            (self._folder / "filler").unlink()


def until_full(outbox: Outbox) -> None:
    """Record until the disk takes no more."""
    for size in (5000, 500, 5):
        for _ in range(5000):
            try:
                outbox.record([draft("x" * size)], outbox.memory(), NOW)
            except DeviceError as exc:
                assert "full" in str(exc)  # noqa: PT017 - the loop ends with it
                break
        else:
            pytest.fail("the disk is never full")


@pytest.mark.parametrize("kind", ["mounted", "told by SQLite"])
def test_what_happens_while_the_disk_is_full_is_written_when_it_is_not(tmp_path: Path, kind: str) -> None:
    with ExitStack() as stack, disk_of(kind, tmp_path, stack) as (folder, disk):
        shelf = Shelf(tmp_path, folder / "o")
        stack.callback(shelf.outbox.close)
        show(shelf, 3)
        shelf.outbox.record([draft("x" * 100)] * 100, shelf.outbox.memory(), NOW)
        disk.full(shelf.outbox)
        until_full(shelf.outbox)
        before = shelf.outbox.last
        found, errors = show(shelf, 4, A1="empty")
        for contents in ({}, {"A2": "empty"}):
            more, worse = show(shelf, 3, **contents)
            found, errors = found + more, errors + worse
        shown = shelf.snapshot()
        if not found:
            assert errors > 10
            assert shelf.outbox.last == before
        assert (shown.slots["A1"].state, shown.slots["A2"].state) == ("present", "empty")
        # What was delivered makes room, also on a full disk.
        shelf.outbox.forget_up_to(100)
        disk.empty(shelf.outbox)
        found += show(shelf, 0.4, A2="empty")[0]
        assert [words(event) for event in found] == [
            "slot-changed A1",
            "low-stock tea 1/2",
            "slot-changed A1",
            "restocked tea 2/2",
            "slot-changed A2",
            "low-stock tea 1/2",
        ]
        assert [event.sequence for event in found] == list(range(before + 1, before + 7))
        first = found[0].data
        assert isinstance(first, SlotData)
        assert first.since == START + timedelta(seconds=3.2)
        assert shelf.outbox.dropped == 0
        assert shelf.outbox.memory().slots["A2"].condition == "empty"


def test_a_fault_that_begins_while_the_disk_is_full_is_told_later(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, tmp_path / "o")
    show(shelf, 3)
    filled_up(shelf.outbox)
    shelf.outbox.record([], Memory(), NOW)
    for _ in range(10):
        shelf.at += 0.2
        with suppress(DeviceError):
            shelf.agent.miss(shelf.at)
    filled_up(shelf.outbox, pages=10_000)
    shelf.at += 0.2
    shelf.agent.miss(shelf.at)
    found = [words(event) for event in shelf.outbox.events()]
    assert found == ["camera-fault lost"]
    shelf.outbox.close()


def test_a_disk_that_stays_full_costs_a_bounded_memory_and_what_is_left_out_is_counted(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tmp_path, tmp_path / "o")
    filled_up(shelf.outbox)
    refused = 0
    for _ in range(1500):
        try:
            shelf.agent.started("0.1.0" * 50, 0.0)
        except DeviceError:
            refused += 1
    assert refused > 1000
    assert len(shelf.agent._unwritten) == 1000
    filled_up(shelf.outbox, pages=10_000)
    shelf.agent.started("0.1.0", 0.0)
    assert shelf.outbox.last + shelf.outbox.dropped == 1501
    shelf.outbox.close()


# --- clocks, and days without a broker --------------------------------------------------------------


def clocked(folder: Path, port: int, **plan: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.edge_agent.clocked_agent", str(folder), str(port)]
    return subprocess.Popen([*command, json.dumps(plan)], stdout=subprocess.PIPE, text=True)


def delivered(folder: Path, **plan: object) -> dict[str, float]:
    """Let an agent record without a broker, then deliver to a real one and a real recorder."""
    broker = Mosquitto(find_program("mosquitto"), folder / "broker")
    keeper = recorder(folder, broker)
    with clocked(folder, broker.port, deliver=True, **plan) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "recorded\n"
        with broker:
            keeper.start()
            try:
                measured: dict[str, float] = json.loads(agent.stdout.readline())
            finally:
                keeper.kill(signal.SIGTERM)
    assert agent.returncode == 0
    return measured


@pytest.mark.slow
def test_after_72_hours_without_a_broker_everything_is_delivered_in_order(tmp_path: Path) -> None:
    measured = delivered(tmp_path, hours=72, every_s=60)
    found, gaps = recorded(tmp_path)
    assert (measured["waited"], measured["left"], measured["dropped"]) == (72 * 60, 0, 0)
    assert measured["window"] <= 20
    assert measured["oldest"] == pytest.approx(72 * 3600, abs=120)
    assert measured["peak_kb"] - measured["before_kb"] < 30_000
    assert_whole(found, 72 * 60)
    assert [int(str(event["sequence"])) for event in found] == list(range(1, 72 * 60 + 1))
    assert gaps == []
    sys.stdout.write(f"{measured}\n")


@pytest.mark.slow
def test_clocks_that_jump_a_year_change_neither_order_nor_age(tmp_path: Path) -> None:
    for jumps in ([0, 365, -365], [-365, 365], [365]):
        with clocked(tmp_path, free_port(), hours=1, every_s=60, jumps_days=jumps) as agent:
            assert agent.wait() == 0
    measured = delivered(tmp_path, hours=1, every_s=60, jumps_days=[0, -365, 365])
    found, gaps = recorded(tmp_path)
    assert (measured["left"], measured["dropped"], gaps) == (0, 0, [])
    assert_whole(found, 240)
    assert [int(str(event["reason"])) for event in (dict(item["data"]) for item in found)] == [  # type: ignore[call-overload]
        *range(60),
        *range(60),
        *range(60),
        *range(60),
    ]
    assert measured["youngest"] >= 0
    assert measured["oldest"] <= 4 * 3600
    times = [datetime.fromisoformat(str(event["time"])) for event in found]
    assert max(times) - min(times) > timedelta(days=700)
    ids = [uuid.UUID(str(event["id"])) for event in found]
    assert {(item.version, item.variant) for item in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 240


# --- brokers that accept and do not deliver ---------------------------------------------------------

ANYBODY = "topic readwrite shelfkit/#\nuser svc-recorder\n"
DEAF = ANYBODY + "topic readwrite shelfkit/v1/+/+/ack\ntopic read shelfkit/v1/+/+/state\n"
WELL = ANYBODY + "topic readwrite shelfkit/#\n"


@pytest.mark.slow
def test_a_broker_that_keeps_events_from_the_recorder_is_noticed_and_overcome(
    tmp_path: Path, bundle_folder: Path, kit: Kit
) -> None:
    access = tmp_path / "access"
    access.write_text(DEAF)
    lines = ("listener PORT 127.0.0.1", "allow_anonymous true", f"acl_file {access}")
    with (
        Mosquitto(find_program("mosquitto"), tmp_path / "broker", lines=lines) as broker,
        Shop(tmp_path, bundle_folder, kit, broker, seconds=25, user="svc-recorder") as shop,
    ):
        shop.agent.start()
        wait_until(lambda: depth(shop) > 30, 60)
        time.sleep(5)
        assert recorded(tmp_path)[0] == []
        access.write_text(WELL)
        broker.reload()
        shop.finish()
        waits, last = waiting_and_last(shop.outbox)
    found, gaps = recorded(tmp_path)
    assert (waits, gaps) == (0, [])
    assert_whole(found, last)
    assert_no_state_changed_without_an_event(found)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(True, id="says that it has them"),
        pytest.param(False, id="says nothing", marks=pytest.mark.slow),
    ],
)
def test_what_swallows_every_event_is_noticed_and_overcome(
    tmp_path: Path, mosquitto: Mosquitto, answers: bool
) -> None:
    keeper = recorder(tmp_path, mosquitto)
    keeper.start()
    with (
        Swallower(mosquitto.address, answers=answers) as between,
        Outbox(tmp_path / "o", source=SOURCE, limits=Limits(2**28, 30)) as outbox,
        Link(between.address, client_id="cam-12-01", subscriptions=(TOPICS.ack,)) as link,
    ):
        publisher = Publisher(
            outbox,
            link,
            topics=TOPICS,
            ack_timeout_s=1,
            by_broker=False,
            rng=random.Random(1),
            hang_up=link.hang_up,
        )
        outbox.record([draft(str(number)) for number in range(100)], Memory(), NOW)
        end = time.monotonic() + 6
        pumped(publisher, link, lambda: time.monotonic() > end)
        assert between.swallowed >= 20
        assert outbox.depth == 100
        between.swallows = False
        pumped(publisher, link, lambda: outbox.depth == 0)
        assert outbox.depth == 0
    keeper.kill(signal.SIGTERM)
    assert_whole(recorded(tmp_path)[0], 100)
