"""Write docs/reference from the code, or with --check say what is out of date.

Usage: python docs/generate.py [--check]
"""

import html
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import asyncapi
import click
import typer
from pydantic import BaseModel
from typer.cli import get_docs_for_click
from typer.main import get_command

from dashboard import api
from dashboard.alerts import wire
from edge_agent.contracts import bundle, config, errors, events, messages, planogram, run

REFERENCE = Path(__file__).parent / "reference"
STAGES = ("train", "convert", "deploy", "agent", "dashboard", "demo")
MODELS: dict[str, type[BaseModel]] = {
    "event": events.Event,
    "state": messages.State,
    "health": messages.Health,
    "ack": messages.Ack,
    "command": messages.Command,
    "command-set-planogram": messages.SetPlanogram,
    "command-set-log-level": messages.SetLogLevel,
    "command-snapshot": messages.TakeSnapshot,
    "reply": messages.Reply,
    "alert": wire.AlertMessage,
    "desired": messages.Desired,
    "reported": messages.Reported,
    "certificate-request": messages.CertificateRequest,
    "certificate-response": messages.CertificateResponse,
    "device.yaml": config.DeviceConfig,
    "planogram.yaml": planogram.Planogram,
    "bundle-manifest": bundle.Manifest,
    "run": run.RunInfo,
}
EXAMPLES = re.compile(r"\n?^Examples:\n((?:  .+\n)+)", re.MULTILINE)


def command_page(stage: str) -> str:
    """Return the reference of one stage's command line."""
    (point,) = entry_points(group="shelfkit.stages", name=stage)
    app = point.load()
    command = get_command(app) if isinstance(app, typer.Typer) else app
    context = click.Context(command, info_name=f"shelfkit {stage}")
    text = get_docs_for_click(obj=command, ctx=context, name=f"shelfkit {stage}")
    text = "\n".join(line.rstrip() for line in html.unescape(text).strip().splitlines()) + "\n"
    return EXAMPLES.sub(lambda found: f"Examples:\n\n```sh\n{textwrap.dedent(found[1])}```\n", text)


def schema(model: type[BaseModel]) -> str:
    """Return the JSON Schema 2020-12 of one contract."""
    value = {"$schema": asyncapi.DRAFT} | model.model_json_schema()
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def exit_codes() -> str:
    """Return the table of exit codes."""
    rows = ["| code | error | meaning |", "|---|---|---|", "| 0 | | done |"]
    for error in (errors.KitError, *errors.KitError.__subclasses__()):
        meaning = (error.__doc__ or "").splitlines()[0]
        rows.append(f"| {error.exit_code} | {error.__name__} | {meaning} |")
    rows.append("| 130 | | interrupted |")
    return "# Exit codes\n\nThe same for every command.\n\n" + "\n".join(rows) + "\n"


def event_page() -> str:
    """Return the reference of events."""
    rows = ["| kind | type | about |", "|---|---|---|"]
    rows += [f"| `{kind.value}` | `{kind.type}` | {kind.about} |" for kind in events.Kind]
    return (
        "# Events\n\nCloudEvents 1.0 in structured JSON on `shelfkit/v1/{store}/{device}/event/{kind}`, "
        f"QoS 1, not retained; content type `{events.CONTENT_TYPE}`. Order by `sequence` within `streamid`, "
        "never by a clock. "
        "Unknown fields are to be kept. Schema: [event.schema.json](schemas/event.schema.json); "
        "every topic of the contract: [asyncapi.json](asyncapi.json) (AsyncAPI 3). "
        "Over HTTP: [openapi.json](openapi.json).\n\n" + "\n".join(rows) + "\n"
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def pages() -> Iterator[tuple[Path, Callable[[], str]]]:
    """Name every generated file, and how it is made."""
    for stage in STAGES:
        yield REFERENCE / f"{stage}.md", lambda stage=stage: command_page(stage)
    for name, model in MODELS.items():
        yield REFERENCE / "schemas" / f"{name}.schema.json", lambda model=model: schema(model)
    yield REFERENCE / "exit-codes.md", exit_codes
    yield REFERENCE / "events.md", event_page
    yield REFERENCE / "asyncapi.json", lambda: _json(asyncapi.document())
    yield REFERENCE / "openapi.json", lambda: _json(api.document())


def main() -> int:
    """Write or check; 5 where a page is out of date."""
    check = "--check" in sys.argv[1:]
    stale = []
    for path, make in pages():
        text = make()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"{'out of date: ' if check else 'written: '}{', '.join(stale)}\n")
    return errors.GateError.exit_code if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
