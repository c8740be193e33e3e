"""`shelfkit agent unit`: the systemd unit of the agent, for this installation.

What it says of hardening, and why, stands in `units/shelfkit-agent@.service` itself.
"""

import re
import string
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.files import written_beside

NAME = "shelfkit-agent@.service"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - what the unit hides from the agent
_WORD = re.compile(r"[A-Za-z0-9_./@:+,-]+")


def unit(
    out: Annotated[
        Path | None, typer.Option(help="File, or a folder, to write it to; without it: standard output.")
    ] = None,
    user: Annotated[
        str, typer.Option(help="Who runs the agent; a group of the same name must exist.")
    ] = "shelfkit",
    config_dir: Annotated[
        str, typer.Option(help="Folder that holds INSTANCE/device.yaml.")
    ] = "/etc/shelfkit",
    program: Annotated[
        str, typer.Option(help="The program shelfkit on the device; without it: that of this installation.")
    ] = "",
) -> None:
    """Print the systemd unit of the agent: a template, started once for each device.yaml.

    `shelfkit-agent@cam-12-01` runs INSTANCE/device.yaml of the instance cam-12-01. The unit has a
    watchdog, starts the agent again for ever, and lets it touch cameras, network and its own state,
    nothing else.

    \b
    Examples:
      shelfkit agent unit
      shelfkit agent unit --out /etc/systemd/system
      shelfkit agent unit --program /opt/shelfkit/bin/shelfkit --config-dir /data/shelfkit --out .
    """  # noqa: D301 - click needs the character itself to keep the lines
    text = rendered(command([program] if program else installed()), user=user, config_dir=config_dir)
    if out is None:
        typer.echo(text, nl=False)
        return
    target = out / NAME if out.is_dir() else out
    try:
        with written_beside(target) as staged:
            staged.write_text(text, encoding="utf-8")
            staged.chmod(0o644)
    except OSError as exc:
        raise DataError(f"Expected: to write --out {target}. Received: {exc.strerror}.") from exc
    typer.echo(f"{target}: then systemctl daemon-reload && systemctl enable --now shelfkit-agent@DEVICE")


def installed() -> list[str]:
    """Return the words that start `shelfkit` of this installation."""
    script = Path(sysconfig.get_path("scripts")) / "shelfkit"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "edge_agent.cli"]


def command(start: list[str]) -> list[str]:
    """Return the words as they are, if the unit can start them.

    Raises:
        UsageError: No absolute path, or one that the unit hides from the agent.
    """
    path = PurePosixPath(start[0])
    if not path.is_absolute() or any(part == ".." for part in path.parts):
        raise UsageError(
            f"Expected: --program as an absolute path. Received: {start[0]!r}.",
            hint="for example --program /opt/shelfkit/bin/shelfkit",
        )
    if hidden := next((place for place in _HIDDEN if path.is_relative_to(place)), None):
        raise UsageError(
            f"Expected: shelfkit outside of {hidden}, which the unit hides from the agent. Received: {path}.",
            hint="install it for the device, for example: python3 -m venv /opt/shelfkit && "
            "/opt/shelfkit/bin/pip install shelfkit; then /opt/shelfkit/bin/shelfkit agent unit",
        )
    return start


def rendered(start: list[str], *, user: str, config_dir: str) -> str:
    """Return the unit.

    Args:
        start: The words that start `shelfkit`.
        user: Who runs the agent.
        config_dir: Absolute; below it lies a folder for each instance.

    Raises:
        UsageError: A name that is none, or a path that is not absolute.
    """
    if not _USER.fullmatch(user):
        raise UsageError(f"Expected: --user as the name of a system user. Received: {user!r}.")
    folder = PurePosixPath(config_dir)
    if not folder.is_absolute() or not _WORD.fullmatch(config_dir):
        raise UsageError(
            f"Expected: --config-dir as an absolute path of letters, digits and ._-+,@:/. "
            f"Received: {config_dir!r}."
        )
    # The instance is a name that systemd fills in, so its word is not escaped.
    words = [*map(_word, [*start, "agent", "run", "--config"]), f"{folder}/%i/device.yaml"]
    template = files("edge_agent").joinpath("units", NAME).read_text(encoding="utf-8")
    values = {"exec_start": " ".join(words), "user": user, "config_dir": str(folder)}
    return string.Template(template).substitute(values)


def _word(text: str) -> str:
    """Return a word as ExecStart= wants it: nothing in it is a specifier, a variable or a quote."""
    if _WORD.fullmatch(text):
        return text
    if not text.isprintable():
        raise UsageError(f"Expected: a path that can be written into a unit. Received: {text!r}.")
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
