"""The agent on its device: one thread owns camera, agent, outbox and window; the link has its own."""

import logging
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from queue import Empty
from types import FrameType

from edge_agent import discovery
from edge_agent.camera.base import Camera
from edge_agent.camera.open import open_camera
from edge_agent.contracts import config, events, messages
from edge_agent.contracts.errors import ConfigError, DeviceError
from edge_agent.contracts.messages import Availability
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.health import Heart, Instruments, notify
from edge_agent.mqtt import Connected, Disconnected, Link, Publication, Refused, address_of
from edge_agent.outbox import Limits, Outbox
from edge_agent.publisher import Publisher
from edge_agent.setup import Setup

log = logging.getLogger(__name__)

OUTBOX = "outbox.sqlite"
_SESSION_S = 7 * 24 * 3600
_HEALTH_S = 15.0
_MEASURE_S = 5.0
_DRAIN_S = 5.0


def run_live(setup: Setup) -> None:
    """Watch the shelf until SIGTERM, Ctrl-C, or the end of the source.

    Raises:
        BundleError: The bundle does not compute here what it was proven to.
        ConfigError: The state directory or the metrics port cannot be used.
        DeviceError: The camera cannot be opened, or the disk is full.
    """
    device = setup.config
    topics = DeviceTopics(device.store, device.device)
    try:
        device.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"Expected: state_dir to be writable. Received: {device.state_dir}: {exc.strerror}."
        ) from exc
    limits = Limits(device.delivery.max_mb * 1024 * 1024, device.delivery.max_days)
    offline = messages.encode(messages.Health(status=Availability.OFFLINE))
    with ExitStack() as stack:
        stopping = stack.enter_context(_signals())
        outbox = stack.enter_context(
            Outbox(
                device.state_dir / OUTBOX, source=events.source(device.store, device.device), limits=limits
            )
        )
        camera = stack.enter_context(open_camera(device.camera, live=True, masks=device.privacy.masks))
        link = stack.enter_context(
            Link(
                address_of(device.broker),
                client_id=device.device,
                will=Publication(topics.health, offline, retain=True),
                subscriptions=(topics.ack,),
                session_expiry_s=_SESSION_S,
            )
        )
        _Live(setup, outbox, link, topics).run(camera, stopping)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Turn SIGTERM and SIGINT into an event that the loop looks at."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Live:
    """The loop: notices until the next frame is due, then the frame, then whatever must be said."""

    def __init__(self, setup: Setup, outbox: Outbox, link: Link, topics: DeviceTopics) -> None:
        device: config.DeviceConfig = setup.config
        # The wall clock is asked once for each moment, the steady clock orders: setting one does no harm.
        self._device, self._outbox, self._link, self._topics = device, outbox, link, topics
        self._agent = setup.agent(outbox, wall)
        self._description = _description(setup, topics)
        self._publisher = Publisher(
            outbox,
            link,
            topics=topics,
            ack_timeout_s=device.delivery.ack_timeout_s,
            by_broker=device.delivery.confirm == "broker",
            rng=random.Random(),  # noqa: S311 - jitter
        )
        self._instruments = Instruments()
        self._heart = Heart(outbox, time.monotonic())
        self._snapshot_due = self._health_due = self._measure_due = 0.0

    def run(self, camera: Camera, stopping: threading.Event) -> None:
        """Go on until told to stop, or until the source has come to its end."""
        self._instruments.serve(self._device.metrics)
        self._agent.started(version("shelfkit"), time.monotonic())
        notify("READY=1")
        interval = 1 / self._device.camera.fps
        due = time.monotonic()
        ended = False
        while not stopping.is_set() and not ended:
            self._talk(due, stopping)
            if stopping.is_set():
                break
            ended = not self._look(camera)
            # A slow frame is no reason to hurry afterwards.
            due = max(due + interval, time.monotonic())
        notify("STOPPING=1")
        self._talk(time.monotonic() + (_DRAIN_S if ended else 0.2), stopping)
        at = time.monotonic()
        stopped = self._heart.health(Availability.STOPPED, wall(at), at)
        self._link.close(Publication(self._topics.health, messages.encode(stopped), retain=True))

    def _look(self, camera: Camera) -> bool:
        """Judge one frame; return False when there will be no more."""
        begin = time.monotonic()
        try:
            frame = camera.read()
        except DeviceError as exc:
            log.warning("%s", exc)
            self._instruments.missed.inc()
            recorded = self._agent.miss(time.monotonic())
        else:
            if frame is None:
                return False
            with self._instruments.frame_seconds.time():
                recorded = self._agent.see(frame)
            self._heart.last_frame = frame.at
            self._heart.frame_ms = round(1000 * (time.monotonic() - begin), 1)
        if recorded:
            self._instruments.events.inc(len(recorded))
            self._snapshot_due = 0.0
        notify("WATCHDOG=1")
        return True

    def _talk(self, until: float, stopping: threading.Event) -> None:
        """Hear and say what there is until a moment; at least once."""
        while True:
            now = time.monotonic()
            self._say(now)
            self._publisher.pump(now)
            try:
                notice = self._link.notices.get(timeout=max(min(until - now, 0.25), 0))
            except (Empty, ValueError):
                if time.monotonic() >= until or stopping.is_set():
                    return
                continue
            if isinstance(notice, Connected):
                self._snapshot_due = self._health_due = 0.0
                if self._description is not None:
                    self._link.publish(self._description)
            if isinstance(notice, Refused | Disconnected):
                log.warning("broker %s: %s", address_of(self._device.broker), notice.reason)
            self._publisher.on(notice, time.monotonic())

    def _say(self, now: float) -> None:
        """Publish snapshot and health when they are due; again later where there is no connection."""
        self._instruments.connected.set(self._publisher.connected)
        if now >= self._measure_due:
            self._measure(now)
        if not self._publisher.connected:
            return
        if now >= self._snapshot_due:
            state = self._agent.snapshot(
                self._device.device, self._outbox.stream, self._outbox.oldest, self._outbox.last, now
            )
            self._link.publish(Publication(self._topics.state, messages.encode(state), retain=True))
            self._snapshot_due = now + self._device.rules.refresh_s
        if now >= self._health_due:
            health = self._heart.health(Availability.ONLINE, wall(now), now)
            self._link.publish(Publication(self._topics.health, messages.encode(health), retain=True))
            self._health_due = now + _HEALTH_S

    def _measure(self, now: float) -> None:
        self._measure_due = now + _MEASURE_S
        self._instruments.outbox_depth.set(self._outbox.depth)
        self._instruments.outbox_age.set(self._outbox.age_s(wall(now)))
        self._instruments.dropped.set(self._outbox.dropped)


def _description(setup: Setup, topics: DeviceTopics) -> Publication | None:
    """Return what Home Assistant is told of this device, where it is wanted."""
    device = setup.config
    if not device.home_assistant:
        return None
    told = discovery.message(device, setup.planogram, topics, version=version("shelfkit"))
    return Publication(discovery.topic(device.device), told, retain=True)


def wall(at: float) -> datetime:
    """Return the time of a moment of the steady clock."""
    return datetime.now(UTC) - timedelta(seconds=time.monotonic() - at)
