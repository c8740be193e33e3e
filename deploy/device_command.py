"""`shelfkit deploy device`: who belongs to the fleet."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy import authority as authorities
from deploy import fleet as fleets
from deploy import inventory, starting
from deploy.broker import update_words
from deploy.fleet import Device, Fleet
from deploy.inventory import Asked
from deploy.keys import PassphraseFile, read_passphrase
from deploy.pki import DEVICE_DAYS, MOST_DAYS
from edge_agent.contracts.command import lazy_group, new_app, one_of, print_json
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.release import ARCHITECTURES
from edge_agent.contracts.times import rfc3339

_OTHERS: dict[str, str] = {
    "rollback": "deploy.rollout.device_command:rollback",
    "pin": "deploy.rollout.device_command:pin",
    "unpin": "deploy.rollout.device_command:unpin",
}

app = new_app(cls=lazy_group(_OTHERS), no_args_is_help=True, help="Devices of the fleet.")

Folder = Annotated[Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Name = Annotated[str, typer.Argument(help="Of the device.")]
Request = Annotated[
    Path | None,
    typer.Option("--csr", help="Certificate request in PEM, for a key that stays on the device."),
]
Days = Annotated[int, typer.Option(min=1, max=MOST_DAYS, help="How long the certificate holds.")]


@app.callback()
def device() -> None:
    """Devices of the fleet."""


@app.command()
def add(  # noqa: PLR0913, PLR0917 - one parameter for each option
    name: Name,
    store: Annotated[str, typer.Option(help="The store that it stands in.")],
    shelf: Annotated[str, typer.Option(help="The shelf that it watches.")],
    folder: Folder = fleets.DEFAULT,
    camera: Annotated[str, typer.Option(help="As `camera.source` in device.yaml.")] = starting.DEFAULT_CAMERA,
    planogram: Annotated[
        Path | None,
        typer.Option(help="planogram.yaml that was drawn before; that of a rendered shelf if left out."),
    ] = None,
    broker: Annotated[str | None, typer.Option(help="HOST[:PORT]; the fleet's own if left out.")] = None,
    updates: Annotated[
        str | None, typer.Option(help="URL that it fetches releases from; the fleet's own if left out.")
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(help="Where its clock stands, as Europe/Berlin; that of its machine if left out."),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="amd64, arm64 or armhf.")] = None,
    host: Annotated[str | None, typer.Option(help="Where SSH finds it, for `shelfkit deploy push`.")] = None,
    csr: Request = None,
    days: Days = DEVICE_DAYS,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Add a device: its key and certificate, and the files that it is flashed with.

    Its folder holds device.yaml, planogram.yaml and reference.jpg as a beginning: change them until
    they fit the shelf, with `shelfkit agent slots` for the planogram.

    \b
    Examples:
      shelfkit deploy device add cam-12-01 --store 0417 --shelf 12
      shelfkit deploy device add cam-12-01 --store 0417 --shelf 12 --planogram shelf/planogram.yaml
      shelfkit deploy device add cam-12-01 --store 0417 --shelf 12 --zone Europe/Berlin --csr request.pem
      shelfkit deploy device add sim-1 --store lab --shelf 1 --camera shelf:seed=7 --broker 10.0.2.2:8883
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(folder)
    info = fleets.info_of(opened)
    where = broker or info.broker
    if where is None:
        raise UsageError("Expected: --broker HOST[:PORT]. Received: none, and the fleet names none.")
    wanted = starting.Wanted(
        device=name,
        store=store,
        shelf=shelf,
        broker=where,
        camera=camera,
        planogram=planogram,
        updates=updates or info.updates,
        zone=zone,
    )
    line = inventory.add(
        opened,
        authorities.opened(opened, read_passphrase(passphrase_file)),
        wanted,
        datetime.now(UTC),
        asked=Asked(request=csr, days=days),
        arch=None if arch is None else one_of("--arch", arch, ARCHITECTURES),
        host=host,
    )
    if as_json:
        print_json(_told(opened, line))
        return
    typer.echo(f"{opened.device_folder(name)}: {name}, store {store}, shelf {shelf}; {_until(opened, line)}")
    if planogram is None:
        typer.echo("planogram.yaml is that of a rendered shelf: draw your own with `shelfkit agent slots`")


@app.command("list")
def listed(folder: Folder = fleets.DEFAULT, as_json: AsJson = False) -> None:
    """List the devices of the fleet, and how long their certificates hold.

    \b
    Examples:
      shelfkit deploy device list
      shelfkit deploy device list --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(folder)
    if as_json:
        print_json({"devices": [_told(opened, line) for line in opened.devices()]})
        return
    for line in opened.devices():
        pinned = ", pinned" if line.pinned else ""
        typer.echo(
            f"{line.device:<24} store {line.store:<10} shelf {line.shelf:<10} {_until(opened, line)}{pinned}"
        )


