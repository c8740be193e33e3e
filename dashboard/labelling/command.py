"""`shelfkit dashboard labels`: the same from the command line."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from dashboard.labelling.exchange import export_to, import_from, names
from dashboard.labelling.queue import Queue
from dashboard.queries import Queries
from dashboard.schema import away, open_engine
from edge_agent.contracts.command import new_app, print_json

app = new_app(help="Pictures that wait for a label, and the data set that comes of them.")

Files = Annotated[Path, typer.Option(help="The dashboard's --files, for example shelfkit.files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")]


@app.command("import")
def take(
    source: Annotated[Path, typer.Argument(help="Folder of `agent collect --hard`, or a zip of one.")],
    files: Files,
    *,
    as_json: AsJson = False,
) -> None:
    """Put hard examples into the queue of the labelling page; what is there already stays as it is.

    \b
    Examples:
      shelfkit agent collect --hard --config device.yaml --out hard --clear
      shelfkit dashboard labels import hard --files shelfkit.files
    """  # noqa: D301 - click needs the character itself to keep the lines
    found = import_from(source, Queue(files / "labels"), "")
    if as_json:
        told = {"new": found.new, "known": found.known, "left_out": found.left_out}
        print_json({**told, "refused": list(found.refused)})
        return
    typer.echo(f"{found.new} new pictures, {found.known} known ones, {found.left_out} rows left out")
    for line in found.refused:
        typer.echo(f"  {line}", err=True)


@app.command("export")
def give(
    out: Annotated[Path, typer.Option(help="New folder for the pictures and their index.csv.")],
    files: Files,
    *,
    database: Annotated[
        str | None, typer.Option(help="The recorder's; it knows names and GTINs of products.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write everything that is labelled as a data set that `shelfkit train` takes as it is.

    \b
    Examples:
      shelfkit dashboard labels export --files shelfkit.files --out labelled
      shelfkit dashboard labels export --files shelfkit.files --out labelled --database sqlite:///shelfkit.sqlite
      shelfkit train labelled --out run
    """  # noqa: D301 - click needs the character itself to keep the lines
    count = export_to(out, Queue(files / "labels"), _names(database) if database else {})
    if as_json:
        print_json({"out": str(out), "pictures": count})
        return
    typer.echo(f"{out}: {count} labelled pictures; train with: shelfkit train {out} --out run")


def _names(database: str) -> dict[str, tuple[str, str]]:
    """Return name and GTIN of every product that a recorder knows."""
    engine = open_engine(database)
    try:
        return names(Queries(engine))
    except SQLAlchemyError as exc:
        raise away(database, exc) from exc
    finally:
        engine.dispose()
