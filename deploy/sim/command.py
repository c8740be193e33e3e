"""`shelfkit deploy sim`: devices that are processes."""

import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy import fleet as fleets
from deploy import provision
from deploy.sim.machine import DRIVE_GB, KINDS, READY, Machine, prepared
from edge_agent.contracts.command import new_app, one_of, print_json
from edge_agent.contracts.errors import DataError, UsageError

app = new_app(no_args_is_help=True, help="Try images in QEMU.")


@app.callback()
def sim() -> None:
    """Try images in QEMU."""


@app.command()
def boot(  # noqa: PLR0913, PLR0917 - one parameter for each option
    image: Annotated[Path, typer.Argument(help="The image, .img.zst or .img; it stays as it is.")],
    arch: Annotated[str, typer.Option(help="amd64 or arm64.")] = "amd64",
    device: Annotated[str, typer.Option(help="Device of the fleet that it is to be.")] = "",
    fleet: Annotated[
        Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")
    ] = fleets.DEFAULT,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where its drive is kept, and found again; without it: nothing is kept."),
    ] = None,
    drive_gb: Annotated[int, typer.Option(min=4, max=256, help="Size of a new drive.")] = DRIVE_GB,
    memory_mib: Annotated[int, typer.Option(min=512, help="Its memory.")] = 1024,
    patience_s: Annotated[float, typer.Option(min=1, help="How long READY may take.")] = 600,
    once: Annotated[bool, typer.Option("--once", help="End once it is READY.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print how it went as JSON, the console on standard error.")
    ] = False,
) -> None:
    """Boot an image in QEMU, show its console, and wait until its agent is READY.

    With --device it is provisioned first, as flashing does. It runs until Ctrl-C, which is a power
    cut; with --folder the next boot goes on with the same drive. This machine is 10.0.2.2 for it.

    \b
    Examples:
      shelfkit deploy sim boot shelf.img.zst --device cam-12-01
      shelfkit deploy sim boot shelf.img.zst --arch arm64 --device cam-12-01 --once --json
      shelfkit deploy sim boot shelf.img.zst --device cam-12-01 --folder cam-12-01.vm
    """  # noqa: D301 - click needs the character itself to keep the lines
    one_of("--arch", arch, list(KINDS))
    if not image.is_file():
        raise UsageError(f"Expected: an image. Received: {image}, which is none.")
    with ExitStack() as stack:
        room = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shelfkit-sim-")))
        if not (room / "drive.qcow2").exists():
            _prepared(image, room, fleets.opened(fleet) if device else None, device, drive_gb)
        machine = stack.enter_context(Machine(arch, room, memory_mib=memory_mib))
        machine.power_on()

        def told(line: str) -> None:
            typer.echo(line, err=as_json)

        ready_s = machine.wait_for(READY, patience_s=patience_s, told=told)
        if as_json:
            print_json({"arch": arch, "kvm": machine.kvm, "ready_s": round(ready_s, 1)})
        else:
            how = "KVM" if machine.kvm else "without KVM"
            typer.echo(f"READY after {ready_s:.1f} s ({how})", err=True)
        if not once:
            seen = len(machine.said.splitlines())
            for number, line in enumerate(machine.lines()):
                if line and number >= seen:
                    told(line)


def _prepared(image: Path, room: Path, fleet: fleets.Fleet | None, device: str, gb: int) -> None:
    """Make a drive of an image, provisioned where it is to be somebody."""
    try:
        room.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise DataError(f"Expected: a folder that can be written. Received: {room}: {exc.strerror}.") from exc
    told = {} if fleet is None else dict(provision.files(fleet, device, datetime.now(UTC)))
    prepared(image, room, told, gb=gb)
