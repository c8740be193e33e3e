"""Delivery against brokers of every temper, simulated: nothing lost, and no more resent than needed."""

import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.contracts import messages
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.events import decode
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.ledger import Row
from edge_agent.memory import Memory
from edge_agent.mqtt import Connected, Delivered, Disconnected, Link, Publication, Received, Token
from edge_agent.outbox import Limits, Outbox
from edge_agent.publisher import WINDOW, Publisher
from tests.edge_agent.test_outbox import NOW, SOURCE, draft

TOPICS = DeviceTopics("0417", "cam")
STREAM = "7f0c9a52d1b84d0e8f4c2b1a90e7d655"

OTHER_STREAM = "0" * 32


class Queue:
    """An outbox in memory."""

    def __init__(self, count: int) -> None:
        self.stream = STREAM
        self.rows = [Row(number, "restocked", str(number).encode()) for number in range(1, count + 1)]
        self.last = count
        self.refuses = False

    def after(self, sequence: int, limit: int) -> list[Row]:
        return [row for row in self.rows if row.sequence > sequence][:limit]

    def forget_up_to(self, sequence: int) -> None:
        if self.refuses:
            message = "Expected: room. Received: disk full."
            raise DeviceError(message)
        self.rows = [row for row in self.rows if row.sequence > sequence]

    def begin_stream(self) -> None:
        self.stream = "b" * 32
        self.rows = [Row(place, row.kind, row.body) for place, row in enumerate(self.rows, start=1)]
        self.last = len(self.rows)


@dataclass
class Wire:
    """A connection that only notes what was sent."""

    up: bool = True
    sent: list[int] = field(default_factory=list)

    def publish(self, publication: Publication) -> Token | None:
        if not self.up:
            return None
        self.sent.append(int(publication.payload))
        return 1, len(self.sent)


def make(
    count: int, *, by_broker: bool = False, hang_up: Callable[[], None] | None = None
) -> tuple[Publisher, Queue, Wire]:
    queue, wire = Queue(count), Wire()
    publisher = Publisher(
        queue,
        wire,
        topics=TOPICS,
        ack_timeout_s=10,
        by_broker=by_broker,
        rng=random.Random(1),
        hang_up=hang_up,
    )
    return publisher, queue, wire


def puback(number: int, *, ok: bool = True, nobody: bool = False) -> Delivered:
    return Delivered((1, number), ok, nobody, "")


def ack(upto: int, stream: str = STREAM) -> Received:
    payload = messages.encode(messages.Ack(stream=stream, upto=upto))
    return Received(TOPICS.ack, payload, False, (1, 1, 1))


def connected(maximum: int = 100) -> Connected:
    return Connected(maximum, "5")


def pumped(publisher: Publisher, link: Link, done: Callable[[], bool], patience_s: float = 60) -> None:
    """Run a publisher over a real link until something is done."""
    end = time.monotonic() + patience_s
    while not done() and time.monotonic() < end:
        publisher.pump(time.monotonic())
        with contextlib.suppress(Empty):
            publisher.on(link.notices.get(timeout=0.1), time.monotonic())


def test_nothing_is_sent_before_there_is_a_connection() -> None:
    publisher, _, wire = make(3)
    publisher.pump(0)
    assert wire.sent == []
    publisher.on(connected(), 0)
    publisher.pump(0)
    assert wire.sent == [1, 2, 3]


@pytest.mark.parametrize(("maximum", "window"), [(100, WINDOW), (20, 17), (5, 2), (0, 1)])
def test_the_window_is_bounded_by_us_and_by_the_broker(maximum: int, window: int) -> None:
    publisher, _, wire = make(200)
    publisher.on(connected(maximum), 0)
    publisher.pump(0)
    publisher.pump(1)
    assert len(wire.sent) == window
    publisher.on(puback(1), 1)
    publisher.pump(1)
    assert len(wire.sent) == window + 1


