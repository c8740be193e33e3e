"""The agent at dusk: the same events as by day, and none of what a covered lens shows in the dark."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from edge_agent import setup, slots
from edge_agent.camera.base import Frame
from edge_agent.camera.shelf.film import Film
from edge_agent.contracts.events import Event
from edge_agent.contracts.preprocess import Image
from edge_agent.outbox import Limits, Outbox

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
_FPS, _SECONDS = 2, 45


def seen(device: Path, gain: float) -> list[Event]:
    """Return the events of a rendered script in so much of its light, with the noise of a sensor."""
    made = setup.read(device / "device.yaml")
    film, rng = Film(7), np.random.default_rng(1)
    found: list[Event] = []
    with Outbox(":memory:", source="/stores/1/devices/a", limits=Limits(10**9, 30)) as outbox:
        agent = made.agent(made.classifier(), outbox, lambda at: START + timedelta(seconds=at))
        for number in range(_FPS * _SECONDS):
            image = film.frame(number / _FPS)
            found += agent.see(Frame(dimmed(image, gain, rng), number / _FPS))
    return found


def dimmed(image: Image, gain: float, rng: np.random.Generator) -> Image:
    noise = rng.normal(0, 2, image.shape)
    return np.clip(image * gain + noise, 0, 255).astype(np.uint8)


def told(found: list[Event]) -> list[tuple[str, str]]:
    return sorted((event.type, event.subject) for event in found)


@pytest.mark.parametrize("gain", [0.3, pytest.param(0.14, marks=pytest.mark.slow)])
def test_at_dusk_the_same_is_told(device: Path, gain: float) -> None:
    by_day = told(seen(device, 1.0))
    assert len(by_day) > 5
    assert told(seen(device, gain)) == by_day


def test_only_dim_pictures_are_made_lighter() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert slots.lit(crops, 70.0, 100.0) is crops
    lighter = slots.lit(crops // 4, 25.0, 100.0)
    assert lighter.dtype == np.uint8
    assert np.abs(lighter.astype(int) - crops).max() <= 4
    assert slots.lit(np.full_like(crops, 40), 0.0, 100.0).max() == 255
