"""`shelfkit deploy push`: a machine that runs Debian or Raspberry Pi OS becomes a shelf device, over SSH."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy import fleet as fleets
from deploy.bars import bars
from deploy.fleet import Fleet
from deploy.push.pushing import Layout, Pushed, push
from deploy.ssh import Login, Ssh
from edge_agent.contracts.command import print_json

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Of SSH; as configured if left out.")]
SshOption = Annotated[
    list[str] | None, typer.Option("--ssh-option", help="One more word for ssh, such as -J; may be repeated.")
]
Number = Annotated[int | None, typer.Option("--release", min=1, help="Its number; the newest if left out.")]
Folder = Annotated[Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")]


def push_release(  # noqa: PLR0913, PLR0917 - one parameter for each option
    host: Annotated[str, typer.Argument(help="As ssh knows it: user@host, an address, an alias.")],
    device: Annotated[str, typer.Option(help="Device of the fleet that it becomes.")],
    fleet: Folder = fleets.DEFAULT,
    release: Number = None,
    port: Port = None,
    ssh_option: SshOption = None,
    data: Annotated[str, typer.Option(help="Where the machine keeps everything.")] = "/data/shelf",
    python: Annotated[str, typer.Option(help="Python 3.11 of the machine.")] = "/usr/bin/python3",
    below: Annotated[
        str, typer.Option(help="Put everything below this folder and start nothing, to see what it would be.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Put a release and a device's files onto a machine that runs already, and start it there.

    The machine runs Debian 12 or Raspberry Pi OS of the same age, on x86-64, aarch64 or 32-bit ARM. It
    gets launcher, updater, units, the release and the device's own files; again it gets only what it
    has not, and after an interruption what is still missing. Releases after the first arrive by
    themselves, as on a flashed device.

    \b
    Examples:
      shelfkit deploy push pi@shelf-12.store.example --device cam-12-01
      shelfkit deploy push shelf-12 --device cam-12-01 --release 7 --json
      shelfkit deploy push localhost --port 2222 --device cam-12-01 --below ./try
    """  # noqa: D301 - click needs the character itself to keep the lines
    layout = Layout(data=data, python=python, below=below)
    login = Login(host, port, tuple(ssh_option or ()))
    done = pushed(fleets.opened(fleet), device, login, layout, release)
    if as_json:
        print_json(
            {
                "device": device,
                "host": host,
                "arch": done.release.arch,
                "release": done.release.number,
                "moved": done.moved,
                "applied": list(done.applied),
                "trial": done.trial,
            }
        )
        return
    typer.echo(told_of(device, login, done, started=not below))


def told_of(device: str, login: Login, done: Pushed, *, started: bool) -> str:
    """Return what a push has done as a sentence for people."""
    news = f"{done.moved / 1e6:.1f} MB of it were new" if done.moved else "it was there already"
    running = "it is on trial, and stays once it has proven itself" if done.trial else "the agent runs"
    state = running if started else "nothing was started"
    return f"{device}: release {done.release.number} is on {login.host}; {news}; {state}."


def pushed(fleet: Fleet, device: str, login: Login, layout: Layout, number: int | None) -> Pushed:
    """Push with a progress bar, and remember where the device is.

    Raises:
        KitError: It cannot be pushed.
    """
    with Ssh(login) as ssh, bars() as progress:
        done = push(ssh, fleet, device, datetime.now(UTC), layout=layout, number=number, progress=progress)
    line = fleet.device(device)
    if not layout.below and (line.host, line.arch) != (login.host, done.release.arch):
        fleet.keep(line.model_copy(update={"host": login.host, "arch": done.release.arch}))
    return done
