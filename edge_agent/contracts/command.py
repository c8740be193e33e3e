"""What the command lines of all stages share: exit codes, a default command, JSON output."""

import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import click
import typer
import typer.main
from rich.console import Console
from rich.progress import track
from typer.core import TyperGroup

from edge_agent.contracts.errors import KitError, UsageError

INTERRUPTED = 130

T = TypeVar("T")

log = logging.getLogger("shelfkit")


def run_command(app: Callable[[], object]) -> int:  # noqa: PLR0911 - one for each way to end
    """Run a typer app and return the exit code of the contract; the only place that decides it.

    A `KitError` becomes one message on standard error and its own exit code. Anything else that
    escapes is a defect of the kit: one sentence, exit code 1, and the traceback with
    `SHELFKIT_LOG=debug`.
    """
    try:
        app()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except KitError as exc:
        log.debug("details", exc_info=exc)
        print_error(exc)
        return exc.exit_code
    except ModuleNotFoundError as exc:
        log.debug("details", exc_info=exc)
        hint = "install what this command needs, for example `pip install 'shelfkit[train]'`"
        print_error(UsageError(f"Expected: the module {exc.name!r}. Received: none.", hint=hint))
        return UsageError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) went away: not an error of ours. Standard output
        # must be replaced, or the interpreter complains again while it shuts down.
        sys.stdout = None
        return 0
    except Exception as exc:
        log.debug("details", exc_info=exc)
        typer.echo(f"error: unexpected {type(exc).__name__}: {exc}", err=True)
        typer.echo("\nhint: this is a defect of shelfkit; run again with SHELFKIT_LOG=debug", err=True)
        return 1
    return 0


def print_error(exc: KitError) -> None:
    """Print the message and the hint of an error to standard error."""
    typer.echo(f"error: {exc}", err=True)
    if exc.hint:
        typer.echo(f"\nhint: {exc.hint}", err=True)


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON document to standard output."""
    typer.echo(json.dumps(value, indent=2, sort_keys=True, allow_nan=False))


def one_of(option: str, text: str, allowed: Sequence[T]) -> T:
    """Return the allowed value that an option names.

    Raises:
        UsageError: It names none.
    """
    for value in allowed:
        if value == text:
            return value
    raise UsageError(f"Expected: {option} as one of {', '.join(map(str, allowed))}. Received: {text!r}.")


def shown(what: str) -> Callable[[Iterable[T], int], Iterable[T]]:
    """Return what shows how far a loop has come, on a terminal only, given the loop and its length."""

    def track_items(items: Iterable[T], total: int) -> Iterable[T]:
        console = Console(stderr=True)
        return track(items, what, total=total, console=console, disable=not console.is_terminal)

    return track_items


def new_app(**options: Any) -> typer.Typer:  # noqa: ANN401 - typer's own options
    """Return the typer app of one stage: errors are ours to print, texts are as they are written."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **options)


class DefaultCommandGroup(TyperGroup):
    """A command group whose first command also runs when no command is named.

    `shelfkit convert --int8 RUN` is `shelfkit convert bundle --int8 RUN`, while
    `shelfkit convert evaluate ...` still reaches `evaluate`.
    """

    own_options: ClassVar[frozenset[str]] = frozenset({"--help", "--install-completion", "--show-completion"})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front unless the first argument names a command."""
        if args and args[0] not in self.commands and args[0] not in self.own_options:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def lazy_group(places: Mapping[str, str]) -> type[TyperGroup]:
    """Return a command group some of whose commands are imported only when they are called or listed.

    A device starts one command, and must not wait for what the others need.

    Args:
        places: `module:function` of each command by its name, or `module:app` of a group of them.
    """

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return [*super().list_commands(ctx), *places]

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            if cmd_name not in places:
                return super().get_command(ctx, cmd_name)
            module, _, name = places[cmd_name].partition(":")
            place = getattr(importlib.import_module(module), name)
            if isinstance(place, typer.Typer):
                group = typer.main.get_command(place)
                group.name = cmd_name
                return group
            alone = new_app()
            alone.command(cmd_name)(place)
            return typer.main.get_command(alone)

    return LazyGroup
