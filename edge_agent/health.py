"""How the agent is: the retained health message, Prometheus metrics, and systemd's watchdog."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from math import nan

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from edge_agent.board import Board
from edge_agent.contracts.config import Metrics
from edge_agent.contracts.errors import ConfigError, DataError
from edge_agent.contracts.messages import (
    Ack,
    Availability,
    Health,
    ModelState,
    UpdatePhase,
    decode,
    encode,
)
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Publication
from edge_agent.outbox import Outbox

_FRAME_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


_SILENT = Board(None, None, None)


@dataclass(slots=True)
class Heart:
    """What the health message is made of, besides what the outbox knows.

    Attributes:
        started: Seconds of the steady clock.
        last_frame: When the latest one was taken, seconds of the camera.
        frame_ms: How long it took to judge.
        missed: Frames that were due and did not come.
        clock_offset_s: How far the recorder's clock is ahead of ours.
        board: What the board told last.
        release: That it is, where a launcher has started it.
        update: How far the updater is with another one.
        certificate_expires: When the device's certificate ends.
    """

    started: float
    last_frame: float | None = None
    frame_ms: float | None = None
    missed: int = 0
    clock_offset_s: float | None = None
    board: Board = _SILENT
    release: int | None = None
    update: UpdatePhase | None = None
    certificate_expires: datetime | None = None

    def compare(self, ack: bytes, now: datetime) -> None:
        """Compare our clock with the recorder's, from an acknowledgement that has just come."""
        try:
            said = decode(Ack, ack).time
        except DataError:
            return
        if said is not None:
            self.clock_offset_s = round((said - now).total_seconds(), 2)

    def camera_age_s(self, at: float) -> float | None:
        """Return how old the latest frame is."""
        return None if self.last_frame is None else round(max(at - self.last_frame, 0), 2)

    def health(
        self,
        status: Availability,
        now: datetime,
        at: float,
        *,
        outbox: Outbox,
        dropped_frames: int,
        model: ModelState,
    ) -> Health:
        """Return the message.

        Args:
            status: Online, or stopped.
            now: Time.
            at: Now, seconds of the camera's clock.
            outbox: What waits.
            dropped_frames: Frames that came and were never looked at.
            model: In use.
        """
        board = self.board
        return Health(
            status=status,
            time=now,
            versions={"agent": version("shelfkit"), "model": f"{model.name} {model.version}"},
            uptime_s=round(at - self.started, 1),
            camera_age_s=self.camera_age_s(at),
            inference_ms=self.frame_ms,
            outbox_depth=outbox.depth,
            outbox_age_s=round(outbox.age_s(), 1),
            dropped_events=outbox.dropped,
            dropped_frames=dropped_frames,
            missed_frames=self.missed,
            clock_offset_s=self.clock_offset_s,
            clock_synchronized=board.clock.synchronized if board.clock else None,
            temperature_c=board.temperature_c,
            throttled=board.throttled.now if board.throttled else None,
            release=self.release,
            update=self.update,
            certificate_expires=self.certificate_expires,
        )


class Instruments:
    """Prometheus metrics of one agent, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.frame_seconds = Histogram(
            "shelfkit_frame_seconds",
            "Time to judge one frame.",
            buckets=_FRAME_BUCKETS,
            registry=self.registry,
        )
        self.missed = Counter(
            "shelfkit_frames_missed", "Frames that the camera did not give.", registry=self.registry
        )
        self.events = Counter("shelfkit_events", "Events recorded.", registry=self.registry)
        self.outbox_depth = Gauge("shelfkit_outbox_events", "Events that wait.", registry=self.registry)
        self.outbox_age = Gauge(
            "shelfkit_outbox_age_seconds", "Age of the oldest event that waits.", registry=self.registry
        )
        self.dropped = Gauge(
            "shelfkit_outbox_dropped_events", "Events dropped over the limits, ever.", registry=self.registry
        )
        self.dropped_frames = Gauge(
            "shelfkit_frames_dropped",
            "Frames that came and were never looked at.",
            registry=self.registry,
        )
        self.camera_age = Gauge(
            "shelfkit_camera_age_seconds", "Age of the latest frame.", registry=self.registry
        )
        self.clock_offset = Gauge(
            "shelfkit_clock_offset_seconds",
            "How far the recorder's clock is ahead of the device's.",
            registry=self.registry,
        )
        self.temperature = Gauge(
            "shelfkit_board_temperature_celsius", "Of the processor.", registry=self.registry
        )
        self.connected = Gauge(
            "shelfkit_broker_connected", "1 while the broker is there.", registry=self.registry
        )

    def measure(self, outbox: Outbox, heart: Heart, at: float, dropped_frames: int) -> None:
        """Read what is not counted as it happens."""
        self.outbox_depth.set(outbox.depth)
        self.outbox_age.set(outbox.age_s())
        self.dropped.set(outbox.dropped)
        self.dropped_frames.set(dropped_frames)
        self.camera_age.set(_or_nan(heart.camera_age_s(at)))
        self.clock_offset.set(_or_nan(heart.clock_offset_s))
        self.temperature.set(_or_nan(heart.board.temperature_c))

    def serve(self, settings: Metrics) -> Callable[[], None]:
        """Serve them over HTTP; nothing where the port is 0.

        Returns:
            What ends it.

        Raises:
            ConfigError: The port is taken.
        """
        if not settings.port:
            return lambda: None
        try:
            server, thread = start_http_server(settings.port, settings.host, registry=self.registry)
        except OSError as exc:
            raise ConfigError(
                f"Expected: a free port {settings.port} for metrics. Received: {exc.strerror}.",
                hint="set metrics.port to another one, or to 0 for none",
            ) from exc

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return close


def _or_nan(value: float | None) -> float:
    """Return what Prometheus shows: a gauge that nobody can read is no number."""
    return nan if value is None else value


def published(topics: DeviceTopics, health: Health) -> Publication:
    """Return the message that a health goes out with: retained, in place of the one before."""
    return Publication(topics.health, encode(health), retain=True)


STARTS = f"EXTEND_TIMEOUT_USEC={600 * 1_000_000}"
"""For `notify`: a step of the start is done, and the next may take ten minutes.

A slow machine needs longer than a fast one; what hangs does no step, and has what its unit gives it.
"""


def notify(text: str) -> None:
    """Tell systemd something (READY=1, WATCHDOG=1, STOPPING=1); nothing elsewhere. See sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as channel:
        channel.connect(name)
        # Whoever does not read what he is told must not stop a device.
        with suppress(BlockingIOError):
            channel.send(text.encode())
