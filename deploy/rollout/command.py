"""`shelfkit deploy rollout`: a release goes to a few devices first."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from deploy import fleet as fleets
from deploy.fleet import Fleet
from deploy.rollout import logic, waves
from deploy.rollout.choice import LOOPBACK, addresses, attempts, chosen
from deploy.rollout.kept import Kept
from deploy.rollout.model import ENDED, Rollout, State
from deploy.rollout.running import Show, addresses_of, driven, followed
from deploy.rollout.table import as_json as told
from deploy.rollout.table import line, table
from edge_agent.contracts.command import new_app, print_json
from edge_agent.contracts.errors import GateError, ServiceError, UsageError

app = new_app(no_args_is_help=True, help="Bring a release to devices, a few first.")


Folder = Annotated[Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")]
Id = Annotated[str, typer.Argument(help="Of the rollout; the newest if left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Detached = Annotated[
    bool, typer.Option("--no-follow", help="Say it and leave; `drive` drives it, here or elsewhere.")
]


@app.callback()
def rollout() -> None:
    """Bring a release to devices, a few first."""


@app.command()
def start(  # noqa: PLR0913, PLR0917 - one parameter for each option
    release: Annotated[int, typer.Argument(min=1, help="Its number.")],
    folder: Folder = fleets.DEFAULT,
    waves_: Annotated[
        str, typer.Option("--waves", help="How far each wave reaches: devices, or a share of all.")
    ] = "1,5%,25%,100%",
    soak: Annotated[str, typer.Option(help="How long a wave must stay well before the next one.")] = "10m",
    window: Annotated[
        str, typer.Option(help="Time of day, in the device's zone, in which devices may begin.")
    ] = "",
    not_before: Annotated[
        str, typer.Option(help="Moment, with its zone, before which no device may begin.")
    ] = "",
    within: Annotated[
        str, typer.Option(help="Overdue after this; 1h, or 26h with a window, if left out.")
    ] = "",
    threshold: Annotated[str, typer.Option(help="How many may fail: devices, or a share.")] = "5%",
    store: Annotated[list[str] | None, typer.Option(help="This store alone; may be repeated.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="This device alone; may be repeated.")] = None,
    broker: Annotated[str, typer.Option(help="HOST[:PORT] of one broker for all; else each device's.")] = "",
    loopback: Annotated[
        bool, typer.Option("--loopback", help="A broker on this machine, without certificates.")
    ] = False,
    no_follow: Detached = False,
    as_json: AsJson = False,
) -> None:
    """Bring a release to devices in waves, and stop by itself where too many fail.

    A wave is passed when enough of its devices have committed and the soak time has gone by. Rolled back,
    refused and overdue devices count as failed; those that are away are counted apart, and come later.
    Everything is kept in the fleet's folder: stop this command, or lose the machine's power, and
    `rollout resume` goes on. While this runs it drives all rollouts of the fleet. Exit code 5: it was
    stopped; 8: not all devices could be told how it ended.

    \b
    Examples:
      shelfkit deploy rollout start 7
      shelfkit deploy rollout start 7 --waves 1,5%,25%,100% --soak 10m --window 02:00-05:00
      shelfkit deploy rollout start 7 --store 0417 --broker mqtt.store:8883 --threshold 2
      shelfkit deploy rollout start 7 --not-before 2026-11-30T22:00:00+01:00
      shelfkit deploy rollout start 7 --loopback --no-follow
    """  # noqa: D301 - click needs the character itself to keep the lines
    fleet = fleets.opened(folder)
    kept = Kept(fleet)
    now = datetime.now(UTC)
    if broker and loopback:
        raise UsageError("Expected: --broker or --loopback. Received: both.")
    taking_part = chosen(fleet, release, stores=store or (), devices=device or ())
    when = waves.window(window)
    wish = logic.Wish(
        release=release,
        waves=waves.waves(waves_),
        soak=waves.span("--soak", soak),
        within=waves.span("--within", within or ("26h" if when else "1h")),
        tolerance=_tolerance(threshold),
        window=when,
        not_before=waves.moment("--not-before", not_before),
        broker=broker or (LOOPBACK if loopback else None),
    )
    before = attempts(kept.every(), release)
    made = logic.begun(f"r{release}-{now:%Y%m%dT%H%M%S}", wish, taking_part.stores, before, now)
    addresses(fleet, taking_part.stores, wish.broker)  # what is wrong with them is said before it begins
    kept.add(made)
    for name, why in taking_part.left_out.items():
        typer.echo(f"{name}: left out: {why}", err=True)
    _go_on(fleet, kept, made.id, follow=not no_follow, as_json=as_json)


def _tolerance(text: str) -> str:
    waves.share("--threshold", text)
    return text


@app.command()
def status(
    id_: Id = "",
    folder: Folder = fleets.DEFAULT,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on showing it until it has ended or is stopped.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a rollout: each wave, and who has failed. With --follow live.

    \b
    Examples:
      shelfkit deploy rollout status
      shelfkit deploy rollout status --follow
      shelfkit deploy rollout status r7-20261126T020000 --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    kept = Kept(fleets.opened(folder))
    found = kept.named(id_)
    running = kept.driven()
    if as_json:
        print_json(told(found, members=True, running=running))
        return
    console = Console()
    if not follow:
        console.print(table(found, datetime.now(UTC)))
        if not running and found.going:
            typer.echo("nobody drives it now: shelfkit deploy rollout drive")
        return
    _watch(kept, found, console)


def _watch(kept: Kept, found: Rollout, console: Console) -> None:
    with Live(table(found, datetime.now(UTC)), console=console, auto_refresh=False) as live:
        while found.state not in {*ENDED, State.STOPPED}:
            time.sleep(0.5)
            found = kept.get(found.id)
            live.update(table(found, datetime.now(UTC)), refresh=True)


@app.command("list")
def listed(folder: Folder = fleets.DEFAULT, as_json: AsJson = False) -> None:
    """List rollouts, the oldest first.

    \b
    Examples:
      shelfkit deploy rollout list
      shelfkit deploy rollout list --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    kept = Kept(fleets.opened(folder))
    running = kept.driven()
    every = kept.every()
    if as_json:
        print_json({"rollouts": [told(item, members=False, running=running) for item in every]})
        return
    for item in every:
        typer.echo(line(item))


