"""`shelfkit deploy`: from a bundle to a fleet of devices that run it, and what a store needs for them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy import fleet as fleets
from deploy.broker import BrokerPlan, update_broker, write_broker
from edge_agent.contracts.command import lazy_group, new_app, print_json, run_command
from edge_agent.contracts.errors import UsageError

_OTHERS = {
    "ca": "deploy.ca_command:app",
    "device": "deploy.device_command:app",
    "drives": "deploy.drives:drives",
    "flash": "deploy.flash.command:flash_image",
    "fleet": "deploy.fleet_command:app",
    "image": "deploy.image.command:app",
    "push": "deploy.push.command:push_release",
    "release": "deploy.release.command:app",
    "sim": "deploy.sim.command:app",
    "rollout": "deploy.rollout.command:app",
    "run": "deploy.run:run",
    "store": "deploy.store.command:store",
}

app = new_app(
    cls=lazy_group(_OTHERS),
    no_args_is_help=True,
    help="Make a fleet: identities, releases, images, devices, rollouts; and what a store needs for them.",
)


@app.callback()
def deploy() -> None:
    """Make a fleet, bring releases onto its devices, and set up a store."""


@app.command()
def broker(  # noqa: PLR0913, PLR0917 - one parameter for each option
    out: Annotated[Path, typer.Option(help="New folder for the configuration.")],
    store: Annotated[str, typer.Option(help="The store; devices may speak for this one alone.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: 8883, or 1883 with --loopback.")] = 0,
    ca: Annotated[str, typer.Option(help="CA of the devices' certificates, on the broker.")] = "ca.pem",
    certificate: Annotated[str, typer.Option(help="The broker's own, on the broker.")] = "broker.pem",
    key: Annotated[str, typer.Option(help="Its key, on the broker.")] = "broker.key",
    recorder: Annotated[
        list[str] | None,
        typer.Option(help="Certificate name of a recorder besides svc-recorder; may be repeated."),
    ] = None,
    consumer: Annotated[
        list[str] | None, typer.Option(help="Certificate name of a consumer of events; may be repeated.")
    ] = None,
    home_assistant: Annotated[
        list[str] | None,
        typer.Option(
            help="Certificate name of a Home Assistant, a consumer that also finds devices by itself."
        ),
    ] = None,
    operator: Annotated[
        list[str] | None,
        typer.Option(help="Certificate name of one more who may command devices; may be repeated."),
    ] = None,
    fleet: Annotated[
        Path | None,
        typer.Option(
            envvar=fleets.ENVIRONMENT, help="The fleet whose certificates are put beside the configuration."
        ),
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Bring certificates, what was revoked and the access list in --out up to date."
        ),
    ] = False,
    loopback: Annotated[
        bool, typer.Option("--loopback", help="For one machine alone: 127.0.0.1, no certificates.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write a ready mosquitto configuration for a store.

    Everybody shows a certificate and is known by its common name: a device may write only below its
    own name in its own store, the recorder (svc-recorder) may acknowledge, operators (svc-operator and
    its like) may command, consumers may listen. Nothing is queued with a limit, because mosquitto's
    default drops silently.

    \b
    Examples:
      shelfkit deploy broker --store 0417 --fleet fleet --out broker
      shelfkit deploy broker --store 0417 --fleet fleet --consumer stock-alerts --out broker
      shelfkit deploy broker --update --fleet fleet --recorder svc-recorder-2 --out broker
      shelfkit deploy broker --loopback --out broker && mosquitto -c broker/mosquitto.conf
    """  # noqa: D301 - click needs the character itself to keep the lines
    if [bool(store), loopback, update].count(True) != 1:
        raise UsageError(
            "Expected: one of --store, --loopback and --update. Received: another number of them."
        )
    opened = None if fleet is None or loopback else fleets.opened(fleet)
    if update:
        written = update_broker(
            out,
            opened,
            recorders=recorder or (),
            consumers=consumer or (),
            home_assistants=home_assistant or (),
            operators=operator or (),
        )
        if as_json:
            print_json({"files": [str(path) for path in written]})
        else:
            names = ", ".join(path.name for path in written)
            typer.echo(f"{out}: {names}; start mosquitto again: it reads what was revoked at its start alone")
        return
    plan = BrokerPlan(
        store=store,
        port=port or (1883 if loopback else 8883),
        loopback=loopback,
        ca=ca,
        certificate=certificate,
        key=key,
        recorders=tuple(recorder or ()),
        consumers=tuple(consumer or ()),
        home_assistants=tuple(home_assistant or ()),
        operators=tuple(operator or ()),
    )
    written = write_broker(out, plan, opened)
    if as_json:
        print_json({"files": [str(path) for path in written], "port": plan.port})
    else:
        typer.echo(f"{out}: {', '.join(path.name for path in written)}; start: mosquitto -c {written[0]}")


if __name__ == "__main__":
    sys.exit(run_command(app))
