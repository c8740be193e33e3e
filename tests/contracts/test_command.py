"""Exit codes come from one place, and nobody sees a traceback."""

import subprocess
import sys

import pytest
import typer

from edge_agent.contracts import errors
from edge_agent.contracts.command import DefaultCommandGroup, run_command


def all_errors() -> list[type[errors.KitError]]:
    return [errors.KitError, *errors.KitError.__subclasses__()]


@pytest.mark.parametrize("error", all_errors())
def test_each_error_has_its_code_and_shows_its_hint(
    error: type[errors.KitError], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error("Expected: tea. Received: coffee.", hint="boil water")

    assert run_command(fail) == error.exit_code
    said = capsys.readouterr().err
    assert "Expected: tea. Received: coffee." in said
    assert "hint: boil water" in said
    assert "Traceback" not in said


def test_codes_differ() -> None:
    codes = [error.exit_code for error in all_errors()]
    assert sorted(codes) == list(range(1, 9))


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 1),
        (SystemExit(5), 5),
        (SystemExit("x"), 1),
        (SystemExit(), 0),
    ],
)
def test_what_else_can_happen(raised: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise raised

    assert run_command(fail) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        (["first", "--loud"], "first True"),
        (["--loud"], "first True"),
        (["x.txt"], "first False"),
        (["second"], "second"),
    ],
)
def test_a_group_has_a_default_command(
    arguments: list[str], heard: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer(cls=DefaultCommandGroup)

    @app.command()
    def first(file: str = typer.Argument(""), loud: bool = False) -> None:
        typer.echo(f"first {loud} {file}")

    @app.command()
    def second() -> None:
        typer.echo("second")

    assert run_command(lambda: app(arguments)) == 0
    assert capsys.readouterr().out.startswith(heard)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["agent", "--help"]])
def test_the_entry_point_finds_its_stages(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "shelfkit" in done.stdout


def test_an_unknown_stage_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent.cli", "trian"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "trian" in done.stderr


def test_help_does_not_wait_for_tensorflow() -> None:
    heavy = "{'tensorflow', 'keras', 'cv2', 'starlette'}"
    script = (
        "import sys; from edge_agent import cli; sys.argv = ['shelfkit', '--help']\n"
        f"try: cli.main()\nexcept SystemExit: assert not {heavy} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
