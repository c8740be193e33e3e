"""Whether the agent of this device runs meanwhile: then camera and session are its own."""

import http.client
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from edge_agent.contracts.config import DeviceConfig, Metrics
from edge_agent.parts import OUTBOX

_TIMEOUT_S = 2.0
_MAX_BYTES = 1024 * 1024
_ANYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104 - what a config may say, not where we listen


@dataclass(frozen=True, slots=True)
class Running:
    """An agent at work.

    Attributes:
        connected: Whether the broker has let it in; None: it does not say.
        frames: How many it has judged; None: it does not say.
    """

    connected: bool | None = None
    frames: float | None = None


def running(device: DeviceConfig, proc: Path = Path("/proc")) -> Running | None:
    """Return what is known of this device's agent; None where none runs.

    Args:
        device: Its configuration.
        proc: Where the system tells of processes.
    """
    told = _told(device.metrics) if device.metrics.port else None
    if told is not None:
        return told
    return Running() if any(_holders(device.state_dir / OUTBOX, proc)) else None


def _told(metrics: Metrics) -> Running | None:
    """Ask an agent by its metrics."""
    host = "127.0.0.1" if metrics.host in _ANYWHERE else metrics.host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{metrics.port}/metrics", timeout=_TIMEOUT_S) as answer:
            text = answer.read(_MAX_BYTES).decode("utf-8", "replace")
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except (OSError, http.client.HTTPException, ValueError):
        return None
    connected = samples.get("shelfkit_broker_connected")
    if connected is None:
        return None
    return Running(connected == 1, samples.get("shelfkit_frame_seconds_count"))


def _holders(path: Path, proc: Path) -> Iterator[str]:
    """Name the processes that have a file open, as far as we may see them."""
    wanted = str(path.resolve())
    for process in filter(lambda entry: entry.name.isdigit(), proc.iterdir()):
        # Processes end while we look, and those of others are none of our business.
        with suppress(OSError):
            if any(_leads_to(handle) == wanted for handle in (process / "fd").iterdir()):
                yield process.name


def _leads_to(handle: Path) -> str:
    try:
        return str(handle.readlink())
    except OSError:
        return ""
