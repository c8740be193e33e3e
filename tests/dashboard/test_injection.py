"""What a file, a form, an event or a receiver can carry stays words: on pages, in files, in a browser."""

import csv
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
import uvicorn
from starlette.applications import Starlette

import dashboard
from dashboard.accounts.gate import Access
from dashboard.accounts.records import Accounts, StoreSetting
from dashboard.alerts.book import Book
from dashboard.alerts.deciding import Alert, Told
from dashboard.alerts.telling import Message, item_of
from dashboard.alerts.wire import Notice
from dashboard.labelling.exchange import export_to, import_from
from dashboard.labelling.queue import Queue
from dashboard.rollup import roll_up
from dashboard.store import Arrival, Store
from dashboard.tables import DELIVERIES
from dashboard.web import Hub, build_app
from edge_agent.contracts import events
from edge_agent.contracts.errors import KitError
from edge_agent.contracts.times import rfc3339
from tests.brokers import free_port
from tests.dashboard.alerts.files import NOW, out, rules_of
from tests.dashboard.conftest import Opener
from tests.dashboard.pages import GOLDEN, Visitor, health, snapshot
from tests.dashboard.stored import note, put
from tests.dashboard.test_labels import archive, jpeg, told

EVIL = (
    "\"'><img src=x onerror=window.evil=1><pwn onpwn=1>{{7*7}}</title></script><script>window.evil=1</script>"
)
LABEL = EVIL.replace("/", "")
FORMULA = "=HYPERLINK(1)"
FORMULAS = (FORMULA, "+1", "-1+2", "@SUM(1)", "\t=1", " =1")
STATIC = Path(dashboard.__file__).parent / "static"
SOURCE, STREAM = events.source("0417", "cam-12-01"), "7f0c9a52d1b84d0e8f4c2b1a90e7d655"
PAGES = (
    "/",
    "/stores/0417",
    "/stores/0417/settings",
    "/stores/0417/availability?days=28",
    f"/stores/0417/products/{quote(LABEL)}",
    "/stores/0417/devices/cam-12-01/slots/A3",
    "/stores/0417/devices/cam-12-01/planogram",
    "/labels",
    "/fleet",
    "/alerts",
    "/alerts/log",
    "/admin/audit",
)
TRIED = (
    "/stores/{}",
    "/stores/0417/products/{}",
    "/stores/0417/devices/{}/slots/A3",
    "/stores/0417/devices/{}/planogram",
    "/api/v1/stores/0417/devices/{}",
    "/labels/pictures/{}",
    "/fleet?text={}&store={}&sort={}",
    "/login?next={}",
    "/stores/0417/availability?days={}",
)


@dataclass(frozen=True, slots=True)
class Evil:
    """A store in which every field says something bad.

    Args:
        app: Its pages, without log-in.
        visitor: Who looks.
        titled: What the answer to a bad title was.
    """

    app: Starlette
    visitor: Visitor
    titled: int


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[Evil]:
    store = Store(f"sqlite:///{tmp_path / 'd.sqlite'}")
    access = Access(Accounts(), login=False, clock=lambda: NOW)
    rules = rules_of(tmp_path, "  - {name: empty, kind: out-of-stock, to: till}\n")
    files = tmp_path / "files"
    app = build_app(store, Hub(), lambda: True, access, files=files, rules=rules)
    tell(store)
    alarm(store)
    pictures = archive([told(0, path="a.jpg", group=EVIL, guess=EVIL, reason=EVIL)], {"a.jpg": jpeg(1)})
    import_from(io.BytesIO(pictures), Queue(files / "labels"), EVIL)
    visitor = Visitor(app)
    title = {"csrf": access.secret, "title": EVIL[:60], "zone": "UTC"}
    answer = visitor.post("/stores/0417/settings", data=title)
    yield Evil(app, visitor, answer.status_code)
    access.accounts.close()
    store.close()


def tell(store: Store) -> None:
    """Let a device say it: whatever an older recorder took in, or none ever checked."""
    since = rfc3339(NOW - timedelta(days=3))
    product = {
        "label": LABEL,
        "name": EVIL,
        "gtin": "09506000134352",
        "facings": 4,
        "filled": 0,
        "state": "out",
        "since": since,
    }
    table = product | {"label": "tea", "name": FORMULA}
    model = {"name": EVIL, "version": EVIL, "sha256": "ab" * 32}
    slot = {"state": "misplaced", "label": LABEL, "since": since, "stale": False}
    camera: dict[str, list[str]] = {"faults": []}
    state = snapshot(products=[product, table], model=model, slots={"A3": slot}, camera=camera)
    said = health(versions={"agent": EVIL, "model": EVIL}, safe_mode=EVIL, update=EVIL)
    note(store, SOURCE, "0417", "cam-12-01", state=json.dumps(state), health=json.dumps(said))
    for number, name in enumerate((EVIL, *FORMULAS), 1):
        body = json.loads((GOLDEN / "event-out-of-stock.v1.json").read_text())
        about = f"shelf/12/product/{LABEL if number == 1 else 'tea'}"
        body |= {"sequence": f"{number:016d}", "id": f"id-{number}", "subject": about, "time": since}
        body["data"] |= {"since": since, "label": name, "model": model}
        body["data"]["product"] = {"label": name, "name": name, "gtin": name}
        place = (SOURCE, body["id"], STREAM, number, body["type"], about, since)
        put(store, [Arrival(*place, json.dumps(body))])
    roll_up(store, NOW, {})


