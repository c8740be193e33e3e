"""`shelfkit deploy fleet`: its name, and the keys that its releases are signed with."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy import fleet as fleets
from deploy.fleet import Fleet, FleetInfo
from deploy.release.keys import NAMES, read_passphrase, write_key
from deploy.release.repository import Keys, Repository
from edge_agent.contracts.command import new_app, print_json
from edge_agent.contracts.errors import ConfigError, DataError
from edge_agent.contracts.files import written_beside

app = new_app(no_args_is_help=True, help="Begin a fleet.")


@app.callback()
def fleet() -> None:
    """Begin a fleet."""


@app.command()
def init(
    name: Annotated[str, typer.Option(help="What people call the fleet.")],
    folder: Annotated[
        Path, typer.Option("--fleet", envvar=fleets.ENVIRONMENT, help="New folder of the fleet.")
    ] = fleets.DEFAULT,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with a passphrase that the keys are encrypted with.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make a fleet's folder: its name, the keys of its releases, and an empty repository.

    Two keys sign the root of trust; keep one of them, and the targets key, away from this machine where
    you can. Keys lie in files that their owner alone may read, and are never printed.

    \b
    Examples:
      shelfkit deploy fleet init --name "Corner shops"
      shelfkit deploy fleet init --name "Corner shops" --fleet /srv/fleet --passphrase-file phrase
    """  # noqa: D301 - click needs the character itself to keep the lines
    made = begin(folder, name, datetime.now(UTC), read_passphrase(passphrase_file))
    if as_json:
        print_json({"fleet": str(folder), "name": name, "keys": list(NAMES)})
    else:
        typer.echo(f"{folder}: the fleet {name!r}; its keys: {made.keys}")


def begin(folder: Path, name: str, now: datetime, passphrase: bytes | None = None) -> Fleet:
    """Make a fleet; it appears whole or not at all.

    Args:
        folder: New.
        name: What people call it.
        now: When it begins.
        passphrase: That its keys are encrypted with.

    Raises:
        ConfigError: The folder is there already.
        DataError: It cannot be written.
    """
    if folder.exists():
        raise ConfigError(
            f"Expected: no {folder} yet. Received: one that is there.", hint="name another one with --fleet"
        )
    try:
        with written_beside(folder) as staged:
            made = Fleet(staged)
            made.write(made.info, FleetInfo(name=name, created=now).model_dump_json(indent=2).encode())
            for key in NAMES:
                write_key(made.keys / f"{key}.pem", passphrase)
            Repository(made.repository, Keys(made.keys, passphrase)).begin(now)
    except OSError as exc:
        raise DataError(
            f"Expected: a place for a fleet. Received: {folder}: {exc.strerror}.",
            hint="name another: --fleet",
        ) from exc
    return Fleet(folder)
