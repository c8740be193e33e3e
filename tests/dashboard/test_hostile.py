"""Whatever a device says, every page and every answer of the API is there afterwards."""

import asyncio
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from dashboard.inbox import Inbox
from dashboard.queries import Queries
from dashboard.store import Store
from dashboard.tables import METADATA
from dashboard.upkeep import Policy, look_after
from dashboard.web import Hub, build_app
from edge_agent.contracts import events, messages
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.topics import DeviceTopics

GOLDEN = Path(__file__).parents[1] / "golden"
TOPICS = DeviceTopics("0417", "cam-12-01")
CAME, NOW = datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2026, 11, 26, 12, tzinfo=UTC)
LONG = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(1000))
"""What no database makes smaller."""
BASES = {
    path.name: json.loads(path.read_bytes())
    for path in sorted(GOLDEN.glob("*.v1.json"))
    if path.name.startswith(("event-", "state.", "health."))
}
PAGES = (
    "/",
    "/fleet",
    *(f"/fleet?sort=-{name}" for name in ("status", "agent", "phase", "depth", "age", "seen")),
    "/fleet?status=online&text=cam",
    "/stores/0417",
    "/stores/0417/settings",
    "/stores/0417/availability?days=28",
    "/stores/0417/availability.csv",
    "/stores/0417/products/milk-1l",
    "/stores/0417/products/milk-1l/history.json",
    "/labels",
    "/metrics",
    *(
        f"/api/v1/{name}"
        for name in (
            "stores",
            "devices",
            "devices?status=online",
            "stores/0417/products",
            "events",
            "events?format=csv",
            "events?format=jsonl",
            "products/milk-1l/history",
            "gaps",
            "epcis?store=0417&gln=9506000134369",
        )
    ),
)


OF_DEVICE = (
    "/stores/0417/devices/{}/slots/A3",
    "/stores/0417/devices/{}/slots/A3/history.csv",
    "/stores/0417/devices/{}/planogram",
    "/api/v1/stores/0417/devices/{}",
    "/api/v1/stores/0417/devices/{}/slots",
)


class Raw(str):
    """Stands in a message as it is, without quotes: what no writer of JSON writes."""

    __slots__ = ()


def spoken(value: object) -> str:
    """Return JSON in which what is raw stays raw."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{spoken(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spoken, value)) + "]"
    return json.dumps(value)


# fmt: off
_RAW = (
    "1e400", "-1e999", "1e200000", "1e-20000", "NaN", "Infinity", "3.0", "-0", "x", '"\\ud800"', '"\\u0000"',
    "1" + "0" * 30, "1" + "0" * 5000, "0." + "1" * 20_000, "[" * 1200 + "]" * 1200,
)
_TEXTS = (
    "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z",
    "1764000000", "2026-11-23", "a/b", "../..", "<b>", "=1+1", "3", "trial", "online", "",
    "x" * 400, LONG,
)
# fmt: on
raw = st.sampled_from(_RAW).map(Raw)
texts = st.sampled_from(_TEXTS)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
leaves = raw | texts | scalars
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


@st.composite
def hostile(draw: st.DrawFn) -> tuple[str, bytes]:
    """A topic, and a message of it of which a few places are something else."""
    name = draw(st.sampled_from(sorted(BASES)))
    value = json.loads(json.dumps(BASES[name]))
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, value)
    leaf = name.removesuffix(".v1.json").replace("event-", "event/")
    payload = spoken(value).encode("utf-8", "surrogatepass")
    return of_device(draw(st.integers(0, 5)), (f"shelfkit/v1/0417/cam-12-01/{leaf}", payload))


def of_device(number: int, said: tuple[str, bytes]) -> tuple[str, bytes]:
    """Return a message as another device says it."""
    topic, payload = said
    return topic.replace("cam-12-01", f"cam-{number}"), payload.replace(b"cam-12-01", b"cam-%d" % number)


def _change(draw: st.DrawFn, value: Any) -> None:  # noqa: ANN401 - JSON
    """Put something else into one place, at any depth, or something more."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        more = ["more", "streamid", "stream"] if isinstance(value, dict) else []
        if not keys and not more:
            return
        key = draw(st.sampled_from([*keys, *more]))
        inner = value.get(key) if isinstance(value, dict) else value[key]
        if not isinstance(inner, dict | list) or draw(st.booleans()):
            value[key] = draw(anything)
            return
        value = inner


def statuses(app: Starlette, devices: list[str]) -> dict[str, int]:
    """Ask for everything; return what was answered."""
    pages = [*PAGES, *(page.format(name) for page in OF_DEVICE for name in devices)]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def ask() -> dict[str, int]:
        async with httpx.AsyncClient(transport=transport, base_url="http://kit") as client:
            return {path: (await client.get(path)).status_code for path in pages}

    return asyncio.run(ask())


def take(store: Store, *said: tuple[str, bytes]) -> Inbox:
    """Record what was said."""
    inbox = Inbox(CAME)
    for topic, payload in said:
        inbox.put(topic, payload)
    with store.writing() as connection:
        store.take(connection, inbox.batch, CAME)
    return inbox