@app.command()
def pause(
    id_: Id = "", folder: Folder = fleets.DEFAULT, no_follow: Detached = False, as_json: AsJson = False
) -> None:
    """Let nobody begin until it is resumed; who is on the way goes on.

    \b
    Examples:
      shelfkit deploy rollout pause
    """  # noqa: D301 - click needs the character itself to keep the lines
    _changed(folder, id_, lambda item, _: logic.paused(item), tell=not no_follow, as_json=as_json)


@app.command()
def resume(
    id_: Id = "", folder: Folder = fleets.DEFAULT, no_follow: Detached = False, as_json: AsJson = False
) -> None:
    """Go on: after a pause, after a stop, or after the machine that drove it was lost.

    After a stop, what has failed so far counts no more: the wave takes other devices in its place.

    \b
    Examples:
      shelfkit deploy rollout resume
      shelfkit deploy rollout resume r7-20261126T020000 --no-follow
    """  # noqa: D301 - click needs the character itself to keep the lines
    fleet = fleets.opened(folder)
    kept = Kept(fleet)
    found = kept.named(id_)
    kept.change(found.id, lambda item: logic.resumed(item, datetime.now(UTC)))
    _go_on(fleet, kept, found.id, follow=not no_follow, as_json=as_json)


@app.command()
def drive(folder: Folder = fleets.DEFAULT) -> None:
    """Drive every rollout that runs, is paused, or has devices to tell; a service, until stopped (Ctrl-C).

    Takes up what `start --no-follow` adds, and what a process that is gone has left. Decides nothing for
    an operator: what is paused or stopped stays so until `resume`.

    \b
    Examples:
      shelfkit deploy rollout drive
      shelfkit deploy rollout drive --fleet /srv/fleet
    """  # noqa: D301 - click needs the character itself to keep the lines
    fleet = fleets.opened(folder)
    driven(fleet, Kept(fleet), now=_now, show=_lines())


