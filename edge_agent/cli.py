"""`shelfkit`: the one entry point; finds its stages through the entry-point group `shelfkit.stages`."""

import sys
from importlib.metadata import EntryPoint, entry_points, version

import click
import typer
from typer.main import get_command

from edge_agent import logs
from edge_agent.contracts.command import INTERRUPTED
from edge_agent.contracts.errors import UsageError

STAGES = "shelfkit.stages"
_ORDER = ("train", "convert", "deploy", "agent", "dashboard", "demo")
_SUMMARIES = {
    "train": "Train a small classifier on photos of products.",
    "convert": "Turn a training run into a proven int8 bundle.",
    "deploy": "Set up the store's broker; make and sign releases.",
    "agent": "Run the shelf agent; draw slots, aim, collect, check, replay.",
    "dashboard": "Record events and show the store's live page.",
    "demo": "The whole chain on a rendered shelf, on this machine.",
}

_EXTRAS = {
    "train": "train",
    "convert": "train",
    "deploy": "deploy",
    "dashboard": "dashboard",
    "demo": "train,deploy,dashboard",
}


class Stages(click.Group):
    """A command group that imports a stage only when it is called, so that help stays quick."""

    def __init__(self) -> None:
        super().__init__(
            name="shelfkit",
            help="Photos in, stock events out: train, convert, deploy, run and watch shelf cameras.",
            epilog="Each command has its own --help, with examples.",
        )
        self.stages: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=STAGES)}
        self.params.append(
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Print the version and exit.",
            )
        )

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the stages in the order in which data flows through them."""
        return sorted(
            self.stages, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the stages without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return one stage."""
        if cmd_name not in self.stages:
            return None
        try:
            app = self.stages[cmd_name].load()
        except ModuleNotFoundError as exc:
            raise UsageError(
                f"Expected: the packages of `shelfkit {cmd_name}`. Received: no module {exc.name!r}.",
                hint=f"install them with `pip install 'shelfkit[{_EXTRAS.get(cmd_name, 'dev')}]'`",
            ) from exc
        return get_command(app) if isinstance(app, typer.Typer) else app

    def invoke(self, ctx: click.Context) -> object:
        """Run one stage; click itself would end with 1 where somebody pressed Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as exc:
            raise click.exceptions.Exit(INTERRUPTED) from exc


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's signature
    if wanted:
        click.echo(f"shelfkit {version('shelfkit')}")
        ctx.exit()


def main() -> None:
    """Run `shelfkit` and exit with the code of the contract."""
    sys.exit(logs.run(lambda: Stages()(prog_name="shelfkit")))


if __name__ == "__main__":
    main()
