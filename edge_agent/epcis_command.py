"""`shelfkit agent epcis`: CloudEvents in, one EPCIS 2.0 document out."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.contracts import events
from edge_agent.contracts.epcis import JsonObject, Naming, Skipped, document, encode, object_event
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.times import moment

_HINT = "each line is one event as `shelfkit agent replay` prints it"


def epcis(
    source: Annotated[
        str, typer.Argument(metavar="EVENTS", help="CloudEvents, one JSON line each; - is standard input.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="File for the document; without it: standard output.")
    ] = None,
    gln: Annotated[
        str | None, typer.Option(help="The store's Global Location Number; shelves are named below it.")
    ] = None,
    base_uri: Annotated[
        str | None,
        typer.Option(help="A web address of yours: names shelves without --gln, products without a GTIN."),
    ] = None,
    offset: Annotated[str, typer.Option(help="The store's offset from UTC, like +01:00.")] = "+00:00",
    created: Annotated[
        str, typer.Option(help="Creation date of the document, RFC 3339; without it: now.")
    ] = "",
) -> None:
    """Write stock events as one EPCIS 2.0 document (JSON-LD).

    Out of stock, low and restocked are exported; slot, camera and device events are not. How many
    were left out, and why, is told on standard error.

    \b
    Examples:
      shelfkit agent epcis events.jsonl --gln 9506000134369 --out events.jsonld
      shelfkit agent replay --config device.yaml | shelfkit agent epcis - --gln 9506000134369
      shelfkit agent epcis events.jsonl --base-uri https://example.com/epcis --offset +01:00
    """  # noqa: D301 - click needs the character itself to keep the lines
    naming = Naming(gln=gln, base_uri=base_uri, offset=offset)
    date = _moment(created) if created else datetime.now(UTC)
    name = "standard input" if source == "-" else source
    objects, skipped = convert(_lines(source), naming, name)
    _write(encode(document(objects, created=date)), out)
    typer.echo(_told(len(objects), skipped), err=True)


def convert(lines: Iterable[bytes], naming: Naming, name: str) -> tuple[list[JsonObject], Counter[Skipped]]:
    """Read lines as events, and turn them into EPCIS events; empty lines are passed over.

    Args:
        lines: One CloudEvent each.
        naming: How places and products are named.
        name: Where the lines come from, for messages.

    Returns:
        The EPCIS events in the order of the lines, and how many have none, by reason.

    Raises:
        DataError: A line is no event, or cannot be told in EPCIS, or speaks of a second store below one GLN.
    """
    objects: list[JsonObject] = []
    skipped: Counter[Skipped] = Counter()
    store: str | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = events.decode(line.strip())
            store = _one_store(store, event, naming)
            found = object_event(event, naming)
        except DataError as exc:
            raise DataError(f"{name}, line {number}: {exc}", hint=exc.hint or _HINT) from exc
        if isinstance(found, Skipped):
            skipped[found] += 1
        else:
            objects.append(found)
    return objects, skipped


def _one_store(before: str | None, event: events.Event, naming: Naming) -> str:
    """Return the event's store; a GLN is one place on earth, so it cannot name the shelves of two stores."""
    if naming.gln is not None and before not in {None, event.data.store}:
        raise DataError(
            f"Expected: events of one store with --gln. Received: {before!r} and {event.data.store!r}.",
            hint="export the events of each store for themselves, each with its own GLN",
        )
    return event.data.store


def _lines(source: str) -> Iterator[bytes]:
    if source == "-":
        yield from sys.stdin.buffer
        return
    try:
        with Path(source).open("rb") as file:
            yield from file
    except OSError as exc:
        raise DataError(f"Expected: a file of events. Received: {source}: {exc.strerror}.") from exc


def _write(content: bytes, out: Path | None) -> None:
    if out is None:
        typer.echo(content, nl=False)
        return
    try:
        with written_beside(out) as staged:
            staged.write_bytes(content)
    except OSError as exc:
        raise DataError(f"Expected: to write --out {out}. Received: {exc.strerror}.") from exc


def _told(exported: int, skipped: Counter[Skipped]) -> str:
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    advice = " (--base-uri names those)" if skipped[Skipped.NO_GTIN] else ""
    return f"exported: {exported}; left out: {left_out or 'none'}{advice}"


def _moment(text: str) -> datetime:
    found = moment(text)
    if found is None:
        raise UsageError(f"Expected: --created as RFC 3339 with a zone. Received: {text!r}.")
    return found
