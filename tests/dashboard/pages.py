"""A real dashboard with a shop to show, and the snapshots that its devices send."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Page
from starlette.applications import Starlette

from dashboard.accounts.identity import Role
from dashboard.accounts.people import utc_now
from dashboard.accounts.records import Accounts
from dashboard.accounts.tables import beside
from edge_agent.contracts.messages import Health
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link, Publication
from tests.brokers import Mosquitto, free_port

GOLDEN = Path(__file__).parents[1] / "golden"
PASSWORD = "correct-horse-battery"  # noqa: S105 - of a shop that is gone after the test
BROWSER = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)


class Dashboard:
    """The recorder with its pages, as a process of its own on a port that stays.

    Args:
        broker: Where its devices are.
        folder: For its databases.
        arguments: More of the command line.
    """

    def __init__(self, broker: Mosquitto, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        folder.mkdir(exist_ok=True)
        self.database = f"sqlite:///{folder / 'd.sqlite'}"
        self._command = [
            sys.executable,
            "-m",
            "dashboard",
            "--broker",
            broker.url,
            "--database",
            self.database,
        ]
        self._command += ["--port", str(self.port), *arguments]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it says where its page is."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, env=os.environ)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("http://")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; return how it ended."""
        assert self._process is not None
        self._process.send_signal(how)
        code = self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def people(self) -> None:
        """Make one account of each role, called like it."""
        accounts = Accounts(beside(self.database))
        for role in Role:
            accounts.people.add(role.value, PASSWORD, role, utc_now())
        accounts.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        assert self.end() in {0, -signal.SIGTERM}


def moment(ago_s: float = 0) -> str:
    """Return a moment so long ago, as it is on the wire."""
    then = datetime.now(UTC) - timedelta(seconds=ago_s)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def snapshot(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the golden snapshot with changes."""
    value: dict[str, Any] = json.loads((GOLDEN / "state.v1.json").read_text())
    return value | changes


def health(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the golden health with changes, in the contract's words."""
    value: dict[str, Any] = json.loads((GOLDEN / "health.v1.json").read_text())
    assert set(changes) <= set(Health.model_fields), changes
    return value | {"time": moment()} | changes


def publish(link: Link, topic: str, value: dict[str, Any], *, retain: bool = True) -> None:
    """Send JSON as a device does."""
    link.publish(Publication(topic, json.dumps(value).encode(), retain=retain))


def told(kind: str, sequence: int, ago_s: float, **data: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a golden event of a kind, with a number and a moment of its own."""
    value: dict[str, Any] = json.loads((GOLDEN / f"event-{kind}.v1.json").read_text())
    value |= {"sequence": f"{sequence:016d}", "time": moment(ago_s)}
    value["id"] = f"{sequence:08x}{value['id'][8:]}"
    value["data"] |= {"since": moment(ago_s)} | data
    return value


def open_shop(link: Link) -> None:
    """Send what two shelves of a store see: one fine but for a gap, one covered and cut off."""
    slots = {
        name: [[x, 80], [x + 110, 80], [x + 110, 300], [x, 300]]
        for name, x in {"A1": 50, "A2": 170, "A3": 290, "A4": 410, "A5": 530}.items()
    }
    right = {"A1": "oat-drink", "A2": "oat-drink", "A3": "milk-1l", "A4": "milk-1l", "A5": "milk-1l"}
    plan = {"sha256": "cd" * 32, "width": 1280, "height": 720, "slots": slots, "products": right}
    seen = {
        "A1": {"state": "present", "label": "oat-drink", "since": moment(9000), "stale": False},
        "A2": {"state": "empty", "label": "empty", "since": moment(1200), "stale": False},
        "A3": {"state": "empty", "label": "empty", "since": moment(3600), "stale": False},
        "A4": {"state": "misplaced", "label": "oat-drink", "since": moment(60), "stale": False},
        "A5": {"state": "unknown", "since": moment(30), "stale": False},
    }
    oats = {"label": "oat-drink", "name": "Oat drink", "facings": 2, "filled": 1, "state": "low"}
    milk = {"label": "milk-1l", "name": "Milk 1 l", "facings": 1, "filled": 0, "state": "out"}
    products = [oats | {"since": moment(1200)}, milk | {"since": moment(3600)}]
    first, second = DeviceTopics("0417", "cam-12-01"), DeviceTopics("0417", "cam-13-01")
    fine = {"planogram": plan, "slots": seen, "products": products, "camera": {"faults": []}}
    publish(link, first.state, snapshot(**fine))
    publish(link, first.health, health())
    bad = {**fine, "device": "cam-13-01", "shelf": "13", "camera": {"faults": ["blocked"]}, "products": []}
    publish(link, second.state, snapshot(**bad))
    publish(link, second.health, {"status": "offline"})
    events = (("low-stock", 7200), ("out-of-stock", 3600), ("restocked", 1800), ("out-of-stock", 900))
    for number, (kind, ago_s) in enumerate(events, start=1):
        publish(link, first.event(kind), told(kind, number, ago_s), retain=False)


class Visitor:
    """Asks an application itself, without a server, and keeps cookies as a browser does.

    Args:
        app: The application.
        address: From which address.
        base_url: Under which name.
        cookies: What it has from before.
        headers: What it says each time.
    """

    def __init__(
        self,
        app: Starlette,
        *,
        address: str = "10.0.0.1",
        base_url: str = "http://kit",
        cookies: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._transport = httpx.ASGITransport(app, client=(address, 1))
        self._base_url = base_url
        self.cookies = httpx.Cookies()
        for name, value in (cookies or {}).items():
            # A name without a dot is called so in a jar.
            self.cookies.set(name, value, domain=f"{urlsplit(base_url).hostname}.local")
        self._headers = {"Accept": "text/html"} | (headers or {})

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        """Ask."""

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport,
                base_url=self._base_url,
                cookies=self.cookies,
                headers=self._headers,
            ) as client:
                answer = await client.request(method, path, **options)
                self.cookies = client.cookies
                return answer

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        """Ask for a page."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        """Send a form."""
        return self.request("POST", path, **options)


def enter(client: Visitor | httpx.Client, name: str, password: str = PASSWORD) -> httpx.Response:
    """Fill in the form."""
    page = client.get("/login").text.split('action="/login"')[1]
    return client.post("/login", data={"csrf": hidden(page), "name": name, "password": password, "next": "/"})


def log_in(page: Page, role: Role) -> None:
    """Fill in the form that a page shows, as one of these people."""
    page.locator("#name").fill(role.value)
    page.locator("#password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/login" not in url)


def hidden(page: httpx.Response | str) -> str:
    """Return what the first form of a page brings along."""
    text = page if isinstance(page, str) else page.text
    return text.split('name="csrf" value="')[1].split('"')[0]


def arrived(address: str, count: int) -> None:
    """Wait until so many events are recorded (without log-in)."""
    end = time.monotonic() + 10
    while len(httpx.get(f"{address}/api/v1/events").json()["events"]) < count:
        assert time.monotonic() < end, "the events do not come"
        time.sleep(0.05)
