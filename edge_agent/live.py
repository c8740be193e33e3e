"""The agent on its device, from its configuration to its end: at work, or in safe mode."""

import logging
from pathlib import Path

from edge_agent import lastgood, safe, setup
from edge_agent.contracts.errors import BundleError, ConfigError
from edge_agent.health import STARTS, notify
from edge_agent.running import Running
from edge_agent.setup import Ready
from edge_agent.wishes import Ending, Wishes, wishes

log = logging.getLogger(__name__)


def run_live(path: Path) -> Ending:
    """Watch the shelf until SIGTERM, Ctrl-C, `cmd/restart`, or the end of the source.

    Args:
        path: Of the `device.yaml`; read again on SIGHUP and `cmd/reload`.

    Returns:
        Whether it is to be started again.

    Raises:
        BundleError: The bundle is wrong, or does not compute here what it was proven to, and there is
            no last good configuration to be reached by.
        ConfigError: The same of a configuration; or the state directory or the metrics port cannot be used.
        DeviceError: The camera cannot be opened, or the disk is full.
    """
    notify(STARTS)
    with wishes() as asked:
        ready = _ready(path, asked)
        if ready is None:
            return asked.ending
        notify(STARTS)
        return Running(ready, asked).run()


def _ready(path: Path, asked: Wishes) -> Ready | None:
    try:
        return setup.ready(path)
    except (ConfigError, BundleError) as exc:
        last = lastgood.find(path)
        if last is None:
            raise
        return safe.wait(path, last, str(exc), asked)
