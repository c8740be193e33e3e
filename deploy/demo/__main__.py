"""`shelfkit demo`: photos to a live page on this machine, and a table of what was right."""

import contextlib
import json
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.demo.expected import LATE_S, expect, read_script, write_expected
from deploy.demo.score import Score, arrived, score
from deploy.demo.stages import (
    Running,
    broker_command,
    free_port,
    run_stage,
    running,
    wait_for_line,
    wait_for_port,
)
from edge_agent.contracts import planogram
from edge_agent.contracts.command import new_app, run_command
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.times import rfc3339

app = new_app()

_MARK = ".shelfkit-demo"
_PHOTO_SEED = 1
_LEAD_S = 9.0
_STORE, _DEVICE = "0417", "cam-12-01"
_CONFIG = """\
device: {device}
store: "{store}"
state_dir: state
bundle: {bundle}
camera: {{source: "shelf:seed={seed},start={start}", fps: 5}}
planogram: planogram.yaml
rules: {{confirm_s: 1.2, clear_s: 1, refresh_s: 10}}
broker: {{host: 127.0.0.1, port: {port}}}
metrics: {{port: 0}}
# These pictures are drawn: the pages may ask for them. A real shelf allows none unless somebody decides so.
privacy: {{snapshots: true}}
hard_examples: {{enabled: true, max_mb: 16}}
"""


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End when the script ends.")] = False,
    report: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the shelf's script.")] = 7,
    bundle: Annotated[Path | None, typer.Option(help="Use this bundle instead of training one.")] = None,
    work: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("demo"),
    port: Annotated[int, typer.Option(help="Of the page, where it is free.")] = 8080,
) -> None:
    """Run the whole chain on a rendered shelf: photos, training, int8 bundle, broker, agent, recorder, page.

    Each stage is a process of its own, started through its public command line. What must be
    reported is written down from the script before the agent starts; at the end a table shows what
    was missed, extra or duplicated, and the exit code is 1 if anything was.

    \b
    Examples:
      shelfkit demo
      shelfkit demo --once --json demo.json
      shelfkit demo --once --seed 8 --bundle demo/bundle --work demo-8
    """  # noqa: D301 - click needs the character itself to keep the lines
    console = Console(highlight=False)
    if bundle is not None and not bundle.is_dir():
        raise UsageError(f"Expected: --bundle as a folder. Received: {bundle}.")
    # A bundle of an earlier demo may lie in the very folder that is cleared.
    if bundle is not None and bundle.resolve().is_relative_to(work.resolve()):
        raise UsageError(
            f"Expected: --bundle outside of {work}, which is cleared. Received: {bundle}.",
            hint="name another folder with --work",
        )
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Whatever ends it, its stages end as well; what nohup lets it outlive, it outlives.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    stage = Demo(_cleared(work), seed, console)
    used = bundle.resolve() if bundle else stage.make_bundle()
    outcome = stage.play(used, port, once=once)
    if report is not None:
        report.write_text(json.dumps(outcome.as_json(), indent=2) + "\n", encoding="utf-8")
    if not outcome.good:
        raise typer.Exit(1)


