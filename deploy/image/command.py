"""`shelfkit deploy image`: images for devices, and the wheels that are in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from deploy import fleet as fleets
from deploy.image import wheels as device_wheels
from deploy.image.boards import BOARDS, RPI
from deploy.image.building import Plan, Say, build
from deploy.image.rootfs import cache_folder
from deploy.release.choosing import chosen
from edge_agent.contracts.command import new_app, one_of, print_json
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.release import ARCHITECTURES

app = new_app(no_args_is_help=True, help="Make images for devices.")

Folder = Annotated[Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
_STEPS = 8


@app.callback()
def image() -> None:
    """Make images for devices."""


@app.command("build")
def build_image(  # noqa: PLR0913, PLR0917 - one parameter for each option
    board: Annotated[str, typer.Option(help="uefi-amd64, uefi-arm64, or rpi with --base.")],
    out: Annotated[Path, typer.Option(help="File to write, .img.zst or .img.")],
    fleet: Folder = fleets.DEFAULT,
    release: Annotated[
        int | None, typer.Option(min=1, help="First release of the device; the latest if left out.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Image of Raspberry Pi OS, .img or .img.xz, for --board rpi.")
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(help="Debian mirror, or line of a sources.list; those of this machine if left out."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where root file systems are kept; ~/.cache/shelfkit if left out.")
    ] = None,
    fresh_rootfs: Annotated[
        bool, typer.Option("--fresh-rootfs", help="Make the root file system again, of today's packages.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an image of a release of the fleet: flash it, and tell each device who it is.

    Debian is installed once and kept; with it the same release gives the same image, byte for byte. Nothing
    is mounted, and rights of root are not needed where user namespaces are allowed. A bill of
    materials (CycloneDX) is written beside it.

    \b
    Examples:
      shelfkit deploy image build --board uefi-amd64 --out shelf.img.zst
      shelfkit deploy image build --board uefi-arm64 --release 3 --out shelf.img.zst
      shelfkit deploy image build --board rpi --base raspios.img.xz --out shelf.img.zst
    """  # noqa: D301 - click needs the character itself to keep the lines
    name = one_of("--board", board, list(BOARDS))
    if (base is None) == (name == RPI):
        raise UsageError("Expected: --base with --board rpi, and with no other. Received: otherwise.")
    if out.suffix not in {".zst", ".img"}:
        raise UsageError(f"Expected: --out with the ending .img.zst or .img. Received: {out}.")
    opened = fleets.opened(fleet)
    with _telling() as say:
        plan = Plan(
            board=BOARDS[name],
            fleet=opened,
            release=chosen(opened, release, BOARDS[name].arch),
            cache=cache or cache_folder(),
            base=base,
            mirrors=tuple(mirror or ()),
            fresh=fresh_rootfs,
        )
        built = build(plan, out, say)
    if as_json:
        print_json(
            {
                "image": str(built.image),
                "bill": str(built.bill),
                "release": plan.release.number,
                "raw_bytes": built.raw_bytes,
                "bytes": built.bytes,
            }
        )
    else:
        typer.echo(
            f"{built.image}: release {plan.release.number} for {name}, {built.bytes / 1e6:.0f} MB, "
            f"{built.raw_bytes / 1e9:.1f} GB on a drive; {built.bill.name} says what is in it"
        )


@app.command()
def wheels(
    arch: Annotated[list[str], typer.Option(help="amd64 or arm64; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder; below it one for each architecture.")],
    lock: Annotated[Path, typer.Option(help="The kit's requirements.lock.")] = Path("requirements.lock"),
    as_json: AsJson = False,
) -> None:
    """Fetch the device's own dependencies as the lock says, for `release create --runtime`.

    Nothing of them is run: any machine fetches them for any other. Each wheel must have a hash that
    the lock names.

    \b
    Examples:
      shelfkit deploy image wheels --arch amd64 --arch arm64 --out wheels
    """  # noqa: D301 - click needs the character itself to keep the lines
    known = [item for item in ARCHITECTURES if item != "armhf"]
    found = {name: device_wheels.fetch(lock, one_of("--arch", name, known), out / name) for name in arch}
    if as_json:
        print_json({name: [wheel.name for wheel in items] for name, items in found.items()})
        return
    for name, items in found.items():
        size = sum(wheel.stat().st_size for wheel in items) / 1e6
        typer.echo(f"{out / name}: {len(items)} wheels, {size:.0f} MB")


@contextmanager
def _telling() -> Iterator[Say]:
    """Give what shows each step: as a bar on a terminal, and not at all elsewhere."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=_STEPS)
        started = False

        def say(what: str) -> None:
            nonlocal started
            progress.update(task, description=what, advance=1 if started else 0)
            started = True

        yield say
