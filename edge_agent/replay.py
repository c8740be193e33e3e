"""A clip, a folder of pictures or a rendered shelf through the agent, as fast as it goes; no broker."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from edge_agent.camera.open import open_camera
from edge_agent.contracts.events import Event, source
from edge_agent.outbox import Limits, Outbox
from edge_agent.setup import Setup

_UNBOUNDED = Limits(max_bytes=2**40, max_days=365_000)


def replay(setup: Setup, *, start: datetime) -> Iterator[Event]:
    """Yield the events of the configured source.

    Args:
        setup: Its camera has an end.
        start: The time of the first frame.

    Raises:
        DataError: The source cannot be read.
        BundleError: The bundle does not compute here what it was proven to.
    """
    device = setup.config

    def wall(at: float) -> datetime:
        return start + timedelta(seconds=at)

    with (
        open_camera(device.camera, live=False, masks=device.privacy.masks) as camera,
        Outbox(":memory:", source=source(device.store, device.device), limits=_UNBOUNDED) as outbox,
    ):
        agent = setup.agent(setup.classifier(), outbox, wall)
        while (frame := camera.read()) is not None:
            yield from agent.see(frame)
