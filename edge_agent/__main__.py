"""`shelfkit agent`: the commands of a device; the only place that builds the real parts."""

import os
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from edge_agent import logs, setup
from edge_agent.contracts import events
from edge_agent.contracts.command import lazy_group, new_app, print_json
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.sources import shown
from edge_agent.contracts.times import moment
from edge_agent.replay import replay as replayed

_OTHERS = {
    "slots": "edge_agent.draw_command:slots",
    "preview": "edge_agent.preview:preview",
    "collect": "edge_agent.collect_command:collect",
    "self-test": "edge_agent.selftest:self_test",
    "bench": "edge_agent.bench:bench",
    "unit": "edge_agent.unit:unit",
    "epcis": "edge_agent.epcis_command:epcis",
    "render": "edge_agent.render:render",
    "provision": "edge_agent.provision:provision",
}

app = new_app(
    cls=lazy_group(_OTHERS),
    no_args_is_help=True,
    help="Run the shelf agent; draw slots, aim, collect, check, replay.",
)

Config = Annotated[Path, typer.Option(help="The device's device.yaml.")]


@app.command()
def run(
    config: Config,
    log_format: Annotated[
        logs.Format | None,
        typer.Option(
            help="Of the lines on standard error; json: one object a line.  [env: SHELFKIT_LOG_FORMAT]"
        ),
    ] = None,
) -> None:
    """Watch the shelf, and publish events until told to stop (Ctrl-C or SIGTERM).

    SIGHUP reads the configuration again: it holds as a whole, or the one before goes on. Where it is
    wrong at the start the last good one is used to say so: the device is in safe mode, makes no events,
    and can be reached over MQTT.

    \b
    Examples:
      shelfkit agent run --config device.yaml
      SHELFKIT_LOG=info shelfkit agent run --config device.yaml --log-format json
    """  # noqa: D301 - click needs the character itself to keep the lines
    if log_format is not None:
        logs.set_up(log_format)
    # The broker's side is not needed for anything else here.
    from edge_agent.live import run_live  # noqa: PLC0415
    from edge_agent.wishes import Ending  # noqa: PLC0415

    if run_live(config) is Ending.RESTART:
        # The same process begins anew: whoever watches over it sees no end.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own words


@app.command()
def replay(
    config: Config,
    source: Annotated[str, typer.Option(help="Instead of the config's: file:CLIP, folder:DIR, shelf:.")] = "",
    start: Annotated[str, typer.Option(help="Time of the first frame, RFC 3339.")] = "1970-01-01T00:00:00Z",
) -> None:
    """Print the events of a clip or folder as CloudEvents, one JSON line each; needs no broker.

    Frames are judged as fast as they can be read, at the `fps` of the config; times are those of
    the clip, from --start on.

    \b
    Examples:
      shelfkit agent replay --config device.yaml
      shelfkit agent replay --config device.yaml --source file:monday.mp4 --start 2026-11-23T08:00:00Z
    """  # noqa: D301 - click needs the character itself to keep the lines
    made = setup.read(config)
    if source:
        made = replace(made, config=_with_source(made.config, source))
    for event in replayed(made, start=_moment(start)):
        typer.echo(events.encode(event))


@app.command()
def check(
    config: Config,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Check a device.yaml and all that it names: every problem at once, with its line.

    \b
    Examples:
      shelfkit agent check --config device.yaml
      shelfkit agent check --config device.yaml --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    made = setup.read(config)
    made.classifier()
    manifest = made.bundle.manifest
    if as_json:
        print_json(
            {
                "device": made.config.device,
                "store": made.config.store,
                "shelf": made.planogram.shelf,
                "slots": len(made.planogram.slots),
                "model": made.identity.model_dump(mode="json"),
            }
        )
    else:
        typer.echo(
            f"{config}: good. {made.config.device} in store {made.config.store}, "
            f"shelf {made.planogram.shelf} with {len(made.planogram.slots)} slots, "
            f"model {manifest.name} {manifest.version}"
        )


def _with_source(device: DeviceConfig, source: str) -> DeviceConfig:
    scheme, _, rest = source.partition(":")
    if scheme not in {"file", "folder", "shelf"}:
        raise UsageError(
            f"Expected: --source as file:CLIP, folder:DIR or shelf:. Received: {shown(source)!r}.",
            hint="for live cameras there is `shelfkit agent run`",
        )
    if scheme != "shelf":
        source = f"{scheme}:{Path(rest).resolve()}"
    return device.model_copy(update={"camera": device.camera.model_copy(update={"source": source})})


def _moment(text: str) -> datetime:
    found = moment(text)
    if found is None:
        raise UsageError(
            f"Expected: --start as RFC 3339 with a zone. Received: {text!r}.",
            hint="for example 2026-11-23T08:00:00Z",
        )
    return found


if __name__ == "__main__":
    sys.exit(logs.run(app))
