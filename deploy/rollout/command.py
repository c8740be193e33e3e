"""`shelfkit deploy rollout`: a release goes to a few devices first."""

import time
from collections.abc import Callable, Iterator
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
from deploy.rollout.brokers import PATIENCE_S, Brokers, connected, wait_ready
from deploy.rollout.choice import LOOPBACK, addresses, attempts, chosen
from deploy.rollout.kept import Kept
from deploy.rollout.model import ENDED, Rollout, State
from deploy.rollout.running import left_out, run
from deploy.rollout.table import as_json as told
from deploy.rollout.table import line, table
from edge_agent.contracts.command import new_app, print_json
from edge_agent.contracts.errors import GateError, UsageError

app = new_app(no_args_is_help=True, help="Bring a release to devices, a few first.")


Folder = Annotated[Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")]
Id = Annotated[str, typer.Argument(help="Of the rollout; the newest if left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Detached = Annotated[
    bool, typer.Option("--no-follow", help="Say it and leave; `resume` drives it, here or elsewhere.")
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
    `rollout resume` goes on. Exit code 5: it was stopped.

    \b
    Examples:
      shelfkit deploy rollout start 7
      shelfkit deploy rollout start 7 --waves 1,5%,25%,100% --soak 10m --window 02:00-05:00
      shelfkit deploy rollout start 7 --store 0417 --broker mqtt.store:8883 --threshold 2
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
    follow: Annotated[bool, typer.Option("--follow", help="Go on showing it until it has ended.")] = False,
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
        if not running and found.state == State.RUNNING:
            typer.echo(f"nobody drives it now: shelfkit deploy rollout resume {found.id}")
        return
    _watch(kept, found, console)


def _watch(kept: Kept, found: Rollout, console: Console) -> None:

    with Live(table(found, datetime.now(UTC)), console=console, auto_refresh=False) as live:
        while found.state not in ENDED:
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

    Devices that have committed keep the release; those that try it go back.

    \b
    Examples:
      shelfkit deploy rollout abort
    """  # noqa: D301 - click needs the character itself to keep the lines
    _changed(folder, id_, lambda item, _: logic.aborted(item), tell=not no_follow, as_json=as_json)


def _changed(
    folder: Path, id_: str, how: Callable[[Rollout, datetime], Rollout], *, tell: bool, as_json: bool
) -> None:
    """Change a rollout, and tell its devices if no other process does."""
    fleet = fleets.opened(folder)
    kept = Kept(fleet)
    found = kept.change(kept.named(id_).id, lambda item: how(item, datetime.now(UTC)))
    with kept.runner() as free:
        if free and tell:
            with _brokers(fleet, found) as brokers:
                wait_ready(brokers)
                end = datetime.now(UTC).timestamp() + PATIENCE_S
                while brokers.tell(logic.wanted(found), found.id) and datetime.now(UTC).timestamp() < end:
                    brokers.take(0.1)
    _say(kept.get(found.id), as_json=as_json)


def _go_on(fleet: Fleet, kept: Kept, id_: str, *, follow: bool, as_json: bool) -> None:
    """Drive a rollout to its end, unless another process does."""
    with kept.runner() as free:
        if not follow or not free:
            _say(kept.get(id_), as_json=as_json)
            if not free:
                typer.echo("another process drives it: shelfkit deploy rollout status --follow", err=True)
            return
        console = Console(stderr=True)
        with _brokers(fleet, kept.get(id_)) as brokers, _shown(console) as show:
            wait_ready(brokers)
            ended = run(kept, id_, brokers, lambda: left_out(fleet), now=lambda: datetime.now(UTC), show=show)
    _say(ended, as_json=as_json)
    if ended.state == State.STOPPED:
        raise GateError(
            f"Expected: a wave that stays well. Received: {ended.reason}.",
            hint="`rollout retry` offers it again, `rollout resume` goes on without those, `rollout abort`",
        )


@contextmanager
def _brokers(fleet: Fleet, found: Rollout) -> Iterator[Brokers]:
    stores = {name: member.store for name, member in found.members.items()}
    with connected(addresses(fleet, stores, found.broker)) as brokers:
        yield brokers


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Rollout, Brokers], None]]:
    """Give what shows a rollout while it runs: a live table on a terminal, else a line for each change."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda item, brokers: live.update(
                table(item, datetime.now(UTC), brokers.trouble), refresh=True
            )
        return
    said = [""]

    def show(item: Rollout, _: Brokers) -> None:
        text = line(item)
        if text != said[0]:
            said[0] = text
            typer.echo(text, err=True)

    yield show


def _say(found: Rollout, *, as_json: bool) -> None:
    if as_json:
        print_json(told(found, members=True, running=False))
    else:
        typer.echo(line(found) + (f"; {found.reason}" if found.reason else ""))
