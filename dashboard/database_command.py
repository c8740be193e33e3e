"""`shelfkit dashboard migrate | backup | restore | quarantine | forget | upkeep`: the database by hand."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dashboard import backup as copies
from dashboard import latest, schema
from dashboard.accounts.records import Accounts
from dashboard.accounts.tables import beside, open_tables
from dashboard.places import files_beside
from dashboard.store import Store
from dashboard.upkeep import Policy, look_after, read_age, zones_of
from edge_agent.contracts import events
from edge_agent.contracts.command import print_json
from edge_agent.contracts.errors import UsageError

Database = Annotated[str, typer.Option(help="sqlite:///FILE or postgresql://user:password@host/name.")]
Files = Annotated[
    Path | None,
    typer.Option(help="Folder of drafts and pictures to label.", show_default="beside the database"),
]
Json = Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")]

DEFAULT = "sqlite:///shelfkit.sqlite"


def migrate(database: Database = DEFAULT, as_json: Json = False) -> None:
    """Bring a database to the version of this program. A recorder does it by itself when it starts.

    \b
    Examples:
      shelfkit dashboard migrate --database postgresql://kit:secret@db/kit
    """  # noqa: D301 - click needs the character itself to keep the lines
    engine = schema.open_engine(database)
    try:
        steps = schema.upgrade(engine)
        found = schema.version(engine)
    finally:
        engine.dispose()
    if as_json:
        print_json({"version": found, "steps": steps})
    else:
        typer.echo(f"version {found}" + (f", was brought there by {', '.join(steps)}" if steps else ""))


def backup(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    database: Database = DEFAULT,
    files: Files = None,
    as_json: Json = False,
) -> None:
    """Write everything that the recorder has into one SQLite file, while it goes on recording.

    Events, accounts (not who is logged in), settings, drafts of planograms, pictures and their labels. The
    same file whichever database it comes from; `restore` brings it into either.

    \b
    Examples:
      shelfkit dashboard backup recorder-backup.sqlite
      shelfkit dashboard backup recorder-backup.sqlite --database postgresql://kit:secret@db/kit
    """  # noqa: D301 - click needs the character itself to keep the lines
    with _kept(database, files) as kept:
        _tell(copies.backup(kept, out), as_json)


def restore(
    source: Annotated[Path, typer.Argument(help="A file that `backup` has written.")],
    database: Database = DEFAULT,
    files: Files = None,
    as_json: Json = False,
) -> None:
    """Bring a backup into a new, empty database: SQLite or PostgreSQL, whichever it came from.

    What came after the backup was acknowledged already: devices no longer have it, and it shows as gaps.

    \b
    Examples:
      shelfkit dashboard restore recorder-backup.sqlite --database sqlite:///new.sqlite
      shelfkit dashboard restore recorder-backup.sqlite --database postgresql://kit:secret@db/kit
    """  # noqa: D301 - click needs the character itself to keep the lines
    with _kept(database, files) as kept:
        _tell(copies.restore(source, kept), as_json)


def upkeep(
    database: Database = DEFAULT,
    keep: Annotated[str, typer.Option(help="Age from which on events go: 400d, or forever.")] = "forever",
    keep_days: Annotated[str, typer.Option(help="The same for days that are rolled up.")] = "forever",
    as_json: Json = False,
) -> None:
    """Roll up the days that are over, prepare months, remove what is old: once, now.

    A recorder does it every hour by itself.

    \b
    Examples:
      shelfkit dashboard upkeep --keep 400d
    """  # noqa: D301 - click needs the character itself to keep the lines
    policy = Policy(read_age(keep), read_age(keep_days))
    with (
        contextlib.closing(Store(database)) as store,
        contextlib.closing(Accounts(beside(database))) as accounts,
    ):
        _tell(look_after(store, policy, datetime.now(UTC), zones_of(accounts.settings)), as_json)


def quarantine(
    database: Database = DEFAULT,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The latest so many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show messages that devices sent and that were none, newest first, with the reason.

    \b
    Examples:
      shelfkit dashboard quarantine
      shelfkit dashboard quarantine --limit 1000 --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    with contextlib.closing(Store(database)) as store:
        found = store.quarantined(limit)
    if as_json:
        shown = [{**row, "body": row["body"].decode("utf-8", "replace")} for row in found]
        print_json({"quarantine": shown})
        return
    for row in found:
        typer.echo(f"{row['received']}  {row['topic']!r}  {row['size']} bytes\n  {row['reason']!r}")


def forget(
    store: Annotated[str, typer.Argument(help="Store of the device.")],
    device: Annotated[str, typer.Argument(help="The device.")],
    database: Database = DEFAULT,
    as_json: Json = False,
) -> None:
    """Take a device that is gone out of every page and list. Its events, gaps and days stay.

    Should it say something again it is there again; what a broker has kept of it does not bring it back.

    \b
    Examples:
      shelfkit dashboard forget 0417 cam-12-01
      shelfkit dashboard forget 0417 cam-12-01 --database postgresql://kit:secret@db/kit
    """  # noqa: D301 - click needs the character itself to keep the lines
    with contextlib.closing(Store(database)) as kept, kept.writing() as connection:
        there = latest.forget(connection, events.source(store, device), datetime.now(UTC))
    if not there:
        raise UsageError(
            f"Expected: a device that the recorder knows. Received: {device} of store {store}.",
            hint="the page `Devices` and /api/v1/devices say which there are",
        )
    _tell({"forgotten": 1}, as_json)


@contextlib.contextmanager
def _kept(database: str, files: Path | None) -> Iterator[copies.Kept]:
    with contextlib.closing(Store(database)) as store:
        accounts = open_tables(beside(database))
        try:
            yield copies.Kept(store, accounts, files or files_beside(database))
        finally:
            accounts.dispose()


def _tell(counts: dict[str, int], as_json: bool) -> None:  # noqa: FBT001 - the option itself
    if as_json:
        print_json(counts)
    else:
        typer.echo(", ".join(f"{name} {count}" for name, count in counts.items()))
