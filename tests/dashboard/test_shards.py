"""Recorders that share a broker's stores: processes with certificates of their own, one of them killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboard.queries import EventFilter, Queries
from dashboard.store import Store
from deploy import authority as authorities
from deploy import service
from deploy.beginning import begin
from deploy.broker import ACCESS, BrokerPlan, access_list, update_broker, write_broker
from edge_agent.contracts import messages
from edge_agent.contracts.messages import Ack
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication, Received
from tests.brokers import free_port, subscribed
from tests.conftest import find_program
from tests.dashboard.test_recorder import event
from tests.deploy.test_identity import AGO, Shop

pytestmark = pytest.mark.broker

FIRST, SECOND = "svc-recorder", "svc-recorder-2"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A broker of two stores, which knows two recorders."""
    find_program("mosquitto")
    fleet = begin(tmp_path / "fleet", "test", AGO)
    service.add(fleet, authorities.opened(fleet), SECOND, AGO)
    port, folder = free_port(), tmp_path / "broker"
    write_broker(folder, BrokerPlan(store="0417", port=port), fleet)
    update_broker(folder, fleet, recorders=(SECOND,))
    others = access_list(BrokerPlan(store="0418", port=port)).splitlines()
    with (folder / ACCESS).open("a") as file:
        file.writelines(f"{line}\n" for line in others if line.startswith("pattern"))
    with (folder / "mosquitto.conf").open("a") as file:
        # The test may run as root, whose mosquitto becomes another user.
        file.write("user root\n")
    with Shop(fleet, folder, port) as made:
        yield made


class Shard:
    """A recorder of some stores as a process."""

    def __init__(self, shop: Shop, name: str, stores: str, database: str) -> None:
        own = shop.service(name)
        self._command = [sys.executable, "-m", "dashboard", "--broker", f"mqtts://localhost:{shop.port}"]
        self._command += ["--ca", str(own.ca), "--certificate", str(own.certificate), "--key", str(own.key)]
        self._command += ["--name", name, "--stores", stores, "--database", database]
        self._command += ["--port", "0", "--no-login", "--files", str(shop.folder.parent / "files")]
        self._log = shop.folder.parent / f"{name}.log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self._process.send_signal(number)
        self._process.wait(30)

    def told(self) -> str:
        return self._log.read_text()


class Camera:
    """A device that says so many events, and hears what is acknowledged."""

    def __init__(self, link: Link, store: str, name: str) -> None:
        self._link, self._topics = link, DeviceTopics(store, name)
        self._path = f"/stores/{store}/devices/{name}".encode()
        self._sent = 0
        self.acks: list[int] = []

    def say(self, count: int) -> None:
        for sequence in range(self._sent + 1, self._sent + count + 1):
            body = event(sequence).replace(b"/stores/0417/devices/cam-12-01", self._path)
            assert self._link.publish(Publication(self._topics.event("restocked"), body))
        self._sent += count

    @property
    def done(self) -> bool:
        """Whether everything that it said is acknowledged."""
        while not self._link.notices.empty():
            notice = self._link.notices.get()
            if isinstance(notice, Received):
                self.acks.append(messages.decode(Ack, notice.payload).upto)
        return bool(self.acks) and self.acks[-1] == self._sent


def until(true: Callable[[], bool], told: Callable[[], str]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


def test_each_records_its_stores_and_what_one_missed_it_gets_when_it_is_back(
    shop: Shop, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'recorder.sqlite'}"
    Store(database).close()
    one, two = shop.add("cam-1"), shop.add("cam-2")
    with (
        subscribed(shop.address(one), DeviceTopics("0417", "cam-1").ack, client_id="cam-1") as link_one,
        subscribed(shop.address(two), DeviceTopics("0418", "cam-2").ack, client_id="cam-2") as link_two,
    ):
        first, second = Shard(shop, FIRST, "0417", database), Shard(shop, SECOND, "0418", database)
        mine, others = Camera(link_one, "0417", "cam-1"), Camera(link_two, "0418", "cam-2")
        try:
            for camera, shard in ((mine, first), (others, second)):
                # Until a recorder has subscribed for the first time nobody keeps anything for it.
                until(lambda shard=shard: "http://" in shard.told(), shard.told)  # type: ignore[misc]
                time.sleep(1)
                camera.say(100)
                until(lambda camera=camera: camera.done, shard.told)  # type: ignore[misc]
            second.kill()
            mine.say(200)
            others.say(200)
            until(lambda: mine.done, first.told)
            assert not others.done, "the other recorder takes nothing that is not its own"
            second.start()
            until(lambda: others.done, second.told)
        finally:
            first.kill(signal.SIGTERM)
            second.kill(signal.SIGTERM)
    assert mine.acks == sorted(mine.acks)
    assert others.acks == sorted(others.acks)
    store = Store(database)
    rows = [row["event"] for row in Queries(store.engine).all_events(EventFilter(), 0)]
    store.close()
    for source in ("/stores/0417/devices/cam-1", "/stores/0418/devices/cam-2"):
        found = [int(row["sequence"]) for row in rows if row["source"] == source]
        assert found == list(range(1, 301))
