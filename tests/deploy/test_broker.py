"""The store's broker, as written, under a real mosquitto with real certificates."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.broker import OPERATORS, BrokerPlan, access_list, configuration
from edge_agent.contracts import config
from edge_agent.contracts.address import Address
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Connected, Delivered, Link, Publication, Received, Subscribed
from tests.brokers import free_port, received, wait_for
from tests.conftest import Kit, find_program

OWN = DeviceTopics("0417", "cam-12-01")


class Authority:
    """A certificate authority of a test, and everything it signs, as files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self._write("ca", self._sign(self._name, self._key.public_key(), ca=True), self._key)

    def issue(self, name: str) -> config.Tls:
        """Sign a certificate for a name, and return where it lies."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write(name, self._sign(subject, key.public_key(), ca=False), key)
        return config.Tls(
            ca=self.folder / "ca.pem",
            certificate=self.folder / f"{name}.pem",
            key=self.folder / f"{name}.key",
        )

    def _sign(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.folder / f"{name}.key").write_bytes(secret)


@pytest.fixture
def store_broker(tmp_path: Path, kit: Kit) -> Iterator[tuple[int, Authority]]:
    """A store's broker from the public command line, running."""
    port, folder = free_port(), tmp_path / "broker"
    options = ("--store", "0417", "--consumer", "stock-alerts", "--home-assistant", "home")
    more = ("--operator", "anna", "--port", port)
    kit("deploy", "broker", "--out", folder, *options, *more)
    authority = Authority(folder)
    authority.issue("broker")
    with (folder / "mosquitto.conf").open("a") as file:
        # The test may run as root, whose mosquitto becomes another user.
        file.write("user root\n")
    with (tmp_path / "log").open("wb") as log:
        command = [find_program("mosquitto"), "-c", str(folder / "mosquitto.conf")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        yield port, authority
        process.terminate()
        process.wait()


def link(broker: tuple[int, Authority], name: str, *subscriptions: str) -> Link:
    port, authority = broker
    address = Address("localhost", port, authority.issue(name), encrypted=True)
    return Link(address, client_id=name, subscriptions=subscriptions)


def may_write(writer: Link, topic: str) -> bool:
    """Return whether the broker took a publication.

    After a refusal mosquitto 2.0.11 hangs up on TLS clients; a publication may meet its end.
    """
    for _ in range(5):
        while (token := writer.publish(Publication(topic, b"{}"))) is None:
            time.sleep(0.05)
        with contextlib.suppress(AssertionError):
            answer = wait_for(
                writer,
                lambda notice, token=token: isinstance(notice, Delivered) and notice.token == token,
                2,
            )
            assert isinstance(answer, Delivered)
            return answer.ok
    message = f"no answer to {topic}"
    raise AssertionError(message)


@pytest.mark.slow
@pytest.mark.broker
def test_everybody_may_do_what_the_contract_says_and_nothing_else(
    store_broker: tuple[int, Authority],
) -> None:
    other, elsewhere = DeviceTopics("0417", "cam-12-02"), DeviceTopics("0999", "cam-12-01")
    allowed = {
        "cam-12-01": [
            *(OWN.event("restocked"), OWN.state, OWN.health, OWN.reply("ping"), OWN.reported),
            OWN.certificate_request,
        ],
        "svc-recorder": [OWN.ack, other.ack, elsewhere.ack],
        **{name: [OWN.command("ping"), OWN.desired] for name in (*OPERATORS, "anna")},
        "svc-alerts": [OWN.alert("low-stock"), elsewhere.alert("low-stock")],
        "svc-ca": [OWN.certificate_response, other.certificate_response],
        "stock-alerts": list[str](),
        "home": ["homeassistant/status"],
    }
    every = sorted(
        {topic for topics in allowed.values() for topic in topics} | {other.state, elsewhere.state}
    )
    for name, topics in allowed.items():
        with link(store_broker, name) as writer:
            wait_for(writer, lambda notice: isinstance(notice, Connected))
            assert [topic for topic in every if may_write(writer, topic)] == sorted(topics), name


@pytest.mark.broker
def test_a_consumer_hears_events_and_a_device_does_not_hear_others(
    store_broker: tuple[int, Authority],
) -> None:
    everything = DeviceTopics("+", "+").event("#")
    with (
        link(store_broker, "stock-alerts", everything) as consumer,
        link(store_broker, "cam-12-02", everything, OWN.ack) as spy,
        link(store_broker, "cam-12-01") as device,
    ):
        for one in (consumer, spy):
            wait_for(one, lambda notice: isinstance(notice, Subscribed))
        wait_for(device, lambda notice: isinstance(notice, Connected))
        device.publish(Publication(OWN.event("restocked"), b"heard"))
        assert received(consumer, 1)
        with pytest.raises(AssertionError):
            wait_for(spy, lambda notice: isinstance(notice, Received), 1)


@pytest.mark.broker
def test_the_recorder_comes_in_with_its_certificate(
    store_broker: tuple[int, Authority], tmp_path: Path
) -> None:
    port, authority = store_broker
    own = authority.issue("svc-recorder")
    files = ("--ca", own.ca, "--certificate", own.certificate, "--key", own.key)
    address = ("--broker", f"mqtts://localhost:{port}", "--database", f"sqlite:///{tmp_path / 'd.sqlite'}")
    command = [sys.executable, "-m", "dashboard", *map(str, (*address, *files)), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    page = process.stdout.readline().strip()
    try:
        end = time.monotonic() + 15
        while not httpx.get(f"{page}/healthz").json()["broker"]:
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.mark.broker
def test_nobody_comes_in_without_a_certificate(store_broker: tuple[int, Authority]) -> None:
    port, authority = store_broker
    stranger = Authority(authority.folder.parent)
    own = stranger.issue("cam-12-01")
    foreign = config.Tls(ca=authority.folder / "ca.pem", certificate=own.certificate, key=own.key)
    with (
        Link(Address("localhost", port, foreign, encrypted=True), client_id="cam-12-01") as intruder,
        pytest.raises(AssertionError),
    ):
        wait_for(intruder, lambda notice: isinstance(notice, Connected), 3)


def test_nothing_is_dropped_silently_and_loopback_is_loopback(tmp_path: Path) -> None:
    text = configuration(BrokerPlan(store="", port=1883, loopback=True), tmp_path)
    assert "listener 1883 127.0.0.1\n" in text
    assert "max_queued_messages 0\n" in text
    store = configuration(BrokerPlan(store="0417", port=8883), tmp_path)
    assert "allow_anonymous false\n" in store
    assert "require_certificate true\n" in store


def test_the_store_of_a_device_is_literal() -> None:
    lines = access_list(BrokerPlan(store="0417", port=8883)).splitlines()
    devices = [line for line in lines if line.startswith("pattern") and "shelfkit" in line]
    assert devices
    assert all("shelfkit/v1/0417/%u/" in line for line in devices)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--store"),
        (["--store", "a/b"], 2, "letters"),
        (["--store", "0417", "--consumer", "#"], 2, "letters"),
        (["--store", "0417", "--out", "full"], 4, "not empty"),
        (["--store", "0417", "--out", "/proc/x"], 4, "can be written"),
    ],
)
def test_what_no_configuration_can_be_written_for(
    tmp_path: Path, kit: Kit, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    out = () if "--out" in arguments else ("--out", "new")
    assert said in kit("deploy", "broker", *arguments, *out, code=code, cwd=tmp_path).stderr
    assert not (tmp_path / "new").exists()
