"""How long a page waits: from a device's message on MQTT to the streams of open pages, and the first page.

Usage: python benchmarks/page_latency.py [--pages 200] [--rate 20] [--seconds 30] [--result FILE]

Everything is real and on this machine: mosquitto, recorder (SQLite) and pages in one process, and in another
the devices and the readers: plain connections to the stream that a browser would listen to. A store of ten
shelves with 40 slots each; every message is a snapshot of one shelf in which one slot has changed, as a
device sends it with an event. A reader counts when the bytes that tell of it are there. `chromium` is a page
in a real browser: until the slot's new state stands in its document; `first_picture` is opening it in a
browser started for that, `load` who else was at work then. `server_cpu_ms` is processor time of
recorder and pages for one message, until all open pages are told; it depends less than the rest on who else
uses the machine.
"""

import asyncio
import json
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import measured
import typer
from playwright.sync_api import sync_playwright

from deploy.demo.stages import broker_command, free_port, running, wait_for_line, wait_for_port
from edge_agent.contracts.address import Address
from edge_agent.contracts.command import new_app, run_command
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Connected, Link, Publication

_SCRIPT = "page_latency.py"
_SHELVES, _ROWS, _COLUMNS = 10, 4, 10
_SETTLE_S = 2.0
_TIMES = 9
_ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
_MARK = re.compile(rb'"mark":(\d+)')

app = new_app()


@app.command()
def main(
    pages: Annotated[int, typer.Option(min=1, help="Open streams.")] = 200,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages a second.")] = 20.0,
    seconds: Annotated[float, typer.Option(min=1, help="For so long.")] = 30.0,
    result: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
) -> None:
    """Measure the way to the page."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        port, page = free_port(), free_port()
        broker = stack.enter_context(
            running("the broker", work / "broker.log", broker_command(work / "broker", port, work / "b.log"))
        )
        wait_for_port(broker, port)
        command = (sys.executable, "-m", "dashboard", "--broker", f"mqtt://127.0.0.1:{port}", "--no-login")
        options = ("--database", f"sqlite:///{work / 'd.sqlite'}", "--port", str(page))
        recorder = stack.enter_context(running("the recorder", work / "d.log", (*command, *options)))
        address = wait_for_line(recorder, "http://")
        link = stack.enter_context(Link(Address("127.0.0.1", port), client_id="devices"))
        while not isinstance(link.notices.get(timeout=10), Connected):
            pass
        shop = _Shop(link)
        time.sleep(_SETTLE_S)
        figures: dict[str, Any] = {
            "pages": pages,
            "messages_per_s": rate,
            "slots": _SHELVES * _ROWS * _COLUMNS,
        }
        figures["first_page_ms"] = _first_page(f"{address}/stores/1")
        figures["load"] = round(os.getloadavg()[0], 1)
        figures["first_picture_ms"] = _first_picture(f"{address}/stores/1")
        figures["chromium_ms"] = _in_a_browser(f"{address}/stores/1", shop)
        pid = recorder.process.pid
        figures |= asyncio.run(_streams(page, pid, shop, pages, rate, seconds))
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _cpu_s(pid: int) -> float:
    """Return how much processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Shop:
    """Shelves in which one slot changes at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._chance = random.Random(7)  # noqa: S311 - secures nothing
        self._states = [_state(shelf, self._chance) for shelf in range(_SHELVES)]
        for shelf in range(_SHELVES):
            self.change(shelf, 0)

    def change(self, shelf: int, mark: int) -> None:
        """Fill a slot or empty it, and send what the shelf looks like now."""
        state = self._states[shelf]
        slot = state["slots"][self._chance.choice(list(state["slots"]))]
        slot["state"] = "empty" if slot["state"] == "present" else "present"
        slot["since"] = state["time"] = _now()
        state["mark"] = mark
        topics = DeviceTopics("1", f"cam-{shelf}")
        self._link.publish(Publication(topics.state, json.dumps(state).encode(), retain=True))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _state(shelf: int, chance: random.Random) -> dict[str, Any]:
    now = _now()
    slots, seen = {}, {}
    for number in range(_ROWS * _COLUMNS):
        x, y = number % _COLUMNS * 120, number // _COLUMNS * 180
        name, state = (
            f"{'ABCD'[number // _COLUMNS]}{number % _COLUMNS + 1}",
            chance.choice(["present", "empty"]),
        )
        slots[name] = [[x, y], [x + 110, y], [x + 110, y + 170], [x, y + 170]]
        seen[name] = {
            "state": state,
            "label": "milk-carton",
            "confidence": 0.93,
            "since": now,
            "stale": False,
        }
    products = [
        {
            "label": f"p-{number}",
            "name": f"Product {number}",
            "facings": 4,
            "filled": 2,
            "state": "ok",
            "since": now,
        }
        for number in range(10)
    ]
    return {
        "device": f"cam-{shelf}",
        "store": "1",
        "shelf": str(shelf),
        "time": now,
        "stream": "7f0c9a52d1b84d0e8f4c2b1a90e7d655",
        "oldest": 1,
        "last": 0,
        "model": {"name": "m", "version": "1", "sha256": "ab" * 32},
        "planogram": {"sha256": "cd" * 32, "width": 1200, "height": 720, "slots": slots},
        "camera": {"faults": []},
        "products": products,
        "slots": seen,
    }


def _first_page(address: str) -> dict[str, float]:
    took = []
    for _ in range(20):
        begin = time.perf_counter()
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own page
            answer.read()
        took.append((time.perf_counter() - begin) * 1000)
    return _summary(took)


def _first_picture(address: str) -> dict[str, Any]:
    """Return how long somebody waits for the shelves who opens the page in a browser that knows nothing.

    The page's own clock counts, from the click until the slots are in its document; `cpu`: its thread's.
    """
    took, worked = [], []
    with sync_playwright() as playwright:
        for _ in range(_TIMES):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
            page = browser.new_page()
            page.add_init_script(_FIRST)
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.goto(address)
            page.wait_for_function("() => window.first", polling=20)
            took.append(page.evaluate("window.first"))
            metrics = session.send("Performance.getMetrics")["metrics"]
            worked.append(next(one["value"] for one in metrics if one["name"] == "TaskDuration") * 1000)
            browser.close()
    ordered = [round(one) for one in sorted(took)]
    return {"median": round(statistics.median(took)), "all": ordered, "cpu": round(statistics.median(worked))}


def _in_a_browser(address: str, shop: _Shop) -> dict[str, Any]:
    """Return how long a change takes until it stands there."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#shelves polygon", state="attached")
        page.evaluate(_WATCH)
        took = []
        for _ in range(40):
            before = page.evaluate("window.drawn")
            sent = time.time() * 1000
            shop.change(0, 0)
            page.wait_for_function("before => window.drawn > before", arg=before, polling=20)
            took.append(page.evaluate("window.drawn") - sent)
            time.sleep(0.15)
        browser.close()
    return {"change": _summary(took)}


