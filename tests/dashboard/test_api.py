"""The REST API, on both databases: what it says, what it refuses, and that it is what OpenAPI says it is."""

import asyncio
import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import hypothesis
import jsonschema
import pytest
import schemathesis
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.applications import Starlette

from dashboard.accounts.gate import Access
from dashboard.accounts.people import utc_now
from dashboard.accounts.records import Accounts
from dashboard.api import answers, document
from dashboard.batch import Batch
from dashboard.rollup import roll_up
from dashboard.store import Arrival, Store
from dashboard.web import Hub, build_app
from edge_agent.contracts import events
from edge_agent.contracts.events import Kind
from edge_agent.contracts.times import rfc3339
from tests.dashboard.pages import Visitor, snapshot, told
from tests.dashboard.stored import note, put

GOLDEN = Path(__file__).parents[1] / "golden"
GRAFANA = Path(__file__).parents[2] / "dashboard" / "grafana"
STREAM = "7f0c9a52d1b84d0e8f4c2b1a90e7d655"
Ask = Callable[[str], httpx.Response]


def fill(store: Store, name: str = "Milk 1 l") -> None:
    """Two stores, one device each; every kind of event in the first, an unknown one in the second."""
    arrivals = []
    for number, kind in enumerate(Kind, start=1):
        body = json.loads((GOLDEN / f"event-{kind.value}.v1.json").read_bytes())
        body["sequence"] = f"{number:016d}"
        if "product" in body["data"]:
            body["data"]["product"]["name"] = name
        source, received = body["source"], f"2026-11-23T09:{number:02d}:00.000Z"
        row = (source, body["id"], STREAM, number, body["type"], body["subject"], received)
        arrivals.append(Arrival(*row, json.dumps(body)))
    other = events.source("9", "cam-1")
    newer = {
        "specversion": "1.0",
        "id": "x-1",
        "source": other,
        "type": "shelfkit.shelf.moved.v2",
        "subject": "shelf/1",
        "sequence": "1".zfill(16),
        "streamid": "ab" * 16,
    }
    row = (other, "x-1", "ab" * 16, 1, newer["type"], "shelf/1", "2026-11-23T10:00:00.000Z")
    put(store, [*arrivals, Arrival(*row, json.dumps(newer))])
    state = (GOLDEN / "state.v1.json").read_text()
    state = json.dumps(json.loads(state) | {"last": len(Kind) + 3})
    note(store, source, "0417", "cam-12-01", state=state, health=(GOLDEN / "health.v1.json").read_text())
    note(store, other, "9", "cam-1", health='{"status":"offline"}')


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with something in it."""
    fill(store)
    return store


def asker(store: Store) -> Ask:
    transport = httpx.ASGITransport(build_app(store, Hub(), lambda: True), raise_app_exceptions=False)

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://kit") as client:
            return await client.get(path)

    return lambda path: asyncio.run(ask(path))


@pytest.fixture
def get(filled: Store) -> Ask:
    """Ask the application itself, without a server."""
    return asker(filled)


def kinds(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["event"]["type"].split(".")[-2] for item in answer.json()["events"]]


def test_days_tell_how_long_something_was_out(store: Store) -> None:
    now = datetime.now(UTC)
    for number, (kind, ago_s) in enumerate((("out-of-stock", 90_000), ("restocked", 86_400)), start=1):
        body = told(kind, number, ago_s)
        row = (body["source"], body["id"], STREAM, number, body["type"], body["subject"], body["time"])
        put(store, [Arrival(*row, json.dumps(body))])
    # As it was taken in: a device that has the product, and one of another store.
    note(store, body["source"], "0417", "cam-12-01", state=json.dumps(snapshot(time=rfc3339(now))))
    note(store, events.source("9", "cam-1"), "9", "cam-1", health='{"status":"offline"}')
    ask, label = asker(store), body["subject"].rpartition("/")[2]
    raw = ask("/api/v1/stores/0417/days?days=3").json()
    [milk] = [one for one in raw["found"] if one["name"] == label]
    assert (raw["zone"], sum(day["out_s"] for day in milk["days"])) == ("UTC", 3600)
    assert {day["gaps"] for day in milk["days"] if day["out_s"]} == {1}
    roll_up(store, now, {})
    assert ask("/api/v1/stores/0417/days?days=3").json()["found"][0]["days"][0] == raw["found"][0]["days"][0]
    roll_up(store, now, {"0417": ZoneInfo("Asia/Shanghai")})
    assert ask("/api/v1/stores/0417/days").json()["zone"] == "Asia/Shanghai"
    assert ask("/api/v1/stores/9/days?about=slot").json() == {"zone": "UTC", "found": []}
    assert ask("/api/v1/stores/10/days").status_code == 404
    assert ask("/api/v1/stores/0417/days?days=0").status_code == 400


def test_stores_devices_slots_products(get: Ask) -> None:
    assert get("/api/v1/stores").json()["stores"] == [
        {"store": "0417", "devices": 1, "online": 1},
        {"store": "9", "devices": 1, "online": 0},
    ]
    first = get("/api/v1/devices?limit=1").json()
    assert [item["device"] for item in first["devices"]] == ["cam-12-01"]
    rest = get(f"/api/v1/devices?limit=5&after={first['next']}").json()
    assert ([item["device"] for item in rest["devices"]], rest["next"]) == (["cam-1"], None)
    assert [item["store"] for item in get("/api/v1/devices?status=offline").json()["devices"]] == ["9"]
    device = get("/api/v1/stores/0417/devices/cam-12-01").json()
    assert (device["health"]["status"], device["state"]["shelf"]) == ("online", "12")
    (slot,) = get("/api/v1/stores/0417/devices/cam-12-01/slots").json()["slots"]
    assert (slot["slot"], slot["state"], slot["shelf"]) == ("A3", "empty", "12")
    (product,) = get("/api/v1/stores/0417/products?level=out").json()["products"]
    assert (product["label"], product["device"]) == ("milk-1l", "cam-12-01")
    assert get("/api/v1/stores/0417/products?level=low").json() == {"products": []}


def test_events_by_page_and_filter(get: Ask) -> None:
    found, after = [], 0
    while after is not None:
        page = get(f"/api/v1/events?limit=5&after={after}")
        found += kinds(page)
        after = page.json()["next"]
    assert found == [*(kind.value for kind in Kind), "moved"]
    assert kinds(get("/api/v1/events?store=9")) == ["moved"]
    assert kinds(get("/api/v1/events?device=cam-1")) == ["moved"]
    assert kinds(get("/api/v1/events?kind=low-stock")) == ["low-stock"]
    stock = ["out-of-stock", "low-stock", "restocked"]
    assert kinds(get("/api/v1/events?product=milk-1l")) == stock
    assert kinds(get("/api/v1/products/milk-1l/history")) == stock
    assert kinds(get("/api/v1/products/milk_1l/history")) == []  # no wildcard of SQL
    since, until = "2026-11-23T10:05:00%2B01:00", "2026-11-23T09:07:00Z"
    assert kinds(get(f"/api/v1/events?since={since}&until={until}")) == stock[:2]


def test_gaps(filled: Store, get: Ask) -> None:
    source = events.source("0417", "cam-12-01")
    noted = events.Event.model_validate_json((GOLDEN / "event-low-stock.v1.json").read_bytes()).time
    with filled.writing() as connection:
        filled.take(connection, Batch(oldest={(source, STREAM): 20}), noted)
    (gap,) = get("/api/v1/gaps").json()["gaps"]
    assert (gap["first"], gap["last"]) == (13, 19)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("events?kind=sold", 400),
        ("events?limit=0", 400),
        ("events?limit=1&limit=2", 400),
        ("events?since=yesterday", 400),
        ("events?until=9999-12-31T23:59:59-12:00", 400),
        ("events?colour=red", 400),
        ("events?store=%00", 400),
        ("events?product=%ff", 400),
        ("epcis?store=0417", 400),
        ("epcis?store=0417&gln=1234567890123", 400),
        ("stores/none/products", 404),
        ("stores/0417/devices/none", 404),
        ("stores/0417/devices/..%2fx", 404),
        ("nothing", 404),
    ],
)
def test_what_is_refused_is_told_as_a_problem(get: Ask, path: str, status: int) -> None:
    answer = get(f"/api/v1/{path}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_database_that_is_away_is_a_problem_and_counted(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    with store.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE device"))
    get = asker(store)
    assert get("/api/v1/devices").status_code == 503
    assert metrics(get)["shelfkit_database_errors_total"] >= 1
    store.close()


def test_exports_go_through_to_the_end_and_no_cell_is_a_formula(store: Store) -> None:
    fill(store, "=HYPERLINK(1)")
    get = asker(store)
    answer = get("/api/v1/events?format=csv&limit=1")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(Kind) + 1
    assert {row["name"] for row in rows} == {"", "'=HYPERLINK(1)"}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    lines = get("/api/v1/products/milk-1l/history?format=jsonl").text.splitlines()
    assert [json.loads(line)["event"]["data"]["filled"] for line in lines] == [0, 1, 4]


def test_epcis(get: Ask) -> None:
    answer = get("/api/v1/epcis?store=0417&gln=9506000134369&offset=%2B01:00")
    assert answer.headers["content-type"] == "application/ld+json"
    golden = json.loads((GOLDEN / "epcis-document.jsonld").read_bytes())
    found, expected = (value["epcisBody"]["eventList"] for value in (answer.json(), golden))
    assert sorted(found, key=lambda item: item["eventID"]) == sorted(
        expected, key=lambda item: item["eventID"]
    )


def test_epcis_of_too_much_is_refused_not_cut(get: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "EPCIS_MOST", 2)
    path = "/api/v1/epcis?store=0417&gln=9506000134369"
    assert get(path).status_code == 400
    assert get(f"{path}&until=2026-11-23T09:07:00Z").status_code == 200


def metrics(get: Ask) -> dict[str, float]:
    answer = get("/metrics")
    assert answer.status_code == 200
    found = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.name.startswith("shelfkit_")
        assert family.documentation
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found[sample.name + "".join(f":{value}" for value in sample.labels.values())] = sample.value
    return found


def test_metrics(get: Ask) -> None:
    found = metrics(get)
    expected = {
        "shelfkit_events_recorded_total": len(Kind) + 1,
        "shelfkit_events_lost": 0,
        "shelfkit_events_refused": 0,
        "shelfkit_events_unacknowledged": 3,
        "shelfkit_devices:online": 1,
        "shelfkit_devices:offline": 1,
        "shelfkit_broker_connected": 1,
        "shelfkit_page_streams": 0,
        "shelfkit_database_errors_total": 0,
    }
    assert {name: found[name] for name in expected} == expected


def test_openapi_is_served_and_its_schemas_are_schemas(get: Ask) -> None:
    assert get("/api/v1/openapi.json").json() == document()
    for schema in document()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_answer_is_what_openapi_says(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    fill(store)
    answers_as_told(build_app(store, Hub(), lambda: True), {})
    store.close()


@pytest.mark.slow
def test_every_answer_to_a_token_is_what_openapi_says(filled: Store) -> None:
    access = Access(Accounts())
    app = build_app(filled, Hub(), lambda: True, access)
    token = access.accounts.tokens.make("reader", "admin", utc_now())
    answers_as_told(app, {"Authorization": f"Bearer {token}"})
    refused = Visitor(app).get("/api/v1/stores")
    described = document()["paths"]["/api/v1/stores"]["get"]["responses"]["401"]["content"]
    assert (refused.status_code, refused.headers["content-type"]) == (401, *described)
    jsonschema.validate(refused.json(), document()["components"]["schemas"]["Problem"])


def answers_as_told(app: Starlette, headers: dict[str, str]) -> None:
    """Ask whatever the document lets one ask."""
    described = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=headers)
    seen = 0
    quick = hypothesis.settings(
        max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    for found in described.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr] # one that cannot be read fails here

        @quick
        @hypothesis.given(case=operation.as_strategy())
        def answer(case: Any) -> None:  # noqa: ANN401 - schemathesis' own
            # How EPCIS names places goes beyond a schema: one of two, and a check digit.
            beyond = [positive_data_acceptance] if case.path.endswith("/epcis") else []
            case.call_and_validate(excluded_checks=beyond, headers=headers)

        answer()
        seen += 1
    assert seen == len(document()["paths"])


def test_grafana_names_only_metrics_that_there_are(get: Ask) -> None:
    there = {name.split(":")[0] for name in metrics(get)}
    boards = list(GRAFANA.glob("*.json"))
    assert boards
    for path in boards:
        board = json.loads(path.read_bytes())
        asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        named = {name for expression in asked for name in re.findall(r"shelfkit_\w+", expression)}
        assert named
        assert named <= there
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
