"""`shelfkit deploy store`: the store's side, ready to be started by systemd or as containers."""

from pathlib import Path
from typing import Annotated

import typer

from deploy import fleet as fleets
from deploy.store.plan import StorePlan
from deploy.store.writing import write_store
from edge_agent.contracts.command import print_json
from edge_agent.contracts.errors import UsageError


def store(  # noqa: PLR0913, PLR0917 - one parameter for each option
    store: Annotated[str, typer.Option(help="The store.")],
    out: Annotated[Path, typer.Option(help="New folder, to be carried to the store's machine.")],
    folder: Annotated[
        Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")
    ] = fleets.DEFAULT,
    root: Annotated[str, typer.Option(help="Where it will lie there.")] = "/srv/shelfkit",
    program: Annotated[str, typer.Option(help="The program shelfkit there.")] = "/opt/shelfkit/bin/shelfkit",
    mosquitto: Annotated[str, typer.Option(help="The broker's program there.")] = "/usr/sbin/mosquitto",
    host: Annotated[str, typer.Option(help="Name or address of the broker; the fleet's if left out.")] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the broker.")] = 8883,
    page_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the live page.")] = 8080,
    consumer: Annotated[
        list[str] | None, typer.Option(help="Certificate name of a consumer of events; may be repeated.")
    ] = None,
    commands: Annotated[
        bool,
        typer.Option(
            "--operator",
            help="The live page may command devices: planograms and pictures, by administrators.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write a store's side: broker, recorder and live page, with their certificates, hardened.

    systemd/ holds two units and their users, compose.yaml the same as containers. Recorder and live page
    are one process. The page listens on the machine itself alone, and asks for a log-in.

    \b
    Examples:
      shelfkit deploy store --store 0417 --out store-0417
      shelfkit deploy store --store 0417 --out store-0417 --operator
      shelfkit deploy store --store 0417 --out store-0417 --root /srv/shelfkit --consumer stock-alerts
    """  # noqa: D301 - click needs the character itself to keep the lines
    fleet = fleets.opened(folder)
    named = host or (fleets.info_of(fleet).broker or "").rpartition("//")[2].partition(":")[0]
    if not named:
        raise UsageError("Expected: --host, the broker's name. Received: none, and the fleet names none.")
    plan = StorePlan(
        store=store,
        host=named,
        root=root,
        program=program,
        mosquitto=mosquitto,
        port=port,
        page_port=page_port,
        commands=commands,
    )
    written = write_store(out, plan, fleet, tuple(consumer or ()))
    if as_json:
        print_json({"out": str(out), "files": [str(path.relative_to(out)) for path in written]})
    else:
        typer.echo(f"{out}: {len(written)} files; bring them to {root}, then see docs/guides/store.md")