def emptied(store: Store) -> None:
    with store.engine.begin() as connection:
        for table in METADATA.tables:
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - names of ours


def everything_stands(store: Store, app: Starlette, *said: tuple[str, bytes]) -> None:
    """Whatever was said: readers get an answer, upkeep comes to its end, a browser can read what is told."""
    emptied(store)
    good = tuple((f"shelfkit/v1/0417/cam-13-01/{leaf}", _golden(leaf)) for leaf in ("state", "health"))
    take(store, *good, *said)
    look_after(store, Policy(None, None), NOW, {})
    latest = Queries(store.engine).latest("0417")
    found = statuses(app, [device for device, _, _ in latest])
    assert {path: status for path, status in found.items() if status >= 500} == {}
    for text in (text for _, *texts in latest for text in texts if text):
        json.loads(text, parse_float=_finite, parse_constant=_finite)


def _golden(leaf: str) -> bytes:
    return (GOLDEN / f"{leaf}.v1.json").read_bytes().replace(b"cam-12-01", b"cam-13-01")


def _finite(text: str) -> float:
    assert math.isfinite(float(text)), text
    return float(text)


def built(store: Store, folder: Path) -> Starlette:
    return build_app(store, Hub(), lambda: True, files=folder)


def with_(name: str, **changes: object) -> tuple[str, bytes]:
    leaf = name.replace("event-", "event/")
    return f"shelfkit/v1/0417/cam-12-01/{leaf}", spoken(BASES[f"{name}.v1.json"] | changes).encode()


FAR, EARLY = "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"
KNOWN = [
    with_("health", time=EARLY),
    with_("health", time=FAR),
    with_("health", time="0001-01-01T00:00:00-05:00"),
    with_("health", time=1764000000),
    with_("health", x=Raw("1e200000")),
    with_("health", x=Raw("1e-20000")),
    with_("health", x=Raw("[" * 1200 + "]" * 1200)),
    with_("health", outbox_age_s=Raw("1e400")),
    with_("health", outbox_depth=Raw("1" + "0" * 30)),
    with_("health", outbox_depth=True),
    ("shelfkit/v1/0417/cam-12-01/health", b'{"status":{"a":"x"},"status":"online"}'),
    with_("state", time=FAR),
    with_("state", products=[BASES["state.v1.json"]["products"][0] | {"name": "x" * 400}]),
    with_("event-restocked", time=EARLY),
    with_("event-restocked", price=Raw("1e400")),
    with_("event-restocked", data=BASES["event-restocked.v1.json"]["data"] | {"since": FAR}),
    with_("event-restocked", type="shelfkit.product.restocked.v2", data={"since": FAR}),
    with_("event-restocked", subject="shelf/12/product/" + LONG),
    ("shelfkit/v1/0417/" + "x" * 4000 + "/health", b'{"status":"online"}'),
]


def test_what_took_pages_down_is_quarantined_or_harmless(store: Store, tmp_path: Path) -> None:
    said = [of_device(number, one) for number, one in enumerate(KNOWN)]
    everything_stands(store, built(store, tmp_path), *said)


@pytest.mark.parametrize("name", sorted(BASES))
def test_what_devices_say_is_taken(name: str) -> None:
    inbox = Inbox(CAME)
    inbox.put(*with_(name.removesuffix(".v1.json")))
    assert inbox.batch.refusals == []


_QUICK = settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def test_any_message_leaves_every_page_standing(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    app = built(store, tmp_path)

    @_QUICK
    @given(st.lists(hostile(), min_size=6, max_size=16))
    def stands(said: list[tuple[str, bytes]]) -> None:
        everything_stands(store, app, *said)

    stands()
    store.close()


@pytest.mark.slow
def test_any_message_leaves_every_page_standing_on_either(store: Store, tmp_path: Path) -> None:
    app = built(store, tmp_path)

    @settings(_QUICK, max_examples=60, derandomize=False)
    @given(st.lists(hostile(), min_size=6, max_size=16))
    def stands(said: list[tuple[str, bytes]]) -> None:
        everything_stands(store, app, *said)

    stands()


@given(hostile())
@example(with_("health", time=EARLY))
@example(with_("event-restocked", time=EARLY))
@example(with_("event-restocked", type=[]))
@settings(deadline=None)
def test_a_reader_gets_a_message_or_a_data_error(said: tuple[str, bytes]) -> None:
    topic, payload = said
    try:
        if "/event/" in topic:
            events.decode(payload)
        else:
            messages.decode(messages.State if topic.endswith("state") else messages.Health, payload)
    except DataError:
        pass


@given(st.lists(st.tuples(st.sampled_from(["state", "health", "event/restocked"]), anything), max_size=3))
def test_any_json_is_taken_or_quarantined(said: list[tuple[str, object]]) -> None:
    inbox = Inbox(CAME)
    for leaf, value in said:
        inbox.put(f"shelfkit/v1/0417/cam-12-01/{leaf}", spoken(value).encode("utf-8", "surrogatepass"))
    assert len(inbox.batch.refusals) == len(said)
