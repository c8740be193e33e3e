"""`shelfkit convert`: a run directory to a proven int8 bundle; look into, evaluate and verify bundles."""

import sys

from convert.commands.evaluate import evaluate
from convert.commands.make_bundle import make_bundle
from convert.commands.verify import verify
from edge_agent.contracts.command import DefaultCommandGroup, new_app, run_command

app = new_app(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    help="Turn a training run into a proven int8 bundle; evaluate and verify bundles.",
)
app.command("bundle")(make_bundle)
app.command()(evaluate)
app.command()(verify)

if __name__ == "__main__":
    sys.exit(run_command(app))
