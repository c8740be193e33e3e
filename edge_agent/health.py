"""How the agent is: the retained health message, Prometheus metrics, and systemd's watchdog."""

import os
import socket
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from edge_agent.contracts.config import Metrics
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.messages import Availability, Health
from edge_agent.outbox import Outbox

_FRAME_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


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
        self.connected = Gauge(
            "shelfkit_broker_connected", "1 while the broker is there.", registry=self.registry
        )

    def serve(self, settings: Metrics) -> None:
        """Serve them over HTTP; nothing where the port is 0.

        Raises:
            ConfigError: The port is taken.
        """
        if not settings.port:
            return
        try:
            start_http_server(settings.port, settings.host, registry=self.registry)
        except OSError as exc:
            raise ConfigError(
                f"Expected: a free port {settings.port} for metrics. Received: {exc.strerror}.",
                hint="set metrics.port to another one, or to 0 for none",
            ) from exc


@dataclass(slots=True)
class Heart:
    """What the health message is made of."""

    outbox: Outbox
    started: float
    last_frame: float | None = None
    frame_ms: float | None = None

    def health(self, status: Availability, now: datetime, at: float) -> Health:
        """Return the message.

        Args:
            status: Online, or stopped.
            now: Time.
            at: Now, seconds of the camera's clock.
        """
        return Health(
            status=status,
            time=now,
            versions={"agent": version("shelfkit")},
            uptime_s=round(at - self.started, 1),
            camera_age_s=None if self.last_frame is None else round(max(at - self.last_frame, 0), 2),
            inference_ms=self.frame_ms,
            outbox_depth=self.outbox.depth,
            outbox_age_s=round(self.outbox.age_s(now), 1),
            dropped_events=self.outbox.dropped,
        )


def notify(text: str) -> None:
    """Tell systemd something (READY=1, WATCHDOG=1, STOPPING=1); nothing elsewhere. See sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(name)
        channel.sendall(text.encode())