@app.command()
def show(name: Name, folder: Folder = fleets.DEFAULT, as_json: AsJson = False) -> None:
    """Show a device, and every certificate that it was given.

    \b
    Examples:
      shelfkit deploy device show cam-12-01
      shelfkit deploy device show cam-12-01 --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(folder)
    line = opened.device(name)
    if as_json:
        print_json(_told(opened, line))
        return
    typer.echo(f"{line.device}: store {line.store}, shelf {line.shelf}, added {line.added:%Y-%m-%d}")
    typer.echo(f"files: {opened.device_folder(name)}")
    for item in authorities.issued(opened.device_folder(name)):
        told = item.told
        state = f"revoked {item.revoked:%Y-%m-%d}" if item.revoked else f"until {told.not_after:%Y-%m-%d}"
        typer.echo(f"certificate {told.serial}: from {told.not_before:%Y-%m-%d}, {state}")


@app.command()
def renew(
    name: Name,
    folder: Folder = fleets.DEFAULT,
    csr: Request = None,
    days: Days = DEVICE_DAYS,
    reinstate: Annotated[
        bool, typer.Option("--reinstate", help="Also a device that was revoked; its old keys stay out.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a device another key and certificate, to be flashed or pushed onto it.

    A device at work needs this only where it was away for too long: it renews by itself, through
    `shelfkit deploy ca serve`.

    \b
    Examples:
      shelfkit deploy device renew cam-12-01
      shelfkit deploy device renew cam-12-01 --reinstate
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(folder)
    line = inventory.renew(
        opened,
        authorities.opened(opened, read_passphrase(passphrase_file)),
        name,
        datetime.now(UTC),
        asked=Asked(request=csr, days=days),
        reinstate=reinstate,
    )
    if as_json:
        print_json(_told(opened, line))
    else:
        typer.echo(f"{name}: {_until(opened, line)}; bring it there: shelfkit deploy flash or push")


@app.command()
def revoke(
    name: Name,
    folder: Folder = fleets.DEFAULT,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Take back every certificate of a device, and sign the list that brokers read.

    A broker takes it in with `shelfkit deploy broker --update`, and when it is started again.

    \b
    Examples:
      shelfkit deploy device revoke cam-12-01
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(folder)
    authority = authorities.opened(opened, read_passphrase(passphrase_file))
    count = inventory.revoke(opened, authority, name, datetime.now(UTC))
    if as_json:
        print_json(_told(opened, opened.device(name)))
        return
    typer.echo(f"{name}: {count} certificates taken back; bring {opened.revocation_list} to the broker:")
    typer.echo(f"  {update_words(opened)}, and start it again")


def _told(opened: Fleet, line: Device) -> dict[str, object]:
    """Return a line of the inventory with what was given since: devices renew by themselves."""
    value = line.model_dump(mode="json")
    held = authorities.issued(opened.device_folder(line.device))
    if held:
        value["certificate"] = held[-1].told.model_dump(mode="json")
    value["certificates"] = [
        item.told.model_dump(mode="json") | {"revoked": rfc3339(item.revoked) if item.revoked else None}
        for item in held
    ]
    value["folder"] = str(opened.device_folder(line.device))
    return value


def _until(opened: Fleet, line: Device) -> str:
    latest = inventory.latest(opened, line.device)
    if line.revoked is not None:
        return f"revoked {line.revoked:%Y-%m-%d}"
    return "no certificate" if latest is None else f"certificate until {latest.not_valid_after_utc:%Y-%m-%d}"
