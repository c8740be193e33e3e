"""What the launcher has told this process: which release it is, and where releases are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.release import Place
from edge_agent.update.launcher import RELEASE, RELEASES, START


@dataclass(frozen=True, slots=True)
class Launched:
    """A release at work.

    Attributes:
        place: Where the device's releases are.
        release: Which of them this is.
        start: Which start of the device.
    """

    place: Place
    release: int
    start: int

    def placed(self, device: DeviceConfig) -> DeviceConfig:
        """Return a configuration whose bundle is this release's, where it says "the current one".

        What is current may change while this process begins; what it was started as may not.
        """
        if device.bundle != self.place.current / "bundle":
            return device
        return device.model_copy(update={"bundle": self.place.release(self.release) / "bundle"})


def launched(environ: Mapping[str, str] = os.environ) -> Launched | None:
    """Return what the launcher has said; None where it did not start this process."""
    try:
        return Launched(Place(Path(environ[RELEASES])), int(environ[RELEASE]), int(environ[START]))
    except (KeyError, ValueError):
        return None
