"""The link against real brokers: mosquitto, and one that knows no version 5."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.contracts import config
from edge_agent.contracts.address import Address, address_from_url
from edge_agent.contracts.errors import ConfigError, UsageError
from edge_agent.mqtt import (
    Connected,
    Delivered,
    Disconnected,
    Link,
    Publication,
    Received,
    Refused,
)
from tests.brokers import Mosquitto, free_port, received, subscribed, wait_for
from tests.conftest import find_program

pytestmark = pytest.mark.broker


def linked(link: Link) -> Connected:
    notice = wait_for(link, lambda item: isinstance(item, Connected), 20)
    assert isinstance(notice, Connected)
    return notice


def test_a_message_goes_there_and_its_answer_comes_back(mosquitto: Mosquitto) -> None:
    with subscribed(mosquitto.address, "a/#") as listener, Link(mosquitto.address, client_id="x") as link:
        assert linked(link).version == "5"
        token = link.publish(Publication("a/b", b"hello"))
        answer = wait_for(link, lambda item: isinstance(item, Delivered))
        assert isinstance(answer, Delivered)
        assert (answer.token, answer.ok, answer.no_subscribers) == (token, True, False)
        assert received(listener, 1)[0].payload == b"hello"


def test_that_nobody_listens_is_heard(mosquitto: Mosquitto) -> None:
    with Link(mosquitto.address, client_id="x") as link:
        linked(link)
        link.publish(Publication("nobody/here", b""))
        answer = wait_for(link, lambda item: isinstance(item, Delivered))
        assert isinstance(answer, Delivered)
        assert answer.no_subscribers


def test_nothing_is_queued_while_there_is_no_connection() -> None:
    with Link(Address("127.0.0.1", free_port()), client_id="x") as link:
        assert link.publish(Publication("a", b"")) is None
        wait_for(link, lambda item: isinstance(item, Disconnected))


def test_the_will_speaks_for_the_dead_and_not_for_those_who_left(mosquitto: Mosquitto) -> None:
    will = Publication("health", b"offline", retain=True)
    with Link(mosquitto.address, client_id="x", will=will) as link:
        linked(link)
        link.close(Publication("health", b"stopped", retain=True))
    with subscribed(mosquitto.address, "health") as listener:
        pass
    with Link(mosquitto.address, client_id="y", subscriptions=("health",)) as listener:
        assert received(listener, 1)[0].payload == b"stopped"
        script = (
            "import os, sys, time\nfrom edge_agent.mqtt import *\n"
            "link = Link(Address('127.0.0.1', int(sys.argv[1])), client_id='x',"
            " will=Publication('health', b'offline', retain=True))\n"
            "link.__enter__()\n"
            "assert isinstance(link.notices.get(timeout=10), Connected)\nos.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", script, str(mosquitto.port)], check=False)
        assert received(listener, 1)[0].payload == b"offline"


def test_an_error_is_a_death_and_no_goodbye(mosquitto: Mosquitto) -> None:
    with Link(mosquitto.address, client_id="y", subscriptions=("health",)) as listener:
        linked(listener)
        time.sleep(0.1)
        with (
            contextlib.suppress(ZeroDivisionError),
            Link(mosquitto.address, client_id="x", will=Publication("health", b"offline")) as link,
        ):
            linked(link)
            raise ZeroDivisionError
        assert received(listener, 1)[0].payload == b"offline"


def test_certificates_that_are_not_there_are_told_at_once(tmp_path: Path) -> None:
    nowhere = config.Tls(ca=tmp_path / "a", certificate=tmp_path / "b", key=tmp_path / "c")
    with (
        pytest.raises(ConfigError, match="certificates"),
        Link(Address("localhost", 1, nowhere, encrypted=True), client_id="x"),
    ):
        pass


def test_it_comes_back_after_the_broker_did(mosquitto: Mosquitto) -> None:
    with Link(mosquitto.address, client_id="x") as link:
        linked(link)
        mosquitto.kill()
        wait_for(link, lambda item: isinstance(item, Disconnected))
        mosquitto.start()
        linked(link)
        assert link.publish(Publication("a", b"")) is not None


def test_what_was_not_acknowledged_comes_again(mosquitto: Mosquitto) -> None:
    def recorder() -> Link:
        return Link(
            mosquitto.address, client_id="r", subscriptions=("e/#",), session_expiry_s=60, manual_ack=True
        )

    with recorder() as first, Link(mosquitto.address, client_id="x") as link:
        linked(first)
        linked(link)
        time.sleep(0.2)
        for number in range(3):
            link.publish(Publication("e/x", str(number).encode()))
        messages = received(first, 3)
        first.acknowledge(messages[0].handle)
        time.sleep(0.2)
    with recorder() as second:
        assert [item.payload for item in received(second, 2)] == [b"1", b"2"]


def test_a_broker_that_does_not_let_us_in_is_heard(tmp_path: Path) -> None:
    lines = ("listener PORT 127.0.0.1", "allow_anonymous false")
    with (
        Mosquitto(find_program("mosquitto"), tmp_path, lines=lines) as broker,
        Link(broker.address, client_id="x") as link,
    ):
        notice = wait_for(link, lambda item: isinstance(item, Refused))
        assert isinstance(notice, Refused)
        assert "authori" in notice.reason.lower()


@pytest.fixture
def old_broker() -> Iterator[Address]:
    """A broker that knows MQTT 3.1.1 alone."""
    address = Address("127.0.0.1", free_port())
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.demo.embedded_broker", str(address.port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield address
    process.terminate()
    process.wait()


def test_a_broker_without_version_5_is_spoken_to_in_3_1_1(old_broker: Address) -> None:
    with (
        Link(old_broker, client_id="listener", subscriptions=("a/#",)) as listener,
        Link(old_broker, client_id="x", will=Publication("h", b"", retain=True)) as link,
    ):
        assert linked(listener).version == linked(link).version == "3.1.1"
        time.sleep(0.3)
        link.publish(Publication("a/b", b"hello", content_type="text/plain", expiry_s=60))
        message = received(listener, 1)[0]
        assert isinstance(message, Received)
        assert message.payload == b"hello"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://shop", Address("shop", 1883)),
        ("mqtt://127.0.0.1:1", Address("127.0.0.1", 1)),
        ("mqtts://a%40b:p%3Aw@shop", Address("shop", 8883, None, True, "a@b", "p:w")),
    ],
)
def test_a_url_names_a_broker(url: str, expected: Address) -> None:
    assert address_from_url(url) == expected


@pytest.mark.parametrize("url", ["", "shop", "http://shop", "mqtt://", "mqtt://shop:x", "mqtt://shop/topic"])
def test_what_names_no_broker(url: str) -> None:
    with pytest.raises(UsageError, match="mqtt://host:port"):
        address_from_url(url)
