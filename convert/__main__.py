"""`shelfkit convert`: a run directory to a proven int8 bundle; look into, evaluate and verify bundles."""

import sys

import click

from convert.commands.evaluate import evaluate
from convert.commands.make_bundle import make_bundle
from convert.commands.verify import verify
from convert.recipe import QATS
from edge_agent.contracts.command import DefaultCommandGroup, new_app, run_command


class Commands(DefaultCommandGroup):
    """Lets `--qat` stand alone, as a flag does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Make `--qat` without a word of its own `--qat=always`."""
        after = [*args[1:], ""]
        given = [
            "--qat=always" if word == "--qat" and following not in QATS else word
            for word, following in zip(args, after, strict=True)
        ]
        return super().parse_args(ctx, given)


app = new_app(
    cls=Commands,
    no_args_is_help=True,
    help="Turn a training run into a proven int8 bundle; evaluate and verify bundles.",
)
app.command("bundle")(make_bundle)
app.command()(evaluate)
app.command()(verify)

if __name__ == "__main__":
    sys.exit(run_command(app))
