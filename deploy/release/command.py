"""`shelfkit deploy release`: what the fleet is to run."""

import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy import fleet as fleets
from deploy.bars import bars
from deploy.keys import read_passphrase
from deploy.release.making import Parts, make
from deploy.release.repository import AGED, LIFE, Keys, Repository
from deploy.release.serving import server
from edge_agent.contracts.command import new_app, one_of, print_json
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.release import ARCHITECTURES
from edge_agent.contracts.times import moment

app = new_app(no_args_is_help=True, help="Make, sign, list and serve releases.")

Folder = Annotated[Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="The fleet's folder.")]
Passphrase = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File with the passphrase of encrypted keys.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.callback()
def release() -> None:
    """Make, sign, list and serve releases."""


@app.command()
def create(  # noqa: PLR0913, PLR0917 - one parameter for each option
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    fleet: Folder = fleets.DEFAULT,
    number: Annotated[
        int | None, typer.Option(min=1, help="Of the release; the next one if left out.")
    ] = None,
    arch: Annotated[list[str] | None, typer.Option(help="amd64, arm64 or armhf; may be repeated.")] = None,
    agent: Annotated[Path | None, typer.Option(help="Wheel of shelfkit.")] = None,
    from_source: Annotated[
        bool, typer.Option("--from-source", help="The agent that is installed here (default).")
    ] = False,
    reuse_agent: Annotated[
        bool, typer.Option("--reuse-agent", help="The agent of the release before.")
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option(help="Folder of the device's wheels; packed where they are others than before."),
    ] = None,
    reuse_runtime: Annotated[
        bool, typer.Option("--reuse-runtime", help="The runtime of the release before (default).")
    ] = False,
    downgrade: Annotated[
        bool, typer.Option("--downgrade", help="Devices beyond this number may go back to it.")
    ] = False,
    created: Annotated[str, typer.Option(help="RFC 3339; now if left out.")] = "",
    passphrase: Passphrase = None,
    as_json: AsJson = False,
) -> None:
    """Prove a bundle, pack what is new, and offer it to the fleet under the next number.

    The bundle's golden vectors are checked first. Archives are named by their hash: what the release
    before has as well is not packed, kept or sent again. Where the targets key is kept elsewhere the
    release waits, unseen by devices, for `release sign --key`.

    \b
    Examples:
      shelfkit deploy release create --bundle bundle --arch amd64 --arch arm64 --runtime wheels
      shelfkit deploy release create --bundle bundle --reuse-agent
    """  # noqa: D301 - click needs the character itself to keep the lines
    if (runtime and reuse_runtime) or [bool(agent), from_source, reuse_agent].count(True) > 1:
        raise UsageError("Expected: one source for each part. Received: two.")
    archs = [one_of("--arch", item, ARCHITECTURES) for item in arch or ["amd64"]]
    now = datetime.now(UTC)
    at = moment(created) if created else now
    if at is None:
        raise UsageError(f"Expected: --created as RFC 3339. Received: {created!r}.")
    repository = _opened(fleet, passphrase)
    if not repository.begun:
        repository.begin(now)
    parts = Parts(
        bundle=bundle,
        wheels=runtime,
        wheel=agent,
        reuse_agent=reuse_agent,
        number=number,
        downgrade=downgrade,
    )
    with bars() as told:
        made = make(repository, parts, archs, at, told)
    seen = repository.offer(made, now)
    if as_json:
        print_json({"number": made[0].number, "arch": archs, "offered": seen})
    else:
        state = "offered" if seen else "waits for `shelfkit deploy release sign --key targets.pem`"
        typer.echo(f"release {made[0].number} for {', '.join(archs)}: {state}")


