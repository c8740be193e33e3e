"""`shelfkit convert`: a run directory or a foreign model to a proven bundle; look into bundles."""

import sys

import click

from convert.commands.bench import bench
from convert.commands.evaluate import evaluate
from convert.commands.import_model import import_model
from convert.commands.inspect_bundle import inspect_bundle
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
    help="Turn a training run or a foreign model into a proven bundle; look into and measure bundles.",
)
app.command("bundle")(make_bundle)
app.command("import")(import_model)
app.command("inspect")(inspect_bundle)
app.command()(evaluate)
app.command()(verify)
app.command()(bench)

if __name__ == "__main__":
    sys.exit(run_command(app))
