"""How long a page waits: from a device's message on MQTT to the streams of open pages, and the first page.

Usage: python benchmarks/page_latency.py [--pages 200] [--rate 20] [--seconds 30] [--result FILE]

Everything is real and on this machine: mosquitto, recorder (SQLite) and pages in one process, and in another
the devices and the readers: plain connections to the stream that a browser would listen to. A store of ten
shelves with 40 slots each; every message is a snapshot of one shelf, as a device sends it with an event. A
reader counts when the bytes of that snapshot are there. `chromium` is a page in a real browser among them:
until the slot's new state stands in its document.
"""

import asyncio
import json
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
        for shelf in range(_SHELVES):
            _publish(link, shelf, 0, random.Random(shelf))  # noqa: S311 - secures nothing
        time.sleep(_SETTLE_S)
        figures: dict[str, Any] = {
            "pages": pages,
            "messages_per_s": rate,
            "slots": _SHELVES * _ROWS * _COLUMNS,
        }
        figures["first_page_ms"] = _first_page(f"{address}/stores/1")
        figures["chromium_ms"] = _in_a_browser(f"{address}/stores/1", link)
        figures["stream_ms"] = asyncio.run(_streams(page, link, pages, rate, seconds))
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _publish(link: Link, shelf: int, mark: int, chance: random.Random) -> None:
    """Send what a shelf looks like now."""
    topics = DeviceTopics("1", f"cam-{shelf}")
    link.publish(Publication(topics.state, json.dumps(_state(shelf, mark, chance)).encode(), retain=True))


def _state(shelf: int, mark: int, chance: random.Random) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
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
        "mark": mark,
    }


def _first_page(address: str) -> dict[str, float]:
    took = []
    for _ in range(20):
        begin = time.perf_counter()
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own page
            answer.read()
        took.append((time.perf_counter() - begin) * 1000)
    return _summary(took)


def _in_a_browser(address: str, link: Link) -> dict[str, Any]:
    """Return when the first picture stands there, and how long a change takes until it does."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page()
        begin = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("#shelves polygon", state="attached")
        first = (time.perf_counter() - begin) * 1000
        page.evaluate(_WATCH)
        took = []
        for number in range(40):
            before = page.evaluate("window.drawn")
            sent = time.time() * 1000
            _publish(link, 0, 0, random.Random(1000 + number))  # noqa: S311 - secures nothing
            page.wait_for_function("before => window.drawn > before", arg=before, polling=20)
            took.append(page.evaluate("window.drawn") - sent)
            time.sleep(0.15)
        browser.close()
    return {"first_picture": round(first, 1), "change": _summary(took)}


_WATCH = """
window.drawn = 0;
new MutationObserver(() => { if (Date.now() - window.drawn > 100) window.drawn = Date.now(); })
  .observe(document.querySelector('[data-device="cam-0"]'), {childList: true, subtree: true});
"""


async def _streams(port: int, link: Link, pages: int, rate: float, seconds: float) -> dict[str, float]:
    sent: dict[int, float] = {}
    took: list[float] = []
    readers = [asyncio.create_task(_read(port, sent, took)) for _ in range(pages)]
    await asyncio.sleep(_SETTLE_S)
    chance, loop = random.Random(7), asyncio.get_running_loop()  # noqa: S311 - secures nothing
    begin = loop.time()
    for mark in range(1, int(rate * seconds) + 1):
        await asyncio.sleep(max(begin + mark / rate - loop.time(), 0))
        sent[mark] = time.perf_counter()
        _publish(link, mark % _SHELVES, mark, chance)
    await asyncio.sleep(_SETTLE_S)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return _summary(took) | {"seen_of_sent": round(len(took) / (pages * len(sent)), 4)}


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