@app.command()
def retry(
    id_: Id = "",
    folder: Folder = fleets.DEFAULT,
    device: Annotated[list[str] | None, typer.Option(help="This one alone; may be repeated.")] = None,
    no_follow: Detached = False,
    as_json: AsJson = False,
) -> None:
    """Offer the release again to devices that failed, with a higher attempt, and go on.

    \b
    Examples:
      shelfkit deploy rollout retry
      shelfkit deploy rollout retry --device cam-12-01
    """  # noqa: D301 - click needs the character itself to keep the lines
    fleet = fleets.opened(folder)
    kept = Kept(fleet)
    found = kept.named(id_)
    kept.alone(found)
    kept.change(found.id, lambda item: logic.retried(item, device or (), datetime.now(UTC)))
    _go_on(fleet, kept, found.id, follow=not no_follow, as_json=as_json)


@app.command()
def abort(
    id_: Id = "", folder: Folder = fleets.DEFAULT, no_follow: Detached = False, as_json: AsJson = False
) -> None:
    """Call it off, at once: also one that is stopped, or that nobody drives.

    Devices that have committed keep the release; those that try it go back. Exit code 8: not all devices
    could be told; repeat it, or let `rollout drive` go on.

    \b
    Examples:
      shelfkit deploy rollout abort
    """  # noqa: D301 - click needs the character itself to keep the lines
    _changed(folder, id_, lambda item, _: logic.aborted(item), tell=not no_follow, as_json=as_json)


def _changed(
    folder: Path, id_: str, how: Callable[[Rollout, datetime], Rollout], *, tell: bool, as_json: bool
) -> None:
    """Change a rollout, and see to it that its devices are told."""
    fleet = fleets.opened(folder)
    kept = Kept(fleet)
    found = kept.change(kept.named(id_).id, lambda item: how(item, datetime.now(UTC)))
    trouble: Mapping[str, str] = {}
    if tell:
        addresses_of(fleet, found)
        found, trouble = followed(fleet, kept, found.id, now=_now, show=lambda *_: None, at_once=True)
    _say(kept, found, as_json=as_json)
    if tell and found.owed:
        raise _untold(found, trouble)


def _go_on(fleet: Fleet, kept: Kept, id_: str, *, follow: bool, as_json: bool) -> None:
    """Follow a rollout to its end, and drive it unless another process does."""
    if kept.driven():
        typer.echo("another process drives it", err=True)
    if not follow:
        _say(kept, kept.get(id_), as_json=as_json)
        return
    addresses_of(fleet, kept.get(id_))
    with _shown(Console(stderr=True)) as show:
        ended, trouble = followed(fleet, kept, id_, now=_now, show=show)
    _say(kept, ended, as_json=as_json)
    for other in kept.going():
        if other.id != id_ and not kept.driven():
            typer.echo(f"nobody drives {other.id} now: shelfkit deploy rollout drive", err=True)
    if ended.state == State.STOPPED:
        raise GateError(
            f"Expected: a wave that stays well. Received: {ended.reason}.",
            hint="`rollout retry` offers it again, `rollout resume` goes on without those, `rollout abort`",
        )
    if ended.owed:
        raise _untold(ended, trouble)


def _untold(found: Rollout, trouble: Mapping[str, str]) -> ServiceError:
    why = "; ".join(f"{broker}: {text}" for broker, text in trouble.items())
    again = {State.ABORTED: "abort", State.PAUSED: "pause"}.get(found.state)
    command = "drive" if again is None else f"{again} {found.id}"
    return ServiceError(
        f"Expected: devices that are told that {found.id} is {found.state.value}. "
        f"Received: not all of them: {why or 'brokers do not retain what they are told'}.",
        hint=f"it is kept, and told as soon as they let us: shelfkit deploy rollout {command}",
    )


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _shown(console: Console) -> Iterator[Show]:
    """Give what shows a rollout while it runs: a live table on a terminal, else a line for each change."""
    if not console.is_terminal:
        yield _lines()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda item, trouble: live.update(table(item, _now(), trouble), refresh=True)


def _lines() -> Show:
    """Return what says a line for each change of rollouts, and of brokers that are away."""
    said: dict[str, str] = {}

    def show(item: Rollout, trouble: Mapping[str, str]) -> None:
        away = {broker: f"{broker}: away: {why}" for broker, why in trouble.items()}
        for about, text in {item.id: line(item), **away}.items():
            if said.get(about) != text:
                said[about] = text
                typer.echo(text, err=True)

    return show


def _say(kept: Kept, found: Rollout, *, as_json: bool) -> None:
    if as_json:
        print_json(told(found, members=True, running=kept.driven()))
    else:
        typer.echo(line(found) + (f"; {found.reason}" if found.reason else ""))
