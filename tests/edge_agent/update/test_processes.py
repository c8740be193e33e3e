"""Updates with real processes: a real agent, a real launcher and updater, a real broker."""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication, Received
from edge_agent.update import state
from tests.brokers import Mosquitto, subscribed, wait_for
from tests.edge_agent.update.devices import CRASHES, HANGS, Device, Fleet

pytestmark = pytest.mark.broker
TOPICS = DeviceTopics("0417", "cam-12-01")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Fleet:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "bundle").symlink_to(bundle_folder)
    made = Fleet(folder / "fleet", bundle_folder)
    made.offer(1)
    made.offer(2, bundle=made.other_bundle("2"))
    made.offer(3, agent=made.broken_agent(CRASHES, "3"))
    made.offer(4, agent=made.broken_agent(HANGS, "4"))
    return made


@pytest.fixture
def shelf(tmp_path: Path, fleet: Fleet, device: Path, mosquitto: Mosquitto) -> Iterator[Device]:
    made = Device(tmp_path / "d", fleet, mosquitto.port, device)
    try:
        yield made
    finally:
        made.close()


def want(link: Link, release: int, attempt: int = 1) -> None:
    wish = {"rollout": f"r{release}", "attempt": attempt, "release": release}
    assert link.publish(Publication(TOPICS.desired, json.dumps(wish).encode(), retain=True)) is not None


def heard(link: Link, **wanted: object) -> dict[str, object]:
    """Return the next report or event with these values."""

    def right(notice: object) -> bool:
        if not isinstance(notice, Received):
            return False
        value = json.loads(notice.payload)
        return all(value.get(key) == wanted[key] for key in wanted)

    notice = wait_for(link, right, 90)
    assert isinstance(notice, Received)
    value: dict[str, object] = json.loads(notice.payload)
    return value


def test_a_good_release_commits_and_a_crashing_one_is_rolled_back(
    shelf: Device, mosquitto: Mosquitto
) -> None:
    topics = (TOPICS.reported, TOPICS.event("+"), TOPICS.health)
    with subscribed(mosquitto.address, *topics, client_id="operator") as link:
        shelf.start()
        heard(link, phase="idle", good=1)
        heard(link, status="online", release=1, update="idle")
        want(link, 2)
        shelf.settled(2, "committed")
        event = heard(link, type="shelfkit.device.update-committed.v1")
        assert event["data"]["reason"] == "release 2"  # type: ignore[index] # JSON
        assert state.load(shelf.place).previous == 1
        # Another model alone: agent and runtime are the very same files.
        files = [shelf.place.release(number) / "agent/edge_agent/agent.py" for number in (1, 2)]
        assert files[0].stat().st_ino == files[1].stat().st_ino
        assert len(list(shelf.place.runtimes.iterdir())) == 1
        assert not (shelf.place.release(1) / "bundle/NOTE").exists()

        want(link, 3)
        told = heard(link, phase="rolled_back", release=3, good=2)
        assert "the shelf is on fire" in str(told["reason"])
        event = heard(link, type="shelfkit.device.update-rolled-back.v1")
        assert "release 3: ended 2 times" in event["data"]["reason"]  # type: ignore[index] # JSON
        heard(link, status="online", release=2, update="rolled_back")
        assert shelf.service.results.count("exit-code") == 2
        assert shelf.place.current.readlink() == Path("releases/2")


@pytest.mark.slow
def test_a_hanging_release_is_rolled_back_and_offered_again(shelf: Device, mosquitto: Mosquitto) -> None:
    topics = (TOPICS.reported, TOPICS.event("+"), TOPICS.health)
    with subscribed(mosquitto.address, *topics, client_id="operator") as link:
        shelf.start()
        heard(link, status="online", release=1)
        for attempt in (1, 2):
            want(link, 4, attempt)
            heard(link, phase="trial", release=4, attempt=attempt)
            told = heard(link, phase="rolled_back", release=4, attempt=attempt)
            assert "timeout" in str(told["reason"])
            assert "waiting for what never comes" in str(told["reason"])
            heard(link, status="online", release=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_power_goes_at_random_moments(shelf: Device, mosquitto: Mosquitto) -> None:
    """Twenty times; what is whole runs again each time, and in the end the wish is fulfilled."""
    rng = random.Random(7)
    with subscribed(mosquitto.address, client_id="operator") as link:
        shelf.start()
        shelf.until(shelf.place.proof.exists, "agent")
        want(link, 2)
    for _ in range(20):
        time.sleep(rng.uniform(0, 4))
        shelf.cut()
        known = state.load(shelf.place)
        assert known.good in {1, 2}
        assert state.whole(shelf.place, known.good or 0) is not None
        if shelf.reported().get("phase") == "committed":
            assert known.good == shelf.reported()["release"]
        shelf.start()
    shelf.until(lambda: state.load(shelf.place).trial is None, "end of the trial")
    known = state.load(shelf.place)
    # More than three cuts of one trial take it back, and say nothing against it.
    assert known.bad == {}
    if known.good == 1:
        with subscribed(mosquitto.address, client_id="operator") as link:
            want(link, 2, attempt=2)
        shelf.settled(2, "committed")
    assert os.listdir(shelf.place.releases)  # noqa: PTH208 - its names
