"""What is known of brokers that come, stay away, and hold devices of several rollouts."""

from dataclasses import dataclass, field
from queue import SimpleQueue

import pytest

from deploy.rollout.brokers import Brokers, wait_ready
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
    brokers = Brokers(wires, {"cam-1": ("0417", HERE), "cam-2": ("0418", AWAY)}, clock)  # type: ignore[arg-type]
    wait_ready(brokers)
    assert list(brokers.trouble) == ["away:1"]


def test_where_no_broker_answers_it_is_said() -> None:
    clock = Clock()
    brokers = Brokers({AWAY: Wire()}, {"cam-2": ("0418", AWAY)}, clock)  # type: ignore[dict-item]
    with pytest.raises(ServiceError, match="away:1"):
        wait_ready(brokers)