def test_a_puback_forgets_nothing() -> None:
    publisher, queue, _ = make(3)
    publisher.on(connected(), 0)
    publisher.pump(0)
    for number in (1, 2, 3):
        publisher.on(puback(number), 0)
    assert len(queue.rows) == 3
    publisher.on(ack(2), 1)
    assert [row.sequence for row in queue.rows] == [3]


@pytest.mark.parametrize("answer", [puback(2, ok=False), puback(2, nobody=True)])
def test_a_refusal_and_an_empty_room_rewind(answer: Delivered) -> None:
    publisher, _, wire = make(3)
    publisher.on(connected(), 0)
    publisher.pump(0)
    publisher.on(puback(1), 0)
    publisher.on(answer, 0)
    publisher.pump(120)
    assert wire.sent == [1, 2, 3, 1, 2, 3]


def test_an_acknowledgement_that_stands_still_rewinds_with_longer_and_longer_waits() -> None:
    publisher, _, wire = make(2)
    publisher.on(connected(), 0)
    moments: list[float] = []
    for tick in range(4000):
        now, before = tick / 10, len(wire.sent)
        publisher.pump(now)
        moments += [now] * (len(wire.sent) > before)
        for number in range(before, len(wire.sent)):
            publisher.on(puback(number + 1), now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert wire.sent[:4] == [1, 2, 1, 2]
    assert min(gaps) >= 10
    assert 5 <= len(moments) <= 30


def test_an_acknowledgement_that_stands_still_is_noticed_while_events_go_on_coming() -> None:
    publisher, queue, wire = make(0)
    publisher.on(connected(), 0)
    for second in range(40):
        queue.last += 1
        queue.rows.append(Row(queue.last, "restocked", str(queue.last).encode()))
        before = len(wire.sent)
        publisher.pump(float(second))
        for number in range(before, len(wire.sent)):
            publisher.on(puback(number + 1), float(second))
    assert Counter(wire.sent)[1] >= 2


@pytest.mark.parametrize(
    "foreign", [ack(2, "0" * 32), ack(99), Received(TOPICS.ack, b"no json", False, (1, 1, 1))]
)
def test_an_acknowledgement_of_something_else_is_not_ours(foreign: Received) -> None:
    publisher, queue, _ = make(3)
    publisher.on(connected(), 0)
    publisher.pump(0)
    publisher.on(foreign, 0)
    assert len(queue.rows) == 3


def test_of_a_disk_that_went_back_no_number_is_given_again() -> None:
    publisher, queue, wire = make(5)
    publisher.on(connected(), 0)
    publisher.on(ack(3), 0)
    # The recorder has more of this stream than was ever written, as far as this disk knows.
    publisher.on(ack(9), 1)
    assert queue.stream != STREAM
    publisher.pump(2)
    assert wire.sent == [4, 5]
    publisher.on(ack(5), 3)
    assert len(queue.rows) == 2
    publisher.on(ack(2, queue.stream), 3)
    assert queue.rows == []


def test_a_new_stream_is_sent_from_its_beginning() -> None:
    publisher, queue, wire = make(5)
    publisher.on(connected(), 0)
    publisher.pump(0)
    publisher.on(ack(3), 0)
    queue.begin_stream()
    publisher.pump(1)
    assert wire.sent == [1, 2, 3, 4, 5, 4, 5]
    for number in (1, 2, 3, 4, 5):
        publisher.on(puback(number, ok=False), 1)
    publisher.on(ack(1, queue.stream), 1)
    assert [row.sequence for row in queue.rows] == [2]


def test_what_the_disk_will_not_forget_is_asked_for_again_and_not_sent_again() -> None:
    publisher, queue, wire = make(5)
    publisher.on(connected(), 0)
    publisher.pump(0)
    queue.refuses = True
    publisher.on(ack(3), 0)
    assert len(queue.rows) == 5
    queue.refuses = False
    publisher.on(Disconnected(""), 1)
    publisher.on(connected(), 2)
    publisher.pump(6)
    assert [row.sequence for row in queue.rows] == [4, 5]
    assert wire.sent == [1, 2, 3, 4, 5, 4, 5]


def test_a_broker_that_answers_nothing_is_not_fed_for_ever_and_is_given_up() -> None:
    calls: list[float] = []
    now = 0.0
    publisher, _, wire = make(100, hang_up=lambda: calls.append(now))
    publisher.on(connected(), 0)
    for second in range(300):
        now = float(second)
        publisher.pump(now)
        if len(calls) == 1 and now == calls[0]:
            publisher.on(Disconnected(""), now)
            publisher.on(connected(), now)
    assert len(wire.sent) == 2 * WINDOW
    assert len(calls) == 2
    assert 30 < calls[0] < 40


def test_a_new_connection_begins_at_the_last_acknowledgement() -> None:
    publisher, _, wire = make(30)
    publisher.on(connected(), 0)
    publisher.pump(0)
    publisher.on(ack(4), 0)
    publisher.on(Disconnected(""), 1)
    publisher.pump(1)
    publisher.on(connected(), 2)
    publisher.pump(2)
    assert wire.sent[WINDOW:] == list(range(5, 5 + WINDOW))


def test_without_a_recorder_a_puback_of_it_and_all_before_it_forgets() -> None:
    publisher, queue, _ = make(3, by_broker=True)
    publisher.on(connected(), 0)
    publisher.pump(0)
    publisher.on(puback(2), 0)
    assert len(queue.rows) == 3
    publisher.on(puback(1), 0)
    assert [row.sequence for row in queue.rows] == [3]
    publisher.pump(100)
    assert len(queue.rows) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_whatever_the_broker_does_everything_arrives(seed: int) -> None:
    """A broker that loses messages, says so or not, and hangs up; a recorder that acks what it has."""
    chance = random.Random(seed)
    publisher, queue, wire = make(60, hang_up=lambda: setattr(wire, "up", False))
    there: set[int] = set()
    done, now = 0, 0.0
    for step in range(6000):
        now += 0.2
        well = step > 1500
        if publisher.connected and (not wire.up or (not well and chance.random() < 0.03)):
            wire.up = False
            publisher.on(Disconnected(""), now)
        elif not publisher.connected:
            wire.up = True
            publisher.on(connected(), now)
        publisher.pump(now)
        for number in range(done + 1, len(wire.sent) + 1):
            fate = "good" if well else chance.choice(["good", "good", "lost", "refused", "nobody", "silence"])
            if fate == "good":
                there.add(wire.sent[number - 1])
            if fate != "silence":
                publisher.on(puback(number, ok=fate != "refused", nobody=fate == "nobody"), now)
        done = len(wire.sent)
        whole = next(number for number in range(62) if number + 1 not in there)
        if chance.random() < 0.5:
            publisher.on(ack(whole), now)
        if not queue.rows:
            break
    assert queue.rows == []
    assert there == set(range(1, 61))


class AgainstAnyWire(RuleBasedStateMachine):
    """A real outbox, a recorder that takes what arrives, and between them a wire that does what it likes.

    It loses, repeats and delays messages and answers, answers wrongly, hangs up, and brings
    acknowledgements late, twice, and of other streams.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self.connection, self.sent, self.up = 0.0, 0, 0, False
        self.outbox = Outbox(":memory:", source=SOURCE, limits=Limits(10**9, 30), steady=lambda: self.now)
        self.publisher = Publisher(
            self.outbox,
            self,
            topics=TOPICS,
            ack_timeout_s=10,
            by_broker=False,
            rng=random.Random(1),
            hang_up=self.hangs_up,
        )
        self.recorded: dict[str, None] = {}
        self.unanswered: dict[Token, bytes] = {}
        self.under_way: list[bytes] = []
        self.recorder: dict[str, set[int]] = {}
        self.seen: list[str] = []
        self.acks: list[Received] = []

    def publish(self, publication: Publication) -> Token | None:
        """The wire."""
        if not self.up:
            return None
        self.sent += 1
        token = self.connection, self.sent
        self.unanswered[token] = publication.payload
        self.under_way.append(publication.payload)
        return token

    @rule(count=st.integers(1, 12))
    def events_come(self, count: int) -> None:
        for event in self.outbox.record([draft() for _ in range(count)], Memory(), NOW):
            self.recorded[event.id] = None

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.publisher.pump(self.now)

    @rule(maximum=st.sampled_from([5, 20, 100]))
    def connects(self, maximum: int) -> None:
        self.hangs_up()
        self.connection, self.up = self.connection + 1, True
        self.publisher.on(connected(maximum), self.now)
        self.publisher.pump(self.now)

    @rule()
    def hangs_up(self) -> None:
        if self.up:
            self.up = False
            self.unanswered.clear()
            self.publisher.on(Disconnected(""), self.now)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data(), fate=st.sampled_from(["ok", "refused", "nobody"]))
    def answers(self, data: st.DataObject, fate: str) -> None:
        token = data.draw(st.sampled_from(sorted(self.unanswered)))
        del self.unanswered[token]
        self.publisher.on(Delivered(token, fate != "refused", fate == "nobody", ""), self.now)
        self.publisher.pump(self.now)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "arrives", "twice", "lost"]))
    def travels(self, data: st.DataObject, fate: str) -> None:
        place = data.draw(st.integers(0, len(self.under_way) - 1))
        payload = self.under_way[place] if fate == "twice" else self.under_way.pop(place)
        if fate != "lost":
            self.takes(payload)

    def takes(self, payload: bytes) -> None:
        event = decode(payload)
        there = self.recorder.setdefault(event.streamid, set())
        there.add(event.sequence)
        if event.id not in self.seen:
            self.seen.append(event.id)
        whole = next(number for number in itertools.count(1) if number not in there) - 1
        self.acks.append(ack(whole, event.streamid))

    @precondition(lambda self: self.acks)
    @rule(data=st.data(), again=st.booleans())
    def an_acknowledgement_comes(self, data: st.DataObject, again: bool) -> None:
        place = data.draw(st.integers(0, len(self.acks) - 1))
        self.publisher.on(self.acks[place] if again else self.acks.pop(place), self.now)
        self.publisher.pump(self.now)

    @rule(upto=st.integers(0, 10**6))
    def an_acknowledgement_of_another_life_comes(self, upto: int) -> None:
        self.publisher.on(ack(upto, "f" * 32), self.now)

    @rule()
    def the_disk_goes_back(self) -> None:
        self.outbox.begin_stream()

    @invariant()
    def nothing_unacknowledged_is_forgotten(self) -> None:
        waiting = {event.id for event in self.outbox.events()}
        assert set(self.recorded) - waiting <= set(self.seen)

    @invariant()
    def no_more_is_out_than_may_be(self) -> None:
        assert len(self.unanswered) <= WINDOW

    def teardown(self) -> None:
        """On a wire that does its work everything arrives."""
        self.connects(100)
        for _ in range(500):
            if not self.outbox.depth:
                break
            self.now += 1.0
            self.publisher.pump(self.now)
            for token in sorted(self.unanswered):
                self.publisher.on(Delivered(token, True, False, ""), self.now)
            self.unanswered.clear()
            while self.under_way:
                self.takes(self.under_way.pop(0))
            for item in self.acks[-1:]:
                self.publisher.on(item, self.now)
        assert self.outbox.depth == 0
        assert set(self.recorded) == set(self.seen)
        self.outbox.close()


TestAgainstAnyWire = AgainstAnyWire.TestCase
TestAgainstAnyWire.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
