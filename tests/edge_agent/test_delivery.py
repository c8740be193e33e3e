"""Agent, broker and recorder killed (-9), again and again: nothing lost, nothing doubled."""

import random
import time
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.conftest import Kit, find_program
from tests.shops import (
    Life,
    Shop,
    assert_no_state_changed_without_an_event,
    assert_whole,
    recorded,
    waiting_and_last,
)

pytestmark = [pytest.mark.broker, pytest.mark.timeout(1800)]

FEW = ("agent", "broker", "recorder", "agent")
MANY = ("agent", "broker") * 50 + ("recorder",) * 10


@pytest.mark.parametrize(
    ("victims", "seed"), [(FEW, 1), pytest.param(MANY, 2, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_nothing_is_lost_and_nothing_is_doubled(
    tmp_path: Path, bundle_folder: Path, kit: Kit, victims: tuple[str, ...], seed: int
) -> None:
    chance = random.Random(seed)
    order = list(victims)
    chance.shuffle(order)
    with (
        Mosquitto(find_program("mosquitto"), tmp_path / "broker") as broker,
        Shop(tmp_path, bundle_folder, kit, broker, seconds=20) as shop,
    ):
        lives: dict[str, Life | Mosquitto] = {
            "agent": shop.agent,
            "broker": broker,
            "recorder": shop.recorder,
        }
        shop.agent.start()
        for victim in order:
            # At any moment: while it starts, while it reads, writes or sends.
            time.sleep(chance.uniform(0.2, 6))
            if shop.agent.ended():
                shop.agent.start()
            lives[victim].kill()
            time.sleep(chance.uniform(0, 1.5))
            lives[victim].start()
        shop.agent.kill()
        shop.finish()
        waits, last = waiting_and_last(shop.outbox)
    found, gaps = recorded(tmp_path)
    assert (waits, gaps) == (0, [])
    assert last > 40
    assert not list(shop.outbox.parent.glob("*damaged*"))
    assert_whole(found, last)
    assert_no_state_changed_without_an_event(found)
