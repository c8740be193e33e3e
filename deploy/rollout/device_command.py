"""`shelfkit deploy device rollback|pin|unpin`: one device, apart from rollouts."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy import fleet as fleets
from deploy.broker import OPERATOR
from deploy.fleet import Fleet
from deploy.keys import PassphraseFile, read_passphrase
from deploy.release.repository import Keys, Repository
from deploy.rollout.back import architecture, before, failed, way_back
from deploy.rollout.brokers import PATIENCE_S, Brokers, connected, wait_ready
from deploy.rollout.choice import LOOPBACK, addresses
from deploy.rollout.kept import Kept
from deploy.rollout.model import Standing, State
from edge_agent.contracts.command import print_json
from edge_agent.contracts.errors import ServiceError, UsageError
from edge_agent.contracts.messages import Desired

Name = Annotated[str, typer.Argument(help="Of the device.")]
Folder = Annotated[Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]

_OPERATOR = f"{OPERATOR}-rollback"
"""Not that of rollouts: one may be under way."""


def rollback(  # noqa: PLR0913, PLR0917 - one parameter for each option
    name: Name,
    folder: Folder = fleets.DEFAULT,
    to: Annotated[int | None, typer.Option(min=1, help="Release; the one before if left out.")] = None,
    no_pin: Annotated[
        bool, typer.Option("--no-pin", help="Let rollouts have it again at once; else it is pinned.")
    ] = False,
    broker: Annotated[str, typer.Option(help="HOST[:PORT]; else that of its device.yaml.")] = "",
    loopback: Annotated[
        bool, typer.Option("--loopback", help="A broker on this machine, without certificates.")
    ] = False,
    arch: Annotated[
        str, typer.Option(help="Debian's name of its architecture, where the inventory has none.")
    ] = "",
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring a device back to the release before, and keep rollouts away from it.

    Where that release was made with --downgrade the device goes back to its number. Else what it holds is
    offered again under the next number (this needs the targets key): devices never go below a number that
    they have run. It is the release that the device says it ran before, and none that it has rolled back.
    The device proves it as it proves any other, and fetches only what it no longer has.

    \b
    Examples:
      shelfkit deploy device rollback cam-12-01
      shelfkit deploy device rollback cam-12-01 --to 5 --no-pin
    """  # noqa: D301 - click needs the character itself to keep the lines
    fleet = fleets.opened(folder)
    device = fleet.device(name)
    if broker and loopback:
        raise UsageError("Expected: --broker or --loopback. Received: both.")
    one = broker or (LOOPBACK if loopback else None)
    repository = Repository(fleet.repository, Keys(fleet.keys, read_passphrase(passphrase_file)))
    now, bad = datetime.now(UTC), failed(Kept(fleet).every(), name)
    with connected(addresses(fleet, {name: device.store}, one, _OPERATOR), _OPERATOR) as brokers:
        wait_ready(brokers)
        running, previous = _running(brokers, name)
        arch = arch or architecture(repository, device, running)
        target = to or before(repository, arch, running, previous=previous, bad=bad)
        number = way_back(repository, arch, running, target, now)
        if not no_pin:
            _pinned(fleet, name, pinned=True)
            _let_go(Kept(fleet), name)
        _tell(brokers, name, Desired(rollout=f"rollback-{now:%Y%m%dT%H%M%S}", release=number))
    if as_json:
        print_json(
            {"device": name, "running": running, "to": target, "release": number, "pinned": not no_pin}
        )
        return
    again = "" if number == target else f", offered again as release {number}"
    kept = "" if no_pin else "; pinned: shelfkit deploy device unpin lets rollouts have it again"
    typer.echo(f"{name}: told to go from release {running} to {target}{again}{kept}")


def pin(name: Name, folder: Folder = fleets.DEFAULT) -> None:
    """Keep a device as it is: rollouts leave it out, also one that is under way.

    \b
    Examples:
      shelfkit deploy device pin cam-12-01
    """  # noqa: D301 - click needs the character itself to keep the lines
    _pinned(fleets.opened(folder), name, pinned=True)
    typer.echo(f"{name}: pinned; rollouts leave it out")


def unpin(name: Name, folder: Folder = fleets.DEFAULT) -> None:
    """Let rollouts have a device again.

    \b
    Examples:
      shelfkit deploy device unpin cam-12-01
    """  # noqa: D301 - click needs the character itself to keep the lines
    _pinned(fleets.opened(folder), name, pinned=False)
    typer.echo(f"{name}: no longer pinned")


def _pinned(fleet: Fleet, name: str, *, pinned: bool) -> None:
    fleet.keep(fleet.device(name).model_copy(update={"pinned": pinned}))
    Kept(fleet).inventory_changed()


def _let_go(kept: Kept, name: str) -> None:
    """Wait until a rollout that is under way leaves a device out: it would tell it the contrary."""
    end = time.monotonic() + PATIENCE_S
    while kept.driven() and any(
        name in rollout.members and rollout.members[name].standing != Standing.LEFT_OUT
        for rollout in kept.every()
        if rollout.state in {State.RUNNING, State.PAUSED}
    ):
        time.sleep(0.1)
        if time.monotonic() >= end:
            raise ServiceError(
                f"Expected: the rollout under way to leave {name} out. Received: no sign of it.",
                hint="it is pinned: pause or abort the rollout, and tell it again",
            )


def _running(brokers: Brokers, name: str) -> tuple[int, int | None]:
    reported = brokers.views(frozenset())[name].reported
    if reported is None or reported.good is None:
        raise ServiceError(
            f"Expected: {name} to say which release it runs. Received: nothing that its broker retains.",
            hint="a device says so once its updater has been at work",
        )
    return reported.good, reported.previous


def _tell(brokers: Brokers, name: str, wish: Desired) -> None:
    end = time.monotonic() + PATIENCE_S
    while brokers.tell({name: wish}, {wish.rollout}):
        brokers.take(0.1)
        if time.monotonic() >= end:
            raise ServiceError(
                f"Expected: the broker to retain what {name} is told. Received: no sign of it.",
                hint="does its access list let the operator write `desired`?",
            )
