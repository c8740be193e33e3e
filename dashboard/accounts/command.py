"""`shelfkit dashboard user`: accounts of the page, made where its database is."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from dashboard.accounts.identity import Role
from dashboard.accounts.people import utc_now
from dashboard.accounts.records import Accounts
from dashboard.accounts.tables import beside
from edge_agent.contracts.command import new_app, one_of, print_json
from edge_agent.contracts.errors import UsageError

app = new_app(help="Accounts of the page: add, list, passwd, role, remove.")

Database = Annotated[str, typer.Option(help="The recorder's database; accounts are kept beside it.")]
Name = Annotated[str, typer.Argument(help="Of the account.")]
RoleName = Annotated[str, typer.Option("--role", help="viewer, staff or admin.")]
Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]

_DATABASE = "sqlite:///shelfkit.sqlite"


@app.command()
def add(
    name: Name,
    role: RoleName = "viewer",
    database: Database = _DATABASE,
    password_stdin: Stdin = False,
) -> None:
    """Make an account; the password is asked for.

    \b
    Examples:
      shelfkit dashboard user add mei --role admin
      pass show shop/ben | shelfkit dashboard user add ben --password-stdin
    """  # noqa: D301 - click needs the character itself to keep the lines
    found = one_of("--role", role, tuple(Role))
    with _accounts(database) as accounts:
        accounts.people.add(name, _password(from_stdin=password_stdin), found, utc_now())
        _note(accounts, "account-add", name)
    typer.echo(f"{name} may log in as {found}")


@app.command("list")
def list_(
    database: Database = _DATABASE,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show every account.

    \b
    Examples:
      shelfkit dashboard user list
      shelfkit dashboard user list --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    with _accounts(database) as accounts:
        found = accounts.people.list()
    if as_json:
        print_json({"accounts": found})
        return
    for one in found:
        typer.echo(f"{one['name']:<24} {one['role']:<8} last seen {one['seen'] or 'never'}")


@app.command()
def passwd(name: Name, database: Database = _DATABASE, password_stdin: Stdin = False) -> None:
    """Give an account another password; whoever is logged in with the old one is logged out.

    \b
    Examples:
      shelfkit dashboard user passwd mei
    """  # noqa: D301 - click needs the character itself to keep the lines
    with _accounts(database) as accounts:
        accounts.people.set_password(name, _password(from_stdin=password_stdin))
        _note(accounts, "password", name)
    typer.echo(f"{name} has another password")


@app.command()
def role(
    name: Name,
    role: Annotated[str, typer.Argument(help="viewer, staff or admin.")],
    database: Database = _DATABASE,
) -> None:
    """Give an account another role.

    \b
    Examples:
      shelfkit dashboard user role ben staff
    """  # noqa: D301 - click needs the character itself to keep the lines
    found = one_of("ROLE", role, tuple(Role))
    with _accounts(database) as accounts:
        accounts.people.set_role(name, found)
        _note(accounts, "account-role", f"{name}: {found}")
    typer.echo(f"{name} may log in as {found}")


@app.command()
def remove(name: Name, database: Database = _DATABASE) -> None:
    """Take an account away; whoever is logged in with it is logged out.

    \b
    Examples:
      shelfkit dashboard user remove ben
    """  # noqa: D301 - click needs the character itself to keep the lines
    with _accounts(database) as accounts:
        accounts.people.remove(name)
        _note(accounts, "account-remove", name)
    typer.echo(f"{name} is gone")


@contextmanager
def _accounts(database: str) -> Iterator[Accounts]:
    accounts = Accounts(beside(database))
    try:
        yield accounts
    finally:
        accounts.close()


def _note(accounts: Accounts, what: str, about: str) -> None:
    accounts.audit.note("command line", what, about, "", utc_now())


def _password(*, from_stdin: bool) -> str:
    """Read a password: twice from a terminal, or the first line of standard input."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError(
            "Expected: a terminal to ask for the password. Received: none.",
            hint="give it with --password-stdin",
        )
    first = getpass.getpass("password: ")
    if getpass.getpass("again: ") != first:
        raise UsageError("Expected: the same password twice. Received: two different ones.")
    return first
