"""Several recorders at once: readers by cursor miss nothing, acknowledgements never go back, gaps close."""

import threading
import time
from datetime import UTC, datetime

import pytest

from dashboard.batch import Batch, Place, Refusal
from dashboard.inbox import Inbox
from dashboard.queries import EventFilter, Queries
from dashboard.recorder import Recorder
from dashboard.schema import upgrade
from dashboard.store import Arrival, Store
from edge_agent.contracts import messages
from edge_agent.contracts.messages import Ack
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication, Received
from tests.brokers import Mosquitto, subscribed
from tests.dashboard.stored import events, gaps
from tests.dashboard.test_recorder import TOPICS, event, send

SOURCE, STREAM = "/stores/1/devices/cam", "ab" * 16
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def arrival(sequence: int, source: str = SOURCE, name: str = "") -> Arrival:
    text = f'{{"n": {sequence}}}'
    return Arrival(source, name or f"{source}{sequence}", STREAM, sequence, "t", "s", "2026", text)


def take(store: Store, batch: Batch) -> int:
    with store.writing() as connection:
        return store.take(connection, batch, NOW)[SOURCE, STREAM]


def test_a_reader_by_cursor_sees_every_row_of_many_writers(store: Store) -> None:
    """Each writer holds its rows back for a moment before it commits, as a busy server does."""
    writers, each = 4, 12
    done = threading.Event()
    seen: list[int] = []

    def write(number: int) -> None:
        for sequence in range(1, each + 1):
            with store.writing() as connection:
                store.take(connection, Batch([arrival(sequence, f"/stores/1/devices/{number}")]), NOW)
                time.sleep(0.001 * (number + sequence) % 0.004)

    def read() -> None:
        after, last = 0, False
        while not last:
            last = done.is_set()
            for row in Queries(store.engine).events(EventFilter(), after, 1000):
                seen.append(row["cursor"])
                after = row["cursor"]

    reader = threading.Thread(target=read)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    assert len(seen) == writers * each
    assert seen == sorted(seen)