_FIRST = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("#shelves polygon")) return;
  window.first = performance.now();
  observer.disconnect();
}).observe(document, {childList: true, subtree: true});
"""
_WATCH = """
window.drawn = 0;
new MutationObserver(() => { if (Date.now() - window.drawn > 100) window.drawn = Date.now(); })
  .observe(document.querySelector('[data-device="cam-0"]'), {childList: true, subtree: true});
"""


async def _streams(
    port: int, pid: int, shop: _Shop, pages: int, rate: float, seconds: float
) -> dict[str, Any]:
    sent: dict[int, float] = {}
    took: list[float] = []
    readers = [asyncio.create_task(_read(port, sent, took)) for _ in range(pages)]
    await asyncio.sleep(_SETTLE_S)
    loop = asyncio.get_running_loop()
    begin, before = loop.time(), _cpu_s(pid)
    for mark in range(1, int(rate * seconds) + 1):
        await asyncio.sleep(max(begin + mark / rate - loop.time(), 0))
        sent[mark] = time.perf_counter()
        shop.change(mark % _SHELVES, mark)
    await asyncio.sleep(_SETTLE_S)
    spent = _cpu_s(pid) - before
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    seen = round(len(took) / (pages * len(sent)), 4)
    return {
        "stream_ms": {**_summary(took), "seen_of_sent": seen},
        "server_cpu_ms": round(spent * 1000 / len(sent), 2),
    }


async def _read(port: int, sent: dict[int, float], took: list[float]) -> None:
    """Listen as a browser does; a snapshot counts when its mark, at its end, is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    writer.write(b"GET /stores/1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
    try:
        while line := await reader.readline():
            if line.startswith(b"data: {") and (found := _MARK.search(line)):
                mark = int(found[1])
                if mark in sent:
                    took.append((time.perf_counter() - sent[mark]) * 1000)
    finally:
        writer.close()


def _summary(took: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100)
    return {
        "median": round(statistics.median(took), 2),
        "p95": round(cuts[94], 2),
        "p99": round(cuts[98], 2),
        "n": len(took),
    }


if __name__ == "__main__":
    sys.exit(run_command(app))
