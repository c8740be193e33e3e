"""The client for programs of one's own, against a real broker: nothing lost, nothing done comes twice."""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import dashboard.client
from dashboard.client import Kind, ServiceError, subscribe
from dashboard.client._position import Position
from edge_agent.contracts.errors import ConfigError, DataError, UsageError
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Delivered, Publication
from tests.brokers import Mosquitto, subscribed, wait_for
from tests.conftest import find_program

GOLDEN = Path(__file__).parents[1] / "golden"
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "consume-events.md"
SOON_S = 20


def publication(
    number: int, kind: Kind = Kind.LOW_STOCK, store: str = "0417", device: str = "cam-12-01"
) -> Publication:
    value = json.loads((GOLDEN / f"event-{kind.value}.v1.json").read_bytes())
    value |= {
        "id": f"event-{number}",
        "sequence": f"{number:016d}",
        "source": f"/stores/{store}/devices/{device}",
    }
    return Publication(DeviceTopics(store, device).event(kind.value), json.dumps(value).encode())


def send(broker: Mosquitto, *publications: Publication) -> None:
    """Publish, and wait until the broker has all of them."""
    with subscribed(broker.address, client_id=f"device-{random.getrandbits(32)}") as link:
        for item in publications:
            token = link.publish(item)
            assert token is not None
            wait_for(
                link, lambda notice, token=token: isinstance(notice, Delivered) and notice.token == token
            )


async def take(broker: Mosquitto, position: Path, count: int, **chosen: Any) -> list[str]:  # noqa: ANN401 - any filter
    """Take so many events and leave cleanly."""
    found: list[str] = []
    async with asyncio.timeout(SOON_S), subscribe(broker.url, position=position, **chosen) as events:
        async for event in events:
            found.append(event.id)
            if len(found) == count:
                break
    return found


async def meet(broker: Mosquitto, position: Path, **chosen: Any) -> None:  # noqa: ANN401 - any filter
    """Let the broker open the consumer's session."""
    async with subscribe(broker.url, position=position, **chosen) as events:
        waiting = asyncio.ensure_future(anext(aiter(events)))
        while not events._opened or not events._opened._welcome:  # noqa: ASYNC110 - nothing else to wait for
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def names(first: int, last: int) -> list[str]:
    return [f"event-{number}" for number in range(first, last + 1)]


def test_what_is_public() -> None:
    assert all(hasattr(dashboard.client, name) for name in dashboard.client.__all__)
    public = {name for name in vars(dashboard.client) if not name.startswith("_")}
    assert public == set(dashboard.client.__all__)


def test_it_needs_none_of_the_dashboards_own_libraries() -> None:
    heavy = ["sqlalchemy", "starlette", "uvicorn", "alembic", "jinja2", "psycopg"]
    code = f"import sys, dashboard.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_consumer_goes_on_where_it_was(mosquitto: Mosquitto, tmp_path: Path) -> None:
    position = tmp_path / "position"
    asyncio.run(meet(mosquitto, position))
    send(mosquitto, *(publication(number) for number in range(1, 7)))
    assert asyncio.run(take(mosquitto, position, 3)) == names(1, 3)
    send(mosquitto, publication(7))
    assert asyncio.run(take(mosquitto, position, 4)) == names(4, 7)


def test_an_event_whose_body_failed_comes_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    position = tmp_path / "position"

    async def fail() -> None:
        async with subscribe(mosquitto.url, position=position) as events:
            async for event in events:
                assert event.id == "event-1"
                raise LookupError

    asyncio.run(meet(mosquitto, position))
    send(mosquitto, publication(1), publication(2))
    with pytest.raises(LookupError):
        asyncio.run(fail())
    assert asyncio.run(take(mosquitto, position, 2)) == names(1, 2)