@app.command()
def sign(
    fleet: Folder = fleets.DEFAULT,
    targets: Annotated[
        bool, typer.Option("--targets", help="The list of releases too, for another year.")
    ] = False,
    key: Annotated[Path | None, typer.Option(help="The targets key, if it is kept elsewhere.")] = None,
    passphrase: Passphrase = None,
) -> None:
    """Sign again what expires, and what waits for a signature; a timer runs this every day.

    Snapshot and timestamp hold for 30 days: without it devices refuse the repository as expired, and
    go on with what they run. The list of releases holds for a year; in its last 60 days it is signed
    too where its key is here, and else this says so.

    \b
    Examples:
      shelfkit deploy release sign
      shelfkit deploy release sign --key /media/stick/targets.pem --passphrase-file phrase
    """  # noqa: D301 - click needs the character itself to keep the lines
    repository = _opened(fleet, passphrase, {"targets": key} if key else None)
    now = datetime.now(UTC)
    ends = repository.sign(now, targets=targets or key is not None)
    typer.echo(f"{repository.folder}: signed until {min(ends, now + LIFE['timestamp']):%Y-%m-%d}")
    if ends - now < AGED:
        typer.echo(
            f"the list of releases ends {ends:%Y-%m-%d}: bring its key, "
            "shelfkit deploy release sign --key targets.pem",
            err=True,
        )


@app.command("list")
def listed(fleet: Folder = fleets.DEFAULT, as_json: AsJson = False) -> None:
    """List what is offered.

    \b
    Examples:
      shelfkit deploy release list
      shelfkit deploy release list --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    repository = _opened(fleet)
    rows = [
        repository.release(number, arch)
        for number, archs in (repository.numbers() if repository.begun else {}).items()
        for arch in archs
    ]
    if as_json:
        print_json({"releases": [asdict(row) for row in rows]})
        return
    for row in rows:
        size = sum(part.size for part in row.components.values()) / 1e6
        back = ", downgrade" if row.downgrade else ""
        typer.echo(
            f"{row.number:>4}  {row.arch:<6} {row.bundle.name} {row.bundle.version}, "
            f"agent {row.agent.version}, {size:.1f} MB, {row.created}{back}"
        )


@app.command("rotate-root")
def rotate_root(
    key: Annotated[str, typer.Argument(help="root-1, root-2, targets, snapshot or timestamp.")],
    fleet: Folder = fleets.DEFAULT,
    passphrase: Passphrase = None,
) -> None:
    """Replace a key; devices follow by themselves, because those before have signed it.

    \b
    Examples:
      shelfkit deploy release rotate-root timestamp
      shelfkit deploy release rotate-root root-1
    """  # noqa: D301 - click needs the character itself to keep the lines
    version = _opened(fleet, passphrase).rotate(key, datetime.now(UTC))
    typer.echo(f"{key}: replaced; root {version}")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="New folder, for a stick or a web server.")],
    fleet: Folder = fleets.DEFAULT,
) -> None:
    """Copy what devices fetch; it is public, and no key is in it.

    \b
    Examples:
      shelfkit deploy release export /media/stick/shelfkit
    """  # noqa: D301 - click needs the character itself to keep the lines
    try:
        shutil.copytree(_opened(fleet).folder, out, ignore=shutil.ignore_patterns(".*"))
    except (OSError, shutil.Error) as exc:
        raise DataError(f"Expected: a new folder that can be written. Received: {out}: {exc}.") from exc
    typer.echo(f"{out}: `updates: {{url: file://...}}` of a device leads there")


@app.command()
def serve(
    fleet: Folder = fleets.DEFAULT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8443,
    certificate: Annotated[
        str, typer.Option(help="Name of the service in the fleet whose certificate is shown.")
    ] = "svc-releases",
) -> None:
    """Serve the fleet's releases over HTTPS until stopped (Ctrl-C); any web server will do as well.

    \b
    Examples:
      shelfkit deploy release serve
      shelfkit deploy release serve --host 0.0.0.0 --port 443
    """  # noqa: D301 - click needs the character itself to keep the lines
    opened = fleets.opened(fleet)
    folder = opened.service(certificate)
    made = server(
        opened.repository,
        host,
        port,
        certificate=folder / f"{certificate}.pem",
        key=folder / f"{certificate}.key",
    )
    typer.echo(f"https://{host}:{made.server_port}/ serves {opened.repository}")
    with made:
        made.serve_forever()


def _opened(
    fleet: Path, passphrase: Path | None = None, elsewhere: dict[str, Path] | None = None
) -> Repository:
    opened = fleets.opened(fleet)
    return Repository(opened.repository, Keys(opened.keys, read_passphrase(passphrase), elsewhere))
