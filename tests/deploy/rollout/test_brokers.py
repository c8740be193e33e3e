"""What is known of brokers that come, stay away, and hold devices of several rollouts."""

from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import pytest

from deploy.broker import OPERATOR
from deploy.fleet import Fleet
from deploy.rollout.brokers import Brokers, wait_ready
from deploy.rollout.choice import addresses
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import ServiceError
from edge_agent.mqtt import Notice, Publication, Subscribed

HERE, AWAY = Address("here", 1), Address("away", 1)


@dataclass
class Wire:
    """A link of which the test decides what comes."""

    notices: SimpleQueue[Notice] = field(default_factory=SimpleQueue)
    published: list[Publication] = field(default_factory=list)

    def publish(self, publication: Publication) -> tuple[int, int]:
        self.published.append(publication)
        return 1, len(self.published)

    def acknowledge(self, handle: object) -> None:
        """Nothing is held back."""


class Clock:
    """Time goes by while somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def test_a_broker_that_stays_away_holds_the_others_up_for_a_moment_alone() -> None:
    wires = {HERE: Wire(), AWAY: Wire()}
    wires[HERE].notices.put(Subscribed())
    clock = Clock()
    brokers = Brokers(wires.__getitem__, clock)  # type: ignore[arg-type]
    brokers.reach({"cam-1": ("0417", HERE), "cam-2": ("0418", AWAY)})
    wait_ready(brokers)
    assert list(brokers.trouble) == ["away:1"]


@pytest.mark.parametrize(
    ("broker", "said"),
    [
        ("loopback", ("127.0.0.1", 1883, False)),
        ("loopback:9", ("127.0.0.1", 9, False)),
        ("mqtt.example", ("mqtt.example", 8883, True)),
        ("[fd00::1]:1884", ("fd00::1", 1884, True)),
        ("fd00::1", ("fd00::1", 8883, True)),
    ],
)
def test_an_operator_names_a_broker(tmp_path: Path, broker: str, said: tuple[str, int, bool]) -> None:
    fleet = Fleet(tmp_path)
    folder = fleet.service(OPERATOR)
    folder.mkdir(parents=True)
    fleet.ca.mkdir()
    for path in (fleet.ca_certificate, folder / f"{OPERATOR}.pem", folder / f"{OPERATOR}.key"):
        path.touch()
    _, address = addresses(fleet, {"cam-1": "0417"}, broker)["cam-1"]
    assert (address.host, address.port, address.encrypted) == said


def test_where_no_broker_answers_it_is_said() -> None:
    clock = Clock()
    brokers = Brokers({AWAY: Wire()}.__getitem__, clock)  # type: ignore[arg-type]
    brokers.reach({"cam-2": ("0418", AWAY)})
    with pytest.raises(ServiceError, match="away:1"):
        wait_ready(brokers)
