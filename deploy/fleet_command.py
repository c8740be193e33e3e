"""`shelfkit deploy fleet`: its name, its authority, its services, and the keys of its releases."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy import authority as authorities
from deploy import fleet as fleets
from deploy.beginning import SERVICES, begin
from deploy.broker import update_words
from deploy.keys import PassphraseFile, read_passphrase
from deploy.pki import MOST_DAYS
from deploy.release.keys import NAMES
from deploy.service import add, renew, revoke
from edge_agent.contracts.command import new_app, print_json
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.times import rfc3339

app = new_app(no_args_is_help=True, help="Begin a fleet; certificates of its services.")

Folder = Annotated[Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.callback()
def fleet() -> None:
    """Begin a fleet; certificates of its services."""


@app.command()
def init(
    name: Annotated[str, typer.Option(help="What people call the fleet.")],
    folder: Annotated[
        Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="New folder of the fleet.")
    ] = fleets.DEFAULT,
    broker_name: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name or address that the broker is reached under; may be repeated. "
            "Devices are told the first. localhost if left out."
        ),
    ] = None,
    release_name: Annotated[
        list[str] | None,
        typer.Option(
            help="The same of the server of releases; may be repeated. As the broker's if left out."
        ),
    ] = None,
    updates: Annotated[
        str | None, typer.Option(help="URL that devices fetch releases from, unless told otherwise.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make a fleet's folder: its authority, the certificates of its services, the keys of its releases.

    Two keys sign the root of trust; keep one of them, and the targets key, away from this machine where
    you can. Keys lie in files that their owner alone may read, and are never printed; with a passphrase
    those of the authority and of releases are encrypted. Keys of services are not: they start by
    themselves.

    \b
    Examples:
      shelfkit deploy fleet init --name "Corner shops" --broker-name mqtt.store.example
      shelfkit deploy fleet init --name lab --broker-name 192.168.1.10 --broker-name broker.local
      shelfkit deploy fleet init --name lab --fleet /srv/fleet --passphrase-file phrase
    """  # noqa: D301 - click needs the character itself to keep the lines
    hosts = tuple(broker_name or ("localhost", "127.0.0.1"))
    made = begin(
        folder,
        name,
        datetime.now(UTC),
        read_passphrase(passphrase_file),
        broker_names=hosts,
        release_names=tuple(release_name or hosts),
        updates=updates,
    )
    if as_json:
        print_json(
            {
                "fleet": str(folder),
                "name": name,
                "keys": list(NAMES),
                "services": list(SERVICES),
                "broker": hosts[0],
            }
        )
        return
    typer.echo(f"{folder}: the fleet {name!r}; devices find its broker at {hosts[0]}")
    typer.echo(f"keys of releases: {made.keys}")
    typer.echo(f"authority: {made.ca_certificate}; services: {', '.join(SERVICES)}")


@app.command()
def service(
    name: Annotated[str, typer.Argument(help="Of the service: the common name of its certificate.")],
    folder: Folder = fleets.DEFAULT,
    server_name: Annotated[
        list[str] | None,
        typer.Option(help="For a server: host name or address that it is reached under; may be repeated."),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, max=MOST_DAYS, help="How long it holds.")] = None,
    again: Annotated[
        bool,
        typer.Option("--renew", help="Another key and certificate; those before hold on until they end."),
    ] = False,
    take_back: Annotated[
        bool,
        typer.Option("--revoke", help="Take back every certificate of it, and sign the list for brokers."),
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a service of the store its key and certificate: a consumer of events, or a server.

    What it may do is the broker's to say: `shelfkit deploy broker --consumer NAME`.

    \b
    Examples:
      shelfkit deploy fleet service stock-alerts
      shelfkit deploy fleet service broker --renew
      shelfkit deploy fleet service broker --renew --server-name mqtt.store.example
      shelfkit deploy fleet service stock-alerts --revoke
    """  # noqa: D301 - click needs the character itself to keep the lines
    if again and take_back:
        raise UsageError("Expected: --renew or --revoke. Received: both.")
    opened, now = fleets.opened(folder), datetime.now(UTC)
    authority = authorities.opened(opened, read_passphrase(passphrase_file))
    place, names = opened.service(name), tuple(server_name or ())
    if take_back:
        count = revoke(opened, authority, name, now)
        if as_json:
            print_json({"service": name, "revoked": count})
        else:
            typer.echo(
                f"{name}: {count} certificates taken back; bring {opened.revocation_list} to the broker:"
            )
            typer.echo(f"  {update_words(opened)}, and start it again")
        return
    made = (renew if again else add)(opened, authority, name, now, names=names, days=days)
    if as_json:
        files = {"certificate": str(place / f"{name}.pem"), "key": str(place / f"{name}.key")}
        print_json({"service": name, "expires": rfc3339(made.not_valid_after_utc), **files})
    else:
        typer.echo(f"{place}: {name}.pem and {name}.key, until {made.not_valid_after_utc:%Y-%m-%d}")


@app.command()
def show(folder: Folder = fleets.DEFAULT, as_json: AsJson = False) -> None:
    """Show a fleet: its authority, its services, and when their certificates end.

    \b
    Examples:
      shelfkit deploy fleet show
      shelfkit deploy fleet show --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened, now = fleets.opened(folder), datetime.now(UTC)
    info = fleets.info_of(opened)
    ends = authorities.read_certificate(opened.ca_certificate).not_valid_after_utc
    rows = []
    for name in opened.services():
        latest = authorities.issued(opened.service(name))[-1]
        state = "revoked" if latest.revoked else "holds" if latest.holds(now) else "expired"
        rows.append(
            {"name": name, "expires": rfc3339(latest.certificate.not_valid_after_utc), "state": state}
        )
    if as_json:
        print_json({"name": info.name, "broker": info.broker, "ca_expires": rfc3339(ends), "services": rows})
        return
    typer.echo(f"{info.name}: broker {info.broker}; authority until {ends:%Y-%m-%d}")
    for row in rows:
        typer.echo(f"  {row['name']:<20} {row['state']:<8} until {row['expires'][:10]}")
