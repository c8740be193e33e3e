"""The recorder against a real broker: commit, then the broker, then the device."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dashboard.recorder import BATCH, Recorder
from dashboard.store import Store
from edge_agent.contracts import messages
from edge_agent.contracts.errors import ServiceError
from edge_agent.contracts.messages import Ack, State
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication, Received, Subscribed, Token
from tests.brokers import Mosquitto, received, subscribed, wait_for
from tests.conftest import find_program
from tests.dashboard.stored import devices, events, gaps

pytestmark = pytest.mark.broker

GOLDEN = Path(__file__).parents[1] / "golden"
TOPICS = DeviceTopics("0417", "cam-12-01")
STREAM = "7f0c9a52d1b84d0e8f4c2b1a90e7d655"


@contextmanager
def recording(broker: Mosquitto, store: Store) -> Iterator[Recorder]:
    """Run a recorder beside the test."""
    every = DeviceTopics("+", "+")
    stopping, news = threading.Event(), threading.Event()
    with Link(
        broker.address,
        client_id="svc-recorder",
        subscriptions=(every.event("+"), every.state, every.health),
        session_expiry_s=3600,
        manual_ack=True,
        deliveries=False,
        receive_maximum=BATCH,
    ) as link:
        recorder = Recorder(link, store, lambda _sources: news.set())
        thread = threading.Thread(target=recorder.run, args=(stopping,))
        thread.start()
        try:
            end = time.monotonic() + 10
            while not recorder.connected and time.monotonic() < end:
                time.sleep(0.02)
            # The subscription itself is answered a moment later; this test has no outbox to send again.
            time.sleep(0.2)
            yield recorder
        finally:
            stopping.set()
            thread.join()


def event(sequence: int, *, name: str = "event-restocked") -> bytes:
    text = (GOLDEN / f"{name}.v1.json").read_text()
    now = f"{sequence:016d}"
    start = text.index('"sequence":"') + len('"sequence":"')
    identity = text.index('"id":"') + len('"id":"')
    text = text[:start] + now + text[start + 16 :]
    return (text[:identity] + f"{sequence:08x}" + text[identity + 8 :]).encode()


def send(link: Link, sequence: int) -> None:
    link.publish(Publication(TOPICS.event("restocked"), event(sequence)))


def acked(link: Link, upto: int) -> None:
    """Wait until the recorder has said that it has everything up to a number."""

    def right(notice: object) -> bool:
        if not isinstance(notice, Received) or notice.topic != TOPICS.ack:
            return False
        ack = messages.decode(Ack, notice.payload)
        return ack.time is not None and (ack.stream, ack.upto) == (STREAM, upto)

    wait_for(link, right)


def test_events_are_kept_once_and_acknowledged_without_holes(mosquitto: Mosquitto, store: Store) -> None:
    with subscribed(mosquitto.address, TOPICS.ack) as device, recording(mosquitto, store):
        send(device, 2)
        acked(device, 0)
        send(device, 1)
        acked(device, 2)
        for sequence in (1, 2, 3):
            send(device, sequence)
        acked(device, 3)
    assert [int(row["event"]["sequence"]) for row in events(store)] == [2, 1, 3]


def test_much_at_once_is_acknowledged_by_few_messages_that_never_go_back(
    mosquitto: Mosquitto, store: Store
) -> None:
    with subscribed(mosquitto.address, TOPICS.ack) as device:
        with recording(mosquitto, store):
            send(device, 1)
            acked(device, 1)
        for sequence in range(2, 401):
            send(device, sequence)
        told = [0]
        with recording(mosquitto, store):
            while told[-1] < 400:
                (notice,) = received(device, 1)
                told.append(messages.decode(Ack, notice.payload).upto)
    assert told == sorted(told)
    assert len(told) < 40


def test_what_could_not_be_told_is_told_when_the_broker_is_there_again(
    mosquitto: Mosquitto, store: Store
) -> None:
    class Forgetful(Link):
        """Loses its connection at the first word."""

        silent = True

        def publish(self, publication: Publication) -> Token | None:
            if self.silent:
                self.silent = False
                self.hang_up()
                return None
            return super().publish(publication)

    stopping = threading.Event()
    topics = (TOPICS.event("+"),)
    with (
        subscribed(mosquitto.address, TOPICS.ack) as device,
        Forgetful(
            mosquitto.address,
            client_id="r",
            subscriptions=topics,
            session_expiry_s=60,
            manual_ack=True,
            deliveries=False,
        ) as link,
    ):
        wait_for(link, lambda notice: isinstance(notice, Subscribed))
        recorder = Recorder(link, store, lambda _: None)
        thread = threading.Thread(target=recorder.run, args=(stopping,))
        thread.start()
        try:
            send(device, 1)
            acked(device, 1)
            assert not link.silent
        finally:
            stopping.set()
            thread.join()


def test_what_came_while_it_was_away_is_not_lost(mosquitto: Mosquitto, store: Store) -> None:
    with subscribed(mosquitto.address, TOPICS.ack) as device:
        with recording(mosquitto, store):
            send(device, 1)
            acked(device, 1)
        for sequence in (2, 3, 4):
            send(device, sequence)
        with recording(mosquitto, store):
            acked(device, 4)


def test_a_snapshot_moves_the_acknowledgement_past_what_is_gone(mosquitto: Mosquitto, store: Store) -> None:
    state = messages.decode(State, (GOLDEN / "state.v1.json").read_bytes())
    with subscribed(mosquitto.address, TOPICS.ack) as device, recording(mosquitto, store):
        send(device, 1340)
        acked(device, 0)
        device.publish(Publication(TOPICS.state, messages.encode(state), retain=True))
        acked(device, 1340)
    assert gaps(store) == [(1, 1339, "lost")]
    assert json.loads(devices(store)[0]["state"])["shelf"] == "12"


def test_a_new_kind_of_event_is_kept_and_what_is_none_is_left_out(mosquitto: Mosquitto, store: Store) -> None:
    with subscribed(mosquitto.address, TOPICS.ack) as device, recording(mosquitto, store):
        newer = event(2).replace(b"shelfkit.product.restocked.v1", b"shelfkit.product.price-changed.v1")
        foreign = event(3).replace(b"cam-12-01", b"cam-12-02")
        number, name = b'"0000000000000002"', b'"restocked'
        hostile = [
            newer.replace(number, b"1e999"),
            newer.replace(number, b"1" + b"0" * 30),
            event(1).replace(b'"id":"', b'"id":"\\ud800'),
            event(1).replace(b'"id":"', b'"id":"\\u0000'),
            event(1).decode().encode("utf-16"),
            event(1).replace(b'"filled":', b'"price":NaN,"filled":'),
            name,
        ]
        for payload in (b"no json", b"{}", foreign, *hostile, newer):
            device.publish(Publication(TOPICS.event("restocked"), payload))
        endless = (GOLDEN / "state.v1.json").read_bytes().replace(b'"oldest":1340', b'"oldest":1' + b"0" * 30)
        device.publish(Publication(TOPICS.state, endless))
        acked(device, 2)  # what is refused counts as well
    (row,) = events(store)
    assert row["event"]["type"] == "shelfkit.product.price-changed.v1"


def test_acknowledgements_are_retained_for_a_device_that_comes_back(
    mosquitto: Mosquitto, store: Store
) -> None:
    with subscribed(mosquitto.address, TOPICS.ack) as device, recording(mosquitto, store):
        send(device, 1)
        acked(device, 1)
    with subscribed(mosquitto.address, client_id="later"):
        pass
    with Link(mosquitto.address, client_id="x", subscriptions=(TOPICS.ack,)) as later:
        (found,) = received(later, 1)
    assert found.retain


def test_a_broker_that_will_not_have_it_ends_it(tmp_path: Path, store: Store) -> None:
    lines = ("listener PORT 127.0.0.1", "allow_anonymous false")
    with Mosquitto(find_program("mosquitto"), tmp_path / "b", lines=lines) as broker:
        stopping = threading.Event()
        with Link(broker.address, client_id="svc-recorder") as link:
            recorder = Recorder(link, store, lambda _sources: None)
            recorder.run(stopping)
        assert isinstance(recorder.error, ServiceError)


def test_no_moment_ends_the_recorder_or_comes_again_when_it_starts(
    mosquitto: Mosquitto, store: Store
) -> None:
    state = (GOLDEN / "state.v1.json").read_bytes()
    when, since = b"2026-11-23T09:14:05.120Z", b"2026-11-23T09:13:35.000Z"
    with subscribed(mosquitto.address, TOPICS.ack) as device:
        for number, moment in enumerate((b"0001-01-01T00:00:00+05:00", b"9999-12-31T23:59:59-05:00")):
            with recording(mosquitto, store):
                health = b'{"status":"online","time":"%s"}' % moment
                device.publish(Publication(TOPICS.health, health, retain=True))
                device.publish(Publication(TOPICS.state, state.replace(when, moment), retain=True))
                for other in (event(8).replace(since, moment), event(9).replace(when, moment)):
                    device.publish(Publication(TOPICS.event("restocked"), other))
                send(device, number + 1)
                acked(device, number + 1)
        with recording(mosquitto, store):
            send(device, 3)
            acked(device, 3)
    assert devices(store) == []
    assert {row["topic"].rpartition("/")[2] for row in store.quarantined(99)} == {
        "health",
        "state",
        "restocked",
    }
