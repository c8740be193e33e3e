"""`shelfkit deploy ca`: the fleet's authority as a service."""

import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy import authority as authorities
from deploy import ca_service, starting
from deploy import fleet as fleets
from deploy.broker import CA
from deploy.keys import PassphraseFile, read_passphrase
from deploy.service import tls_of
from edge_agent.contracts.address import Address
from edge_agent.contracts.command import new_app
from edge_agent.contracts.errors import UsageError

app = new_app(no_args_is_help=True, help="The fleet's authority as a service.")


@app.callback()
def ca() -> None:
    """The fleet's authority as a service."""


@app.command()
def serve(
    folder: Annotated[
        Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")
    ] = fleets.DEFAULT,
    broker: Annotated[str | None, typer.Option(help="HOST[:PORT]; the fleet's own if left out.")] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Give devices another certificate when they ask for it, until stopped (Ctrl-C).

    Devices ask after two thirds of their certificate's life, and again every six hours, for which
    the broker keeps what they ask while this is away. Only devices of the inventory that were not revoked are
    given one, and only for their own name.

    \b
    Examples:
      shelfkit deploy ca serve
      shelfkit deploy ca serve --broker mqtt.store.example:8883 --passphrase-file phrase
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(folder)
    where = broker or fleets.info_of(opened).broker
    if where is None:
        raise UsageError("Expected: --broker HOST[:PORT]. Received: none, and the fleet names none.")
    host, port = starting.address(where)
    authority = authorities.opened(opened, read_passphrase(passphrase_file))
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    ca_service.serve(
        opened,
        authority,
        Address(host, port, tls_of(opened, CA), encrypted=True),
        stopping=stopping,
        clock=lambda: datetime.now(UTC),
        said=typer.echo,
    )
