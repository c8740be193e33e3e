"""`shelfkit convert verify`: does a bundle compute here what it was proven to?"""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.contracts.command import print_json


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Check a bundle on this machine: hashes, manifest, and that it computes what its maker proved.

    \b
    Examples:
      shelfkit convert verify bundle
      shelfkit convert verify bundle --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    from convert import trial  # noqa: PLC0415
    from edge_agent.contracts.bundle import read  # noqa: PLC0415

    checked = read(bundle)
    trial.classifier(checked).check_golden()
    manifest = checked.manifest
    if as_json:
        print_json({"sha256": checked.sha256, "manifest": manifest.model_dump(mode="json")})
    else:
        typer.echo(
            f"{manifest.name} {manifest.version}: {len(manifest.labels)} classes, "
            f"{manifest.input.height}x{manifest.input.width} px, sha256 {checked.sha256[:12]}; "
            "golden vectors hold"
        )