def _cleared(work: Path) -> Path:
    """Return the folder, empty; refuses one that no demo has made."""
    folder = work.resolve()
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise UsageError(
                f"Expected: --work as a new folder, or one of an earlier demo. Received: {work}.",
                hint="name another one; nothing in it was touched",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    return folder


@dataclass(slots=True)
class Demo:
    """One run in one folder."""

    work: Path
    seed: int
    console: Console
    seen: list[dict[str, Any]] = field(default_factory=list)

    def make_bundle(self) -> Path:
        """Render photos, train, convert behind the gate."""
        photos, run, bundle = self.work / "photos", self.work / "run", self.work / "bundle"
        with self._step("rendering photos"):
            self._run("render", "edge_agent", "render", "--photos", str(photos), "--seed", str(_PHOTO_SEED))
        with self._step("training on them"):
            small = ("--image-px", "64", "--epochs", "12", "--name", "demo")
            self._run("train", "train", str(photos), "--out", str(run), *small)
        with self._step("converting to int8, behind the gate"):
            self._run("convert", "convert", "--int8", str(run), "--out", str(bundle))
        return bundle

    def play(self, bundle: Path, wanted_port: int, *, once: bool) -> Score:
        """Start broker, recorder, page and agent; show the events; return what was right."""
        self._run("scene", "edge_agent", "render", "--scene", str(self.work), "--seed", str(self.seed))
        script = read_script(self.work / "script.json")
        expected = expect(script, planogram.read(self.work / "planogram.yaml").require())
        write_expected(self.work / "expected.json", expected)
        with contextlib.ExitStack() as stack:
            port = free_port()
            command = broker_command(self.work / "broker", port, self.work / "broker-config.log")
            broker = stack.enter_context(running("the broker", self.work / "broker.log", command))
            wait_for_port(broker, port)
            page = stack.enter_context(self._dashboard(port, wanted_port))
            address = wait_for_line(page, "http://")
            self.console.print(
                f"\nlive page: [bold]{address}[/bold]   (broker: {command[0].split('/')[-1]})\n"
            )
            start = datetime.now(UTC) + timedelta(seconds=_LEAD_S)
            agent = stack.enter_context(self._agent(bundle, port, start))
            alive = (broker, page, agent)
            end = start + timedelta(seconds=script["duration_s"] + LATE_S)
            self._show_until(end, address, alive)
            outcome = score(expected, arrived(self.seen, start))
            self._tell(outcome, start)
            if not once:
                self.console.print("\nthe script is over, the page stays; Ctrl-C ends it")
                with contextlib.suppress(KeyboardInterrupt):
                    self._show_until(None, address, alive)
        return outcome

    def _dashboard(self, port: int, wanted: int) -> contextlib.AbstractContextManager[Running]:
        broker = f"mqtt://127.0.0.1:{port}"
        command = (sys.executable, "-m", "dashboard", "--broker", broker, "--operator", broker)
        database = f"sqlite:///{self.work / 'recorder.sqlite'}"
        options = ("--database", database, "--port", str(free_port(wanted)), "--no-login")
        return running("the dashboard", self.work / "dashboard.log", (*command, *options))

    def _agent(self, bundle: Path, port: int, start: datetime) -> contextlib.AbstractContextManager[Running]:
        config = self.work / "device.yaml"
        text = _CONFIG.format(
            device=_DEVICE,
            store=_STORE,
            bundle=json.dumps(str(bundle)),
            seed=self.seed,
            start=rfc3339(start),
            port=port,
        )
        config.write_text(text, encoding="utf-8")
        command = (sys.executable, "-m", "edge_agent", "run", "--config", str(config))
        return running("the agent", self.work / "agent.log", command)

    def _show_until(self, end: datetime | None, address: str, alive: tuple[Running, ...]) -> None:
        """Print events as the recorder has them, until a moment or for ever."""
        while end is None or datetime.now(UTC) < end:
            after = self.seen[-1]["cursor"] if self.seen else 0
            query = f"{address}/api/v1/events?after={after}&limit=1000"
            with urllib.request.urlopen(query, timeout=10) as answer:  # noqa: S310 - our own page
                fresh = json.load(answer)["events"]
            for row in fresh:
                self.console.print(_line(row))
            self.seen += fresh
            for stage in alive:
                stage.require_alive()
            time.sleep(0.3)

    def _tell(self, outcome: Score, start: datetime) -> None:
        figures = outcome.as_json()
        table = Table(title=f"\nseed {self.seed}: expected from the script alone, received at the recorder")
        for name in figures:
            table.add_column(name.removesuffix("_s").replace("_", " "), justify="right")
        table.add_row(
            *(f"{value:.2f} s" if isinstance(value, float) else str(value) for value in figures.values())
        )
        self.console.print(table)
        for item in outcome.missed:
            self.console.print(f"missed: {_when(start, item.at)} {' '.join(item.key)}")
        for name, left in (("extra", outcome.extra), ("duplicated", outcome.duplicated)):
            for one in left:
                self.console.print(f"{name}: {_when(start, one.at)} {' '.join(one.key)}")

    def _run(self, name: str, *command: str) -> None:
        run_stage(self.work / f"{name}.log", *command)

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        """Say what is being done, and how long it took."""
        begin = time.monotonic()
        with self.console.status(what):
            yield
        self.console.print(f"{what}: {time.monotonic() - begin:.0f} s")


def _when(start: datetime, at: float) -> str:
    return f"{(start + timedelta(seconds=at)).astimezone():%H:%M:%S}"


def _line(row: dict[str, Any]) -> str:
    event = row["event"]
    data = event["data"]
    what = data.get("fault") or (
        f"{data['filled']} of {data['facings']}" if "facings" in data else data.get("state", "")
    )
    moment = datetime.fromisoformat(event["time"]).astimezone()
    return f"{moment:%H:%M:%S}  {event['type'].split('.')[2]:22} {event['subject']:32} {what}"


if __name__ == "__main__":
    sys.exit(run_command(app))
