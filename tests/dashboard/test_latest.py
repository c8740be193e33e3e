"""What is kept of what a device said last: a will adds to it, a message taken back clears it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dashboard import latest
from dashboard.inbox import Inbox
from dashboard.queries import FleetFilter, Queries
from dashboard.store import Store
from dashboard.tables import DEVICES
from dashboard.web import Hub, build_app
from edge_agent.contracts.messages import Availability, Health, encode
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.health import published
from edge_agent.mqtt import Link, Publication, Subscribed
from tests.brokers import Mosquitto, wait_for
from tests.dashboard.pages import Visitor, health, snapshot
from tests.dashboard.test_recorder import acked, recording, send

TOPICS = DeviceTopics("0417", "cam-12-01")
SOURCE = "/stores/0417/devices/cam-12-01"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
WILL = encode(Health(status=Availability.OFFLINE))
HEALTH = json.dumps(health(update="trial", outbox_depth=7)).encode()
STATE = json.dumps(snapshot()).encode()


def say(store: Store, *said: tuple[str, bytes], minute: int = 0, retained: bool = False) -> None:
    inbox = Inbox(NOW + timedelta(minutes=minute))
    for topic, payload in said:
        inbox.put(topic, payload, retained=retained)
    assert inbox.batch.refusals == []
    with store.writing() as connection:
        store.take(connection, inbox.batch, NOW)


def row(store: Store) -> dict[str, object] | None:
    _, rows = Queries(store.engine).fleet(FleetFilter(), 0, 10)
    return rows[0] if rows else None


def heard(minute: int) -> str:
    return f"2026-11-26T12:{minute:02d}:00.000Z"


@pytest.mark.parametrize("together", [False, True])
def test_a_device_that_is_cut_off_keeps_what_it_said_before(store: Store, *, together: bool) -> None:
    said = [(TOPICS.health, HEALTH), (TOPICS.health, WILL)]
    for part in [said] if together else [said[:1], said[1:]]:
        say(store, *part)
    found = row(store)
    assert found is not None
    assert (found["status"], found["phase"], found["depth"], found["agent"]) == (
        "offline",
        "trial",
        7,
        "0.1.0",
    )
    assert found["seen"] == heard(0)
    page = Visitor(build_app(store, Hub(), lambda: True)).get("/fleet?phase=trial").text
    assert "2026-11-26 12:00" in page
    say(store, (TOPICS.health, WILL), (TOPICS.health, HEALTH), minute=1)
    assert (row(store) or {})["status"] == "online"


def test_a_will_alone_is_kept_and_nobody_was_heard(store: Store) -> None:
    say(store, (TOPICS.health, WILL))
    found = row(store)
    assert found is not None
    assert (found["status"], found["agent"], found["seen"]) == ("offline", None, None)


def test_it_was_heard_when_it_said_something_itself(store: Store) -> None:
    say(store, (TOPICS.state, STATE), minute=1)
    say(store, (TOPICS.state, STATE), (TOPICS.health, HEALTH), minute=2, retained=True)
    say(store, (TOPICS.health, WILL), minute=3)
    assert (row(store) or {})["seen"] == heard(1)
    say(store, (TOPICS.health, HEALTH), minute=4)
    assert (row(store) or {})["seen"] == heard(4)
    answer = Visitor(build_app(store, Hub(), lambda: True)).get("/api/v1/devices").json()
    assert answer["devices"][0]["heard"] == heard(4)


def test_what_is_taken_back_is_gone(store: Store) -> None:
    say(store, (TOPICS.state, STATE), (TOPICS.health, HEALTH))
    say(store, (TOPICS.state, b""))
    assert Queries(store.engine).latest("0417")[0][1] is None
    say(store, (TOPICS.health, b""))
    assert row(store) is None
    say(store, (TOPICS.health, HEALTH), (TOPICS.health, b""))
    assert row(store) is None
    assert store.quarantined(9) == []


def test_who_is_forgotten_comes_back_with_a_word_of_its_own(store: Store) -> None:
    say(store, (TOPICS.state, STATE), (TOPICS.health, HEALTH))
    with store.writing() as connection:
        assert latest.forget(connection, SOURCE, NOW)
        assert not latest.forget(connection, SOURCE, NOW)
    say(store, (TOPICS.state, STATE), (TOPICS.health, HEALTH), retained=True)
    say(store, (TOPICS.health, WILL))
    assert row(store) is None
    say(store, (TOPICS.health, HEALTH))
    say(store, (TOPICS.state, STATE), retained=True)
    assert Queries(store.engine).device("0417", "cam-12-01") != (None, None, None)
    assert Queries(store.engine).latest("0417")[0][1] is not None


@pytest.mark.broker
def test_a_will_and_what_is_retained_over_a_real_broker(mosquitto: Mosquitto, store: Store) -> None:
    will = published(TOPICS, Health(status=Availability.OFFLINE))
    with recording(mosquitto, store):
        with Link(mosquitto.address, client_id="cam-12-01", subscriptions=(TOPICS.ack,), will=will) as device:
            wait_for(device, lambda notice: isinstance(notice, Subscribed))
            device.publish(Publication(TOPICS.health, HEALTH, retain=True))
            send(device, 1)
            acked(device, 1)
            assert (row(store) or {})["status"] == "online"
            device.hang_up()
            wait_for(device, lambda notice: isinstance(notice, Subscribed))
            send(device, 2)
            acked(device, 2)
        found = row(store)
    assert found is not None
    assert (found["status"], found["agent"]) == ("offline", "0.1.0")
    with store.writing() as connection:
        assert latest.forget(connection, SOURCE, NOW)
    # The broker sends what it has kept anew, before anything else.
    with (
        recording(mosquitto, store),
        Link(mosquitto.address, client_id="x", subscriptions=(TOPICS.ack,)) as x,
    ):
        wait_for(x, lambda notice: isinstance(notice, Subscribed))
        send(x, 3)
        acked(x, 3)
    with store.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(DEVICES)).scalar() == 0
