"""What a store's side is, and where everything will lie."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from deploy.broker import OPERATOR, RECORDER
from edge_agent.contracts.errors import UsageError

_PLACE = re.compile(r"/[A-Za-z0-9_./@:+,-]*")
BROKER_USER, RECORDER_USER = "shelfkit-broker", "shelfkit-recorder"
PAGE = f"{OPERATOR}-page"


@dataclass(frozen=True, kw_only=True, slots=True)
class StorePlan:
    """One store.

    Attributes:
        store: Its id.
        host: Name or address under which devices and recorder find the broker.
        root: Folder that all of it will lie in.
        program: `shelfkit` on that machine.
        mosquitto: The broker's program there.
        port: Of the broker.
        page_port: Of the live page, which listens on the machine itself alone.
        commands: Whether the live page may command devices.
    """

    store: str
    host: str
    root: str
    program: str
    mosquitto: str = "/usr/sbin/mosquitto"
    port: int = 8883
    page_port: int = 8080
    commands: bool = False

    def __post_init__(self) -> None:
        for option, place in (
            ("--root", self.root),
            ("--program", self.program),
            ("--mosquitto", self.mosquitto),
        ):
            if not _PLACE.fullmatch(place) or ".." in PurePosixPath(place).parts:
                raise UsageError(
                    f"Expected: {option} as an absolute path of letters, digits and ._-+,@:/. "
                    f"Received: {place!r}."
                )

    @property
    def broker(self) -> PurePosixPath:
        """The broker's folder."""
        return PurePosixPath(self.root) / "broker"

    @property
    def recorder(self) -> PurePosixPath:
        """The recorder's folder."""
        return PurePosixPath(self.root) / "recorder"

    @property
    def named(self) -> bool:
        """Whether the broker is found by name, and not by address."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False

    def dashboard(self, program: str, listen: str) -> list[str]:
        """Return the command line of recorder and live page.

        Args:
            program: `shelfkit` where it runs.
            listen: Address of the page.
        """
        own, address = self.recorder, f"mqtts://{self.host}:{self.port}"
        command = [
            program,
            "dashboard",
            "--broker",
            address,
            "--ca",
            str(own / "ca.pem"),
            "--certificate",
            str(own / f"{RECORDER}.pem"),
            "--key",
            str(own / f"{RECORDER}.key"),
            "--database",
            f"sqlite:///{own / 'data' / 'shelfkit.sqlite'}",
            "--store",
            self.store,
            "--host",
            listen,
            "--port",
            str(self.page_port),
        ]
        if self.commands:
            command += ["--operator", address, "--operator-certificate", str(own / f"{PAGE}.pem")]
            command += ["--operator-key", str(own / f"{PAGE}.key")]
        return command
