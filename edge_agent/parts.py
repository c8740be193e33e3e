"""What an agent at work holds open, and how it goes over to another configuration without a gap.

Everything new is opened before anything old is closed: a configuration is taken over as a whole, or not at
all. What is made of the same settings stays as it is: a camera is not opened again for a new threshold.
"""

import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from edge_agent.agent import Agent
from edge_agent.camera.base import Camera
from edge_agent.camera.open import open_camera
from edge_agent.contracts import events, messages, planogram
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.messages import Availability
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.health import Instruments, published
from edge_agent.launched import launched
from edge_agent.mqtt import Link
from edge_agent.outbox import Limits, Outbox
from edge_agent.publisher import Publisher
from edge_agent.renewal import address_in_force, tls_in_force
from edge_agent.setup import Ready

OUTBOX = "outbox.sqlite"
_SESSION_S = 7 * 24 * 3600
_MB = 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """Something that is open, what it was made of, and what closes it."""

    made_of: object
    it: T
    close: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Delivery:
    """The link, and the one who decides what goes over it when."""

    link: Link
    publisher: Publisher


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that one configuration holds open."""

    ready: Ready
    outbox: Part[Outbox]
    camera: Part[Camera]
    metrics: Part[Callable[[], None]]
    delivery: Part[Delivery]
    agent: Part[Agent]

    @property
    def all(self) -> "tuple[Part[Any], ...]":
        """In the order in which they depend on each other."""
        return self.outbox, self.camera, self.metrics, self.delivery, self.agent

    def close(self, *, but: "Parts | None" = None) -> None:
        """Close them, last things first; those that another set of parts goes on with stay open."""
        kept = () if but is None else but.all
        for part in reversed(self.all):
            if not any(part is other for other in kept):
                part.close()


def opened(
    ready: Ready,
    *,
    instruments: Instruments,
    wall: Callable[[float], datetime],
    rng: random.Random,
    before: Parts | None = None,
) -> Parts:
    """Open what a configuration needs; its link is not started yet.

    Args:
        ready: Read and checked, its model proven.
        instruments: What the metrics show.
        wall: Turns a moment of the camera's clock into time.
        rng: For back-off.
        before: What is open now; what stays the same is taken over.

    Raises:
        KitError: Something cannot be opened; nothing new is left open, and nothing old was touched.
    """
    setup, device = ready.setup, ready.setup.config
    stock = device.delivery.max_mb, device.delivery.max_days
    seen = device.camera, device.privacy.masks
    with ExitStack() as new:
        outbox = _part(
            new,
            before.outbox if before else None,
            (device.state_dir, device.store, device.device, stock),
            lambda: _outbox(device),
            Outbox.close,
        )
        camera = _part(new, before.camera if before else None, seen, lambda: _camera(device), Camera.close)
        metrics = _part(
            new,
            before.metrics if before else None,
            device.metrics,
            lambda: instruments.serve(device.metrics),
            lambda close: close(),
        )
        delivery = _part(
            new,
            before.delivery if before else None,
            (outbox, device.broker, tls_in_force(device), device.delivery),
            lambda: _delivery(device, outbox.it, rng),
            lambda it: it.link.close(),
        )
        agent = _part(
            new,
            before.agent if before else None,
            (
                outbox,
                planogram.sha256(setup.planogram),
                setup.identity,
                setup.policy,
                setup.unknown_below,
                seen,
                device.hard_examples,
            ),
            lambda: setup.agent(
                ready.model, outbox.it, wall, examples=setup.hard_examples(ready.model, wall)
            ),
            lambda _: None,
        )
        new.pop_all()
    return Parts(ready, outbox, camera, metrics, delivery, agent)


def _part(
    new: ExitStack, old: Part[T] | None, made_of: object, make: Callable[[], T], close: Callable[[T], None]
) -> Part[T]:
    """Go on with a part that is made of the same, or open another."""
    if old is not None and old.made_of == made_of:
        return old
    it = make()
    part = Part(made_of, it, lambda: close(it))
    new.callback(part.close)
    return part


def _outbox(device: DeviceConfig) -> Outbox:
    try:
        device.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"Expected: state_dir to be writable. Received: {device.state_dir}: {exc.strerror}."
        ) from exc
    limits = Limits(device.delivery.max_mb * _MB, device.delivery.max_days)
    source = events.source(device.store, device.device)
    return Outbox(device.state_dir / OUTBOX, source=source, limits=limits)


def _camera(device: DeviceConfig) -> Camera:
    return open_camera(device.camera, live=True, masks=device.privacy.masks)


def _delivery(device: DeviceConfig, outbox: Outbox, rng: random.Random) -> Delivery:
    link = link_of(device)
    link.check()
    publisher = Publisher(
        outbox,
        link,
        topics=DeviceTopics(device.store, device.device),
        ack_timeout_s=device.delivery.ack_timeout_s,
        by_broker=device.delivery.confirm == "broker",
        rng=rng,
        hang_up=link.hang_up,
    )
    return Delivery(link, publisher)


def link_of(device: DeviceConfig) -> Link:
    """Return a device's link, not started: its session, its last will, and all that it hears."""
    topics = DeviceTopics(device.store, device.device)
    # Where no launcher has started this process nobody could follow them.
    wishes = (topics.desired,) if launched() is not None else ()
    renewals = (topics.certificate_response,) if device.broker.tls is not None else ()
    return Link(
        address_in_force(device),
        client_id=device.device,
        will=published(topics, messages.Health(status=Availability.OFFLINE)),
        subscriptions=(topics.ack, topics.command("+"), *wishes, *renewals),
        session_expiry_s=_SESSION_S,
    )