def test_two_recorders_with_parts_of_one_stream_never_go_back_or_over_a_hole(store: Store) -> None:
    """As shared subscriptions would deal them out: every other event, each in its own order."""
    told: list[int] = []
    stored: set[int] = set()

    def record(first: int) -> None:
        for sequence in range(first, 61, 2):
            with store.writing() as connection:
                stored.add(sequence)
                reached = store.take(connection, Batch([arrival(sequence)]), NOW)[SOURCE, STREAM]
                told.append(reached)
                assert stored >= set(range(1, reached + 1))

    threads = [threading.Thread(target=record, args=(first,)) for first in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == sorted(told)
    assert told[-1] == 60


def test_what_comes_late_closes_its_gap(store: Store) -> None:
    take(store, Batch(oldest={(SOURCE, STREAM): 10}))
    assert gaps(store) == [(1, 9, "lost")]
    assert take(store, Batch([arrival(4), arrival(5)])) == 9
    assert gaps(store) == [(1, 3, "lost"), (6, 9, "lost")]
    take(store, Batch([arrival(number) for number in (1, 2, 3, 9, 6, 8)]))
    assert gaps(store) == [(7, 7, "lost")]
    assert take(store, Batch([arrival(7), arrival(10)])) == 10
    assert gaps(store) == []


def test_a_bad_event_holds_up_nobody(store: Store) -> None:
    bad = [Refusal("2026", "topic", "bad", b"x", Place(SOURCE, STREAM, number)) for number in (2, 4)]
    assert take(store, Batch([arrival(1)], [bad[0]])) == 2
    assert take(store, Batch(refusals=[bad[1], bad[1]])) == 2
    assert take(store, Batch([arrival(3)])) == 4
    assert gaps(store) == [(2, 2, "refused"), (4, 4, "refused")]
    assert (
        take(store, Batch([arrival(2)], [Refusal("2026", "topic", "bad", b"x", Place(SOURCE, STREAM, 1))]))
        == 4
    )
    assert gaps(store) == [(4, 4, "refused")]


def test_quarantine_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.store.MOST_QUARANTINED", 5)
    for number in range(4):
        items = [Refusal("2026", "t", f"{number}-{item}", b"x" * 100_000) for item in range(3)]
        with store.writing() as connection:
            store.take(connection, Batch(refusals=items), NOW)
    found = store.quarantined(100)
    assert [row["reason"] for row in found] == ["3-2", "3-1", "3-0", "2-2", "2-1"]
    assert {(row["size"], len(row["body"])) for row in found} == {(100_000, 65536)}


@pytest.mark.parametrize(
    ("payload", "told", "placed"),
    [
        (b"\xff", "JSON", False),
        (b"[" * 100_000, "JSON", False),
        (b"[]", "CloudEvent", False),
        (event(7).replace(b"cam-12-01", b"cam-12-02"), "cam-12-02", False),
        (event(7).replace(b'"filled":', b'"filled":-'), "filled", True),
        (event(7).replace(b'"specversion":"1.0"', b'"specversion":"0.3"'), "CloudEvents 1.0", True),
        (event(7).replace(b'"id":"', b'"id":"\\u0000'), "NUL", True),
        (event(7).replace(b'"id":"', b'"id":"\\ud800'), "surrogate", True),
        (event(7).replace(b'"name":"', b'"name":"' + b"x" * 300_000), "bytes", True),
        (event(7).replace(b'"id":"', b'"id":"' + b"x" * 80), "sequence", True),
        (event(7).replace(b"0000000000000007", b"0000000000000000"), "sequence", False),
    ],
)
def test_what_is_no_event_is_kept_with_the_reason(payload: bytes, told: str, placed: bool) -> None:
    inbox = Inbox(NOW)
    inbox.put(TOPICS.event("restocked"), payload)
    assert inbox.batch.arrivals == []
    (refusal,) = inbox.batch.refusals
    assert told in refusal.reason
    assert len(refusal.reason) <= 500
    assert (refusal.place is not None) == placed


@pytest.mark.broker
def test_recorders_share_the_load_by_store(mosquitto: Mosquitto, store: Store) -> None:
    """Each acknowledges what is its own, whole and in order; nobody hears of the other's."""
    assert upgrade(store.engine) == []
    stopping = threading.Event()
    links, threads = [], []
    for shard in ("0417", "0418"):
        place = DeviceTopics(shard, "+")
        topics = (place.event("+"), place.state, place.health)
        link = Link(
            mosquitto.address,
            client_id=f"svc-recorder-{shard}",
            subscriptions=topics,
            session_expiry_s=3600,
            manual_ack=True,
        )
        links.append(link.__enter__())
        recorder = Recorder(link, store, lambda _sources: None)
        threads.append(threading.Thread(target=recorder.run, args=(stopping,)))
    for thread in threads:
        thread.start()
    told: dict[str, list[int]] = {}
    try:
        with subscribed(mosquitto.address, DeviceTopics("+", "+").ack) as device:
            time.sleep(1)
            for sequence in range(1, 41):
                send(device, sequence)
                body = event(sequence).replace(b"/0417/", b"/0418/")
                device.publish(Publication(DeviceTopics("0418", "cam-12-01").event("restocked"), body))
            end = time.monotonic() + 20
            while time.monotonic() < end and [rows[-1] for rows in told.values()] != [40, 40]:
                notice = device.notices.get(timeout=20)
                if isinstance(notice, Received):
                    told.setdefault(notice.topic, []).append(messages.decode(Ack, notice.payload).upto)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        for link in links:
            link.close()
    assert all(rows == sorted(rows) and rows[-1] == 40 for rows in told.values())
    assert len(told) == 2
    assert len(events(store)) == 80