def alarm(store: Store) -> None:
    """Write down an alert, and what a receiver answered to it."""
    book, since = Book(store.engine), NOW - timedelta(hours=1)
    cause = out(LABEL, name=EVIL, gtin=EVIL, detail=EVIL)
    alert = Alert(id="a-1", rule=EVIL, cause=cause, since=since, opened=NOW, announced=NOW, told=NOW)
    alert_item = item_of(Told(Notice.OPENED, alert), StoreSetting(EVIL, "UTC"), NOW)
    with book.changing() as connection:
        book.write(connection, [alert], [Message("till", "a-1.opened", (alert_item,))], NOW)
        connection.execute(sa.update(DELIVERIES).values(said=f"HTTP 500 {EVIL}", state="given-up"))


class Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        bad = tag in {"pwn", "img"} and ("onpwn" in names or ("src", "x") in attrs)
        if bad or any(name.startswith("on") for name in names) or (tag == "script" and "src" not in names):
            self.found.append(f"<{tag} {attrs}>"[:200])
        for name, value in attrs:
            if name in {"href", "src", "action"} and (value or "").strip().lower().startswith("javascript:"):
                self.found.append(f"{tag} {value}")


def markup(text: str) -> list[str]:
    """Return what of a page is no markup of ours."""
    reader = Tags()
    reader.feed(text)
    return [tag for tag in reader.found if "application/json" not in tag]


def test_no_rule_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"rules\[0\].name"):
        rules_of(tmp_path, f"  - {{name: {json.dumps(EVIL[:60])}, kind: out-of-stock, to: till}}\n")


def test_every_field_is_words_on_every_page(evil: Evil) -> None:
    assert markup(EVIL), "the reader would see it"
    shown = 0
    for place in PAGES:
        answer = evil.visitor.get(place)
        assert answer.status_code == 200, place
        assert markup(answer.text) == [], place
        assert ">49<" not in answer.text, place
        shown += "onerror=window.evil" in answer.text
    assert shown >= len(PAGES) - 4, "it stands there, as words"
    assert evil.titled == 303


@pytest.mark.parametrize("place", TRIED)
def test_what_stands_in_an_address_is_words(evil: Evil, place: str) -> None:
    texts = (
        EVIL,
        "javascript:alert(1)",
        "//evil.example",
        "..%2f..%2fetc%2fpasswd",
        "\x00",
        FORMULA,
        "a\r\nSet-Cookie: a=b",
    )
    for text in texts:
        answer = evil.visitor.get(place.replace("{}", quote(text, safe="%")))
        assert answer.status_code < 500, (place, text)
        assert "set-cookie" not in answer.headers or "a=b" not in answer.headers["set-cookie"]
        assert not answer.headers.get("location", "").startswith(("//", "javascript:")), text
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert markup(answer.text) == [], (place, text)


@pytest.mark.parametrize(
    "place",
    [
        "/api/v1/events?format=csv",
        "/api/v1/products/tea/history?format=csv",
        "/stores/0417/availability.csv",
        "/stores/0417/products/tea/history.csv",
        "/stores/0417/devices/cam-12-01/slots/A3/history.csv",
    ],
)
def test_no_cell_of_a_table_is_a_formula(evil: Evil, place: str) -> None:
    answer = evil.visitor.get(place)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert len(rows) > 1
    cells = [cell for row in rows for cell in row]
    assert [cell for cell in cells if cell.lstrip(" ").startswith(("=", "+", "@", "\t", "\r", "\n"))] == []
    assert [cell for cell in cells if cell.startswith("-") and not cell[1:].replace(".", "").isdigit()] == []


@pytest.mark.parametrize("bad", FORMULAS)
def test_what_is_labelled_makes_no_formula_of_what_came(tmp_path: Path, bad: str) -> None:
    """Neither the columns of what was imported, nor the names of devices' products."""
    row = told(0, path="a.jpg", label="milk", group=bad, slot=bad, guess=bad, reason=bad)
    queue = Queue(tmp_path / "labels")
    assert import_from(io.BytesIO(archive([row], {"a.jpg": jpeg(1)})), queue, bad).new == 1
    export_to(tmp_path / "out", queue, {"milk": (bad, bad)})
    text = (tmp_path / "out" / "index.csv").read_text(encoding="utf-8")
    cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
    assert [cell for cell in cells if cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t"))] == []


def test_no_module_makes_markup_of_words() -> None:
    """What comes later, as the answer of a device to a command, is put there as text."""
    sinks = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
    )
    modules = sorted(STATIC.rglob("*.js"))
    assert modules
    found = {path.name: [sink for sink in sinks if sink in path.read_text("utf-8")] for path in modules}
    assert {name: sinks for name, sinks in found.items() if sinks} == {}


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve an application from a thread."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.mark.browser
def test_a_browser_runs_nothing_of_it(evil: Evil, opened: Opener) -> None:
    """A policy that had to stop something would be an error on the console, which fails the test."""
    with served(evil.app) as address:
        page = opened(address)
        for place in PAGES:
            page.goto(address + place, wait_until="load")
            assert page.evaluate("window.evil") is None, place
            assert page.locator("pwn, img[src=x]").count() == 0, place
        page.goto(f"{address}/stores/0417")
        page.locator("#tasks li, [data-product]").first.wait_for()
        assert page.evaluate("window.evil") is None
        assert page.locator("pwn, img[src=x]").count() == 0
        page.close()
