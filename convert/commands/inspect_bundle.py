"""`shelfkit convert inspect`: what is in a bundle, or in a model file of anybody's."""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.contracts.command import one_of, print_json
from edge_agent.contracts.errors import UsageError

TARGETS = ("edgetpu",)


def inspect_bundle(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a .tflite file.")],
    html: Annotated[Path | None, typer.Option(help="Write a page to read in a browser, offline.")] = None,
    target: Annotated[
        str, typer.Option(help="edgetpu: say which operators would map, by Coral's published rules.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show what is in a bundle or model file: operators, sizes, quantization, cost, scorecard, origin.

    The model is read, never run.

    \b
    Examples:
      shelfkit convert inspect bundle --html bundle.html
      shelfkit convert inspect model.tflite --target edgetpu
    """  # noqa: D301 - click needs the character itself to keep the lines
    from convert import edgetpu, inspect_model, inspect_page  # noqa: PLC0415

    if target:
        one_of("--target", target, TARGETS)
    shown = inspect_model.describe(bundle)
    mapping = edgetpu.mappings(shown.graph) if target else None
    if html is not None:
        try:
            inspect_page.write_html(html, shown, mapping)
        except OSError as exc:
            raise UsageError(
                f"Expected: --html as a file to write. Received: {html}: {exc.strerror}."
            ) from exc
    if as_json:
        print_json(inspect_page.page_json(shown, mapping))
    elif html is not None:
        typer.echo(f"{html}: {inspect_page.plain(shown.name)}")
    else:
        for line in inspect_page.lines(shown, mapping):
            typer.echo(line)
