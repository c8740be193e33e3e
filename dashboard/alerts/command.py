"""`shelfkit dashboard alerts`: look at a file of rules, try its channels, see what was delivered."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dashboard.accounts.records import StoreSetting
from dashboard.alerts import service
from dashboard.alerts.book import Book
from dashboard.alerts.causes import Cause
from dashboard.alerts.deciding import Alert, Told
from dashboard.alerts.rules import Rule
from dashboard.alerts.sending import AwayError, Channel, RefusedError
from dashboard.alerts.telling import Message, item_of
from dashboard.alerts.wire import Notice
from dashboard.database_command import DEFAULT, Database
from dashboard.store import Store
from edge_agent.contracts.command import new_app, print_json
from edge_agent.contracts.errors import ServiceError, UsageError
from edge_agent.contracts.identifiers import uuid7

app = new_app(help="Rules about troubles, and who is told of them: check, test, log.")

File = Annotated[Path, typer.Argument(help="An alerts.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@app.command()
def check(file: File, *, as_json: AsJson = False) -> None:
    """Say what is wrong in a file of rules, with lines; secrets that it names have to be there.

    \b
    Examples:
      shelfkit dashboard alerts check alerts.yaml
    """  # noqa: D301 - click needs the character itself to keep the lines
    rules = service.read(file).rules
    kinds = Counter(channel.kind for channel in rules.channels.values())
    if as_json:
        named = {name: channel.kind for name, channel in rules.channels.items()}
        print_json({"channels": named, "rules": [rule.name for rule in rules.rules]})
        return
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    typer.echo(f"{file}: {len(rules.rules)} rules, channels: {told}")


@app.command("test")
def try_(
    file: File,
    rule: Annotated[str, typer.Argument(help="Name of the rule whose channels are tried.")],
    store: Annotated[
        str | None, typer.Option(help="Number of a store to speak of.", show_default="the rule's first")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Send a message that says "test" through each channel of a rule, now, whatever the time.

    \b
    Examples:
      shelfkit dashboard alerts test alerts.yaml empty
    """  # noqa: D301 - click needs the character itself to keep the lines
    plan = service.read(file)
    found = plan.rules.rule(rule)
    if found is None:
        known = ", ".join(each.name for each in plan.rules.rules)
        raise UsageError(f"Expected: one of the rules {known}. Received: {rule!r}.")
    now = datetime.now(UTC)
    item = _item(found, store or next(iter(found.stores), "test"), now)
    answers = {
        name: _tried(plan.channels[name], Message(name, item["id"], (item,)), now) for name in found.to
    }
    if as_json:
        print_json({name: {"ok": ok, "said": said} for name, (ok, said) in answers.items()})
    else:
        for name, (ok, said) in answers.items():
            typer.echo(f"{name}: {'sent' if ok else 'failed'}: {said}")
    failed = [name for name, (ok, _) in answers.items() if not ok]
    if failed:
        raise ServiceError(f"Expected: every channel takes a test. Received: a no from {', '.join(failed)}.")


@app.command("log")
def log_(
    database: Database = DEFAULT,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The latest so many.")] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what was delivered or waits, the newest first.

    \b
    Examples:
      shelfkit dashboard alerts log
      shelfkit dashboard alerts log --limit 1000 --json
    """  # noqa: D301 - click needs the character itself to keep the lines
    kept = Store(database)
    try:
        found = Book(kept.engine).deliveries(0, limit)
    finally:
        kept.close()
    if as_json:
        print_json({"deliveries": [{name: row[name] for name in row if name != "body"} for row in found]})
        return
    for row in found:
        kinds = ", ".join(sorted({f"{item['kind']} {item['notice']}" for item in row["items"]}))
        typer.echo(f"{row['created']}  {row['channel']:<12} {row['state']:<9} {row['attempts']:>3}  {kinds}")
        typer.echo(f"  {row['key']}  {row['said']!r}")


def _item(rule: Rule, store: str, now: datetime) -> dict[str, Any]:
    label = next(iter(rule.products), "")
    cause = Cause(kind=rule.kind, store=store, device="test", label=label, name=label)
    alert = Alert(id=f"test-{uuid7(int(now.timestamp() * 1000))}", rule=rule.name, cause=cause, since=now)
    return item_of(Told(Notice.TEST, alert), StoreSetting(), now)


def _tried(channel: Channel, message: Message, now: datetime) -> tuple[bool, str]:
    try:
        with channel.session() as send:
            return True, send(message, now)
    except (AwayError, RefusedError) as exc:
        return False, str(exc)