def test_an_event_that_a_device_sends_again_comes_once(mosquitto: Mosquitto, tmp_path: Path) -> None:
    position = tmp_path / "position"
    asyncio.run(meet(mosquitto, position))
    send(mosquitto, publication(1), publication(1), publication(2))
    assert asyncio.run(take(mosquitto, position, 2)) == names(1, 2)
    send(mosquitto, publication(2), publication(3))
    assert asyncio.run(take(mosquitto, position, 1)) == ["event-3"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"kinds": ["restocked"]}, ["event-2"]),
        ({"stores": ["9"]}, ["event-3"]),
        ({"devices": ["cam-2"], "kinds": [Kind.LOW_STOCK, Kind.OUT_OF_STOCK]}, ["event-4"]),
        ({"products": ["milk-1l"], "stores": ["9", "0417"], "devices": ["cam-12-01"]}, names(1, 3)),
        ({"products": ["09506000134352"], "devices": ["cam-2"]}, ["event-4"]),
    ],
)
def test_filters(mosquitto: Mosquitto, tmp_path: Path, chosen: dict[str, Any], expected: list[str]) -> None:
    position = tmp_path / "position"
    asyncio.run(meet(mosquitto, position, **chosen))
    send(
        mosquitto,
        publication(1),
        publication(2, Kind.RESTOCKED),
        publication(3, store="9"),
        publication(4, device="cam-2"),
        publication(5, Kind.DEVICE_STARTED),
    )
    assert asyncio.run(take(mosquitto, position, len(expected), **chosen)) == expected


def test_a_narrower_filter_holds_for_what_the_session_has_already(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    position = tmp_path / "position"
    asyncio.run(meet(mosquitto, position))
    send(mosquitto, publication(1), publication(2, Kind.RESTOCKED))
    assert asyncio.run(take(mosquitto, position, 1, kinds=["restocked"])) == ["event-2"]


def test_what_is_no_event_is_passed_over(mosquitto: Mosquitto, tmp_path: Path) -> None:
    position = tmp_path / "position"
    topic = DeviceTopics("0417", "cam-12-01").event("low-stock")
    foreign = Publication(topic, publication(1, device="another").payload)
    asyncio.run(meet(mosquitto, position))
    send(
        mosquitto, Publication(topic, b"\xff{"), Publication(topic, b'{"type": "x"}'), foreign, publication(2)
    )
    assert asyncio.run(take(mosquitto, position, 1)) == ["event-2"]


def test_the_broker_goes_away_and_comes_back(tmp_path: Path) -> None:
    broker = Mosquitto(find_program("mosquitto"), tmp_path / "broker")

    async def through() -> list[str]:
        found: list[str] = []
        async with asyncio.timeout(SOON_S), subscribe(broker.url, position=tmp_path / "position") as events:
            stream = aiter(events)
            for number in (1, 2):
                following = asyncio.ensure_future(anext(stream))
                while not following.done():
                    # The session went with the broker: only what comes after it is back can arrive.
                    await asyncio.to_thread(send, broker, publication(number))
                    await asyncio.sleep(0.2)
                found.append(following.result().id)
                if number == 1:
                    await asyncio.to_thread(broker.kill)
                    await asyncio.to_thread(broker.start)
        return found

    with broker:
        assert asyncio.run(through()) == names(1, 2)


def test_cancelled_while_it_waits_it_is_gone_at_once(mosquitto: Mosquitto, tmp_path: Path) -> None:
    position = tmp_path / "position"

    async def wait() -> None:
        async for _event in subscribe(mosquitto.url, position=position):
            pytest.fail("nobody sent anything")

    async def cancelled() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        Position(position, 1).close()  # the file is free again

    asyncio.run(cancelled())


def test_a_broker_that_refuses_is_an_error(tmp_path: Path) -> None:
    lines = ("listener PORT 127.0.0.1", "allow_anonymous false")
    with (
        Mosquitto(find_program("mosquitto"), tmp_path / "broker", lines=lines) as broker,
        pytest.raises(ServiceError, match="lets this consumer in"),
    ):
        asyncio.run(take(broker, tmp_path / "position", 1))


def test_what_cannot_be_a_subscription() -> None:
    for wrong in (
        {"kinds": ["sold-out"]},
        {"stores": ["a/b"]},
        {"devices": ["+"]},
        {"memory": 0},
        {"tls": dashboard.client.Tls(ca=Path("a"), certificate=Path("b"), key=Path("c"))},
    ):
        with pytest.raises(UsageError):
            subscribe("mqtt://127.0.0.1", position="position", **wrong)


def certificates(folder: Path) -> None:
    """Write a CA, and what it signed for the broker and for a consumer."""
    now, root = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())

    def write(name: str, key: ec.EllipticCurvePrivateKey) -> None:
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
            )
            .sign(root, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(*plain))

    write("ca", root)
    for name in ("broker", "svc-alerts"):
        write(name, ec.generate_private_key(ec.SECP256R1()))


