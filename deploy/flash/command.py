"""`shelfkit deploy flash`: shows what it would do, asks, writes, proves, and says it in one sentence."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from deploy import drives as all_drives
from deploy import fleet as fleets
from deploy import provision
from deploy.flash.image import table_of
from deploy.flash.plan import Allowed, Job, paired, require, unchanged
from deploy.flash.several import Outcome, Report, flash
from edge_agent.contracts.command import INTERRUPTED, print_json
from edge_agent.contracts.errors import DeviceError, UsageError

AllowFixed = Annotated[bool, typer.Option("--allow-fixed", help="A drive that cannot be taken out is meant.")]
AllowFile = Annotated[bool, typer.Option("--allow-file", help="A file of the drive's size is meant.")]


def flash_image(  # noqa: PLR0913, PLR0917 - one parameter for each option
    image: Annotated[Path, typer.Argument(help="Image of a whole drive: .img, .xz or .zst.")],
    device: Annotated[list[str], typer.Option(help="Device of the fleet; may be repeated, with --drive.")],
    drive: Annotated[
        list[Path], typer.Option(help="The drive for it, for example /dev/sdb; may be repeated.")
    ],
    fleet: Annotated[
        Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")
    ] = fleets.DEFAULT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and end.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    allow_fixed: AllowFixed = False,
    allow_file: AllowFile = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan and result as JSON.")] = False,
) -> None:
    """Write an image to a drive, for one device of the fleet, and prove that it is there.

    Nothing can be booted from the drive until everything is written, has been read back from the
    drive itself with the same hash, and carries what the device is provisioned with: stopped at any
    moment it is an empty drive. Several drives are written at once, each for a device of its own.

    \b
    Examples:
      shelfkit deploy flash shelf-amd64.img.zst --device cam-12-01 --drive /dev/sdb --dry-run
      shelfkit deploy flash shelf-amd64.img.zst --device cam-12-01 --drive /dev/sdb
      shelfkit deploy flash pi.img.xz --device cam-1 --drive /dev/sdb --device cam-2 --drive /dev/sdc --yes
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(fleet)
    jobs = paired(device, [all_drives.found(path) for path in drive])
    files = {job.device: provision.files(opened, job.device, datetime.now(UTC)) for job in jobs}
    table = table_of(image)
    require(jobs, table.needs, Allowed(fixed=allow_fixed, file=allow_file))
    _show(image, table.needs, jobs, as_json=as_json and dry_run)
    if dry_run:
        return
    if not yes:
        _ask(jobs)
        # Whoever answers may have changed the card meanwhile.
        unchanged(jobs, [all_drives.found(job.drive.path) for job in jobs])
    with _bars(jobs, table.needs) as report:
        outcomes = flash(image, table, jobs, files, report)
    _tell(image, outcomes, as_json=as_json)


def _show(image: Path, needs: int, jobs: list[Job], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"device": job.device, "drive": str(job.drive.path), "model": job.drive.model} for job in jobs
        ]
        print_json({"image": str(image), "bytes": needs, "jobs": rows})
        return
    typer.echo(f"{image.name}, {needs / 1e9:.2f} GB unpacked; everything on these drives is lost:", err=True)
    for job in jobs:
        typer.echo(f"  {job}", err=True)


def _ask(jobs: list[Job]) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "Expected: somebody to ask. Received: no terminal.", hint="add --yes where it is certain"
        )
    what = "this drive" if len(jobs) == 1 else f"these {len(jobs)} drives"
    if not typer.confirm(f"Overwrite {what}?", err=True):
        typer.echo("nothing was written", err=True)
        raise typer.Exit(INTERRUPTED)


@contextmanager
def _bars(jobs: list[Job], size: int) -> Iterator[Report]:
    """Show how far each drive is, on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {job.device: progress.add_task(job.device, total=size) for job in jobs}

        def report(device: str, phase: str, done: int) -> None:
            progress.update(
                tasks[device], completed=done, total=max(size, done), description=f"{device} {phase}"
            )

        yield report


def _tell(image: Path, outcomes: list[Outcome], *, as_json: bool) -> None:
    """Say how it went; the first error decides the exit code."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if as_json:
        print_json({"image": str(image), "drives": [_row(outcome) for outcome in outcomes]})
    for outcome in outcomes:
        if outcome.written is not None and not as_json:
            typer.echo(
                f"{outcome.job.device}: {image.name} is on {outcome.job.drive}, read back and provisioned; "
                f"put it into the device."
            )
        elif outcome.error is not None and outcome is not failed[0]:
            typer.echo(f"error: {outcome.job.device}: {outcome.error}", err=True)
    if failed and failed[0].error is not None:
        if isinstance(failed[0].error, DeviceError):
            failed[0].error.args = (f"{failed[0].job.device}: {failed[0].error}",)
        raise failed[0].error


def _row(outcome: Outcome) -> dict[str, object]:
    row: dict[str, object] = {"device": outcome.job.device, "drive": str(outcome.job.drive.path)}
    if outcome.written is None:
        return row | {"ok": False, "error": str(outcome.error)}
    return row | {"ok": True, "bytes": outcome.written.size, "sha256": outcome.written.sha256}
