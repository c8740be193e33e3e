"""Who comes in at the broker of a fleet, and who does not: real certificates, a real mosquitto."""

import contextlib
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509

from deploy import authority as authorities
from deploy import inventory, pki, service
from deploy.beginning import begin
from deploy.broker import BrokerPlan, update_broker, write_broker
from deploy.fleet import Device, Fleet
from deploy.keys import key_pem
from deploy.pki import Authority, Kind
from edge_agent.contracts import config, messages
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.messages import Availability, Health
from edge_agent.contracts.times import rfc3339
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Publication, Received, Subscribed
from edge_agent.renewal import HELD
from tests.brokers import free_port, subscribed, wait_for
from tests.conftest import Kit, find_program, write_device
from tests.edge_agent.agents import Running

NOW = datetime.now(UTC)
AGO = NOW - timedelta(days=300)
"""When the fleet began: what was given for a year then is due by now."""
OWN = DeviceTopics("0417", "cam-12-01")


@dataclass
class Shop:
    """A fleet, and the broker of its store."""

    fleet: Fleet
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def authority(self) -> Authority:
        return authorities.opened(self.fleet)

    def add(self, name: str, *, now: datetime = AGO, days: int = 365) -> config.Tls:
        """Add a device without the files that it is flashed with."""
        folder = self.fleet.device_folder(name)
        authorities.give(self.fleet, self.authority, folder, name, kind=Kind.DEVICE, now=now, days=days)
        self.fleet.keep(Device(device=name, store="0417", shelf="12", added=now))
        return self.device(name)

    def device(self, name: str) -> config.Tls:
        folder = self.fleet.device_folder(name)
        return self._tls(folder / "device.pem", folder / "device.key")

    def service(self, name: str) -> config.Tls:
        folder = self.fleet.service(name)
        return self._tls(folder / f"{name}.pem", folder / f"{name}.key")

    def _tls(self, certificate: Path, key: Path) -> config.Tls:
        return config.Tls(ca=self.fleet.ca_certificate, certificate=certificate, key=key)

    def address(self, tls: config.Tls) -> Address:
        return Address("localhost", self.port, tls, encrypted=True)

    def lets_in(self, name: str, tls: config.Tls | None) -> bool:
        context = ssl.create_default_context(cafile=str(self.fleet.ca_certificate))
        if tls is not None:
            context.load_cert_chain(str(tls.certificate), str(tls.key))
        return self.greets(name, context)

    def greets(self, name: str, context: ssl.SSLContext) -> bool:
        """Say CONNECT, and return whether it was granted."""
        words = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2) + name.encode()
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), 10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secret,
            ):
                secret.sendall(b"\x10" + bytes([len(words)]) + words)
                return secret.recv(4) == b"\x20\x02\x00\x00"
        except (ssl.SSLError, ConnectionError):
            return False

    def start(self) -> None:
        with (self.folder.parent / "mosquitto.log").open("ab") as log:
            command = [find_program("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        pytest.fail((self.folder.parent / "mosquitto.log").read_text())

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    find_program("mosquitto")
    fleet = begin(tmp_path / "fleet", "test", AGO)
    service.add(fleet, authorities.opened(fleet), "stock-alerts", AGO)
    port, folder = free_port(), tmp_path / "broker"
    write_broker(folder, BrokerPlan(store="0417", port=port, consumers=("stock-alerts",)), fleet)
    with (folder / "mosquitto.conf").open("a") as file:
        # The test may run as root, whose mosquitto becomes another user.
        file.write("user root\n")
    with Shop(fleet, folder, port) as made:
        yield made


def foreign(shop: Shop, folder: Path, name: str) -> config.Tls:
    """A certificate for a name of ours, of an authority that calls itself like ours."""
    stranger, key = pki.new_authority("test", AGO), pki.new_key()
    made = pki.issue(stranger, key.public_key(), name, kind=Kind.DEVICE, now=AGO)
    (folder / "foreign.pem").write_bytes(pki.pem(made))
    (folder / "foreign.key").write_bytes(key_pem(key))
    return config.Tls(
        ca=shop.fleet.ca_certificate, certificate=folder / "foreign.pem", key=folder / "foreign.key"
    )


@pytest.mark.broker
def test_who_comes_in_and_who_does_not(shop: Shop, tmp_path: Path) -> None:
    for name in ("svc-recorder", "svc-operator", "svc-ca", "stock-alerts"):
        assert shop.lets_in(name, shop.service(name)), name
    good = shop.add("cam-12-01")
    assert shop.lets_in("cam-12-01", good)
    assert not shop.lets_in("cam-12-01", None), "anonymous"
    assert not shop.lets_in("cam-12-01", shop.add("cam-12-02", days=30)), "expired"
    assert not shop.lets_in("cam-12-01", shop.add("cam-12-03", now=NOW + timedelta(days=3))), "not yet"
    assert not shop.lets_in("cam-12-01", foreign(shop, tmp_path, "cam-12-01")), "of another authority"
    assert not shop.lets_in("broker", shop.service("broker")), "a server's certificate"
    with socket.create_connection(("127.0.0.1", shop.port), 10) as plain:
        plain.sendall(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03cam")
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(4) != b"\x20\x02\x00\x00", "without TLS"


@pytest.mark.broker
def test_nothing_older_than_tls_1_2_is_spoken(shop: Shop) -> None:
    good = shop.add("cam-12-01")
    for version, spoken in (
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ):
        context = ssl.create_default_context(cafile=str(good.ca))
        context.load_cert_chain(str(good.certificate), str(good.key))
        # So that it is the broker who refuses, and not this side.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        assert shop.greets("cam-12-01", context) is spoken, version


@pytest.mark.broker
def test_who_was_revoked_is_out_when_the_broker_starts_again_and_a_new_key_comes_in(shop: Shop) -> None:
    shop.add("cam-12-01")
    shop.add("cam-12-02")
    folder = shop.fleet.device_folder("cam-12-01")
    for name in ("device.pem", "device.key"):
        (folder / f"stolen-{name}").write_bytes((folder / name).read_bytes())
    stolen = config.Tls(
        ca=shop.fleet.ca_certificate,
        certificate=folder / "stolen-device.pem",
        key=folder / "stolen-device.key",
    )
    inventory.revoke(shop.fleet, shop.authority, "cam-12-01", NOW)
    service.revoke(shop.fleet, shop.authority, "stock-alerts", NOW)
    update_broker(shop.folder, shop.fleet)
    shop.stop()
    shop.start()
    assert not shop.lets_in("cam-12-01", stolen)
    assert not shop.lets_in("stock-alerts", shop.service("stock-alerts"))
    assert shop.lets_in("cam-12-02", shop.device("cam-12-02"))
    inventory.renew(shop.fleet, shop.authority, "cam-12-01", NOW, reinstate=True)
    assert shop.lets_in("cam-12-01", shop.device("cam-12-01"))
    assert not shop.lets_in("cam-12-01", stolen)


@pytest.mark.broker
def test_a_consumer_that_is_new_is_heard_of_by_updating(shop: Shop) -> None:
    service.add(shop.fleet, shop.authority, "more-alerts", AGO)
    before = (shop.folder / "mosquitto.conf").read_text()
    update_broker(shop.folder, shop.fleet, consumers=("more-alerts",))
    update_broker(shop.folder, shop.fleet)
    access = (shop.folder / "access.acl").read_text()
    assert access.count("user stock-alerts") == access.count("user more-alerts") == 1
    assert (shop.folder / "mosquitto.conf").read_text() == before
    shop.stop()
    shop.start()
    camera = shop.add("cam-12-01")
    with (
        subscribed(shop.address(shop.service("more-alerts")), OWN.health, client_id="more-alerts") as hears,
        subscribed(shop.address(camera), client_id="cam-12-01") as says,
    ):
        says.publish(Publication(OWN.health, messages.encode(Health(status=Availability.ONLINE))))
        assert wait_for(hears, lambda notice: isinstance(notice, Received))


@pytest.mark.parametrize(
    ("line", "said"),
    [("", "crlfile"), (None, "folder of a broker")],
)
def test_a_broker_that_would_not_hear_of_it_is_not_brought_up_to_date(
    tmp_path: Path, line: str | None, said: str
) -> None:
    fleet, folder = begin(tmp_path / "fleet", "test", AGO), tmp_path / "broker"
    if line is not None:
        write_broker(folder, BrokerPlan(store="0417", port=8883))
    with pytest.raises(ConfigError, match=said):
        update_broker(folder, fleet)


def test_the_words_after_a_revocation_bring_the_list_to_the_broker(tmp_path: Path, kit: Kit) -> None:
    fleet, folder = begin(tmp_path / "a fleet", "test", AGO), tmp_path / "broker"
    write_broker(folder, BrokerPlan(store="0417", port=8883), fleet)
    service.add(fleet, authorities.opened(fleet), "stock-alerts", AGO)
    at = fleet.device_folder("cam-12-01")
    authorities.give(fleet, authorities.opened(fleet), at, "cam-12-01", kind=Kind.DEVICE, now=AGO)
    fleet.keep(Device(device="cam-12-01", store="0417", shelf="12", added=AGO))
    for revoke in (("device", "revoke", "cam-12-01"), ("fleet", "service", "stock-alerts", "--revoke")):
        said = kit("deploy", *revoke, "--fleet", fleet.folder).stdout
        words = shlex.split(said.splitlines()[-1].partition(", and")[0].replace("FOLDER", str(folder)))
        kit(*words[1:])
        assert (folder / "crl.pem").read_bytes() == fleet.revocation_list.read_bytes()
    refused = kit("deploy", "broker", "--update", "--out", folder, code=3)
    assert "--fleet FOLDER" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to another user")
def test_what_root_brings_up_to_date_stays_the_brokers_own(tmp_path: Path) -> None:
    fleet, folder = begin(tmp_path / "fleet", "test", AGO), tmp_path / "broker"
    write_broker(folder, BrokerPlan(store="0417", port=8883), fleet)
    (folder / "crl.pem").unlink()
    for path in (folder, *folder.iterdir()):
        os.chown(path, 1883, 1884)
    update_broker(folder, fleet)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}
    assert "crl.pem" in owners
    assert set(owners.values()) == {(1883, 1884)}


@pytest.mark.parametrize("who", ["consumers", "recorders", "operators"])
def test_who_is_named_needs_a_certificate(tmp_path: Path, who: str) -> None:
    fleet = begin(tmp_path / "fleet", "test", AGO)
    named: dict[str, Any] = {who: ("nobody",)}
    plan = BrokerPlan(store="0417", port=1, **named)
    with pytest.raises(ConfigError, match="'nobody'") as refused:
        write_broker(tmp_path / "broker", plan, fleet)
    assert "fleet service nobody" in str(refused.value.hint)
    assert not (tmp_path / "broker").exists()


@contextmanager
def authority_at_work(shop: Shop, log: Path) -> Iterator[None]:
    """`shelfkit deploy ca serve`."""
    where = ("--fleet", str(shop.fleet.folder), "--broker", f"localhost:{shop.port}")
    with log.open("wb") as file:
        command = [sys.executable, "-u", "-m", "deploy", "ca", "serve", *where]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()


@pytest.mark.broker
def test_an_agent_is_given_its_next_certificate_and_goes_over_to_it(
    shop: Shop, device: Path, bundle_folder: Path
) -> None:
    """Its first one is then revoked, so that what it shows from there on can only be the new one."""
    tls = shop.add("cam-12-01")
    where = f"ca: {tls.ca}, certificate: {tls.certificate}, key: {tls.key}"
    broker = f"{{host: localhost, port: {shop.port}, tls: {{{where}}}}}"
    path = write_device(device, bundle_folder, broker=broker)
    operator = shop.address(shop.service("svc-operator"))
    with (
        subscribed(operator, "shelfkit/v1/#", client_id="svc-operator") as link,
        authority_at_work(shop, device / "ca.log"),
    ):
        agent = Running(path, link)
        try:
            day = rfc3339(NOW + timedelta(days=300))
            agent.hear(
                lambda leaf, value: leaf == "health" and value.get("certificate_expires", "") > day,
                "health with another certificate",
            )
            [first, second] = authorities.issued(shop.fleet.device_folder("cam-12-01"))
            revoked = shop.fleet.device_folder("cam-12-01") / "issued" / f"{first.told.serial}.revoked"
            revoked.write_text(rfc3339(NOW))
            authorities.write_revocation_list(shop.fleet, shop.authority, NOW)
            update_broker(shop.folder, shop.fleet)
            shop.stop()
            shop.start()
            assert not shop.lets_in("cam-12-01", tls)
            wait_for(link, lambda notice: isinstance(notice, Subscribed), 60)
            assert agent.ask_again("ping")["ok"]
            agent.kill()
            agent.again()
            assert agent.ask_again("ping")["ok"]
            ends = {value["certificate_expires"] for leaf, value in agent.said[-5:] if leaf == "health"}
            assert ends <= {rfc3339(second.certificate.not_valid_after_utc)}
        finally:
            agent.kill()
    held = (device / "state" / HELD).read_bytes()
    assert x509.load_pem_x509_certificate(held) == second.certificate
    assert len(authorities.issued(shop.fleet.device_folder("cam-12-01"))) == 2
    assert shop.fleet.device("cam-12-01").revoked is None