def test_a_consumer_comes_in_with_its_certificate(tmp_path: Path) -> None:
    certificates(tmp_path)
    lines = (
        "listener PORT 127.0.0.1",
        f"cafile {tmp_path}/ca.pem",
        f"certfile {tmp_path}/broker.pem",
        f"keyfile {tmp_path}/broker.key",
        "require_certificate true",
        "use_identity_as_username true",
    )
    own, key = tmp_path / "svc-alerts.pem", tmp_path / "svc-alerts.key"
    tls = dashboard.client.Tls(ca=tmp_path / "ca.pem", certificate=own, key=key)
    with Mosquitto(find_program("mosquitto"), tmp_path / "mosquitto", lines=lines) as broker:
        broker.url = broker.url.replace("mqtt://", "mqtts://")
        broker.address = replace(broker.address, tls=tls, encrypted=True)
        position = tmp_path / "position"
        asyncio.run(meet(broker, position, tls=tls))
        send(broker, publication(1))
        assert asyncio.run(take(broker, position, 1, tls=tls)) == ["event-1"]


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    tls = dashboard.client.Tls(ca=tmp_path / "a", certificate=tmp_path / "b", key=tmp_path / "c")

    async def begin() -> None:
        async with subscribe("mqtts://127.0.0.1:1", position=tmp_path / "position", tls=tls):
            pytest.fail("without certificates")

    with pytest.raises(ConfigError):
        asyncio.run(begin())
    Position(tmp_path / "position", 1).close()


def test_a_position_remembers_so_much_and_belongs_to_one(tmp_path: Path) -> None:
    position = Position(tmp_path / "position", 3)
    for number in range(1, 6):
        position.add("s", str(number))
    assert [number for number in range(1, 6) if position.has("s", str(number))] == [3, 4, 5]
    with pytest.raises(DataError, match="one consumer alone"):
        Position(tmp_path / "position", 3)
    name = position.client_id
    position.close()
    again = Position(tmp_path / "position", 3)
    assert again.client_id == name
    again.close()
    (tmp_path / "other").write_text("no database, and long enough to be looked at" * 20)
    with pytest.raises(DataError):
        Position(tmp_path / "other", 3)


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def test_the_example_is_short() -> None:
    assert 5 < len([line for line in example().splitlines() if line.strip()]) < 30


@contextmanager
def consumer(folder: Path, url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the guide's example in a process of its own; it ends as if the power went."""
    program = folder / "alert.py"
    program.write_text(example())
    environment = os.environ | {"BROKER": url, "PYTHONPATH": str(Path(dashboard.__file__).parents[1])}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, str(program)], cwd=folder, env=environment, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def told(folder: Path) -> list[str]:
    path = folder / "alerts.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(folder: Path, count: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + SOON_S
    while len(set(told(folder))) < count:
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.005)


def test_the_guides_consumer_killed_again_and_again_misses_nothing(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with consumer(tmp_path, mosquitto.url) as process:
        number = 0
        while not told(tmp_path):
            assert process.poll() is None, (tmp_path / "log").read_text()
            number += 1
            send(mosquitto, publication(number))
    first = int(told(tmp_path)[0].removeprefix("event-"))
    last = number + 150
    send(mosquitto, *(publication(each) for each in range(number + 1, last + 1)))
    total = last - first + 1
    for part in (total // 3, 2 * total // 3, total):
        with consumer(tmp_path, mosquitto.url) as process:
            wait_until(tmp_path, part, process)
    assert sorted(set(told(tmp_path))) == sorted(names(first, last))
    # At most the one in hand comes again after each of four kills.
    assert len(told(tmp_path)) <= total + 4
