"""What is wrong, read from what devices say."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.alerts.causes import Cause, Kind, causes_of
from dashboard.alerts.deciding import Situation, decide
from dashboard.alerts.rules import Rules
from edge_agent.contracts import messages
from edge_agent.contracts.messages import Health, State
from tests.dashboard.alerts.files import rules_of
from tests.dashboard.pages import GOLDEN

TOLD = datetime(2026, 11, 23, 9, 14, 5, 120_000, tzinfo=UTC)


def golden(name: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    value: dict[str, Any] = json.loads((GOLDEN / f"{name}.v1.json").read_bytes())
    # What the recorder lets pass is what the contract says.
    messages.decode(State if name == "state" else Health, json.dumps(value | changes).encode())
    return value | changes


PRODUCT = golden("state")["products"][0]


def found(
    state: dict[str, Any] | None, health: dict[str, Any] | None, heard: datetime | None = None
) -> dict[Kind, Cause]:
    return {cause.kind: cause for cause in causes_of("0417", "cam-12-01", state, health, heard)}


def test_a_device_that_has_said_nothing_has_no_trouble() -> None:
    assert found(None, None) == {}


def test_a_shelf_and_its_camera() -> None:
    causes = found(golden("state"), golden("health"))
    milk = causes[Kind.OUT_OF_STOCK]
    assert (milk.subject, milk.name, milk.gtin, milk.detail) == (
        "product/milk-1l",
        "Milk 1 l",
        "09506000134352",
        "0/1",
    )
    assert milk.since == datetime(2026, 11, 23, 9, 13, 35, tzinfo=UTC)
    assert milk.doubtful, "the camera is blocked"
    assert causes[Kind.CAMERA_FAULT].subject == "camera/blocked"
    assert set(causes) == {
        Kind.OUT_OF_STOCK,
        Kind.CAMERA_FAULT,
        Kind.DEVICE_SILENT,
        Kind.EVENTS_WAITING,
    }


@pytest.mark.parametrize(
    ("slot", "kind", "doubtful"),
    [
        ({"state": "misplaced", "label": "tea", "since": "2026-11-23T09:00:00.000Z"}, Kind.MISPLACED, False),
        ({"state": "unknown", "stale": True}, Kind.UNKNOWN_PRODUCT, True),
        ({"state": "present"}, None, False),
        ({}, None, False),
    ],
)
def test_slots(slot: dict[str, Any], kind: Kind | None, doubtful: bool) -> None:
    state = golden("state", products=[], camera={"faults": []}, slots={"A3": slot})
    causes = found(state, None)
    assert set(causes) == ({kind} if kind else set())
    for cause in causes.values():
        assert (cause.subject, cause.label, cause.doubtful) == ("slot/A3", slot.get("label", ""), doubtful)


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"status": "offline"}, {Kind.DEVICE_OFFLINE}),
        ({"status": "stopped"}, {Kind.DEVICE_OFFLINE}),
        ({"safe_mode": "no bundle"}, {Kind.SAFE_MODE, Kind.DEVICE_SILENT, Kind.EVENTS_WAITING}),
        ({"update": "rolled_back", "outbox_age_s": 0}, {Kind.UPDATE_ROLLED_BACK, Kind.DEVICE_SILENT}),
        ({"update": "committed", "outbox_age_s": None}, {Kind.DEVICE_SILENT}),
        ({"outbox_age_s": 0, "clock_synchronized": False}, set()),
    ],
)
def test_devices(changes: dict[str, Any], kinds: set[Kind]) -> None:
    assert set(found(None, golden("health", **changes))) == kinds


def test_moments_are_by_our_clock() -> None:
    ahead = timedelta(hours=2)
    causes = found(golden("state"), golden("health", clock_offset_s=ahead.total_seconds()))
    assert causes[Kind.OUT_OF_STOCK].since == datetime(2026, 11, 23, 11, 13, 35, tzinfo=UTC)
    assert causes[Kind.DEVICE_SILENT].since == TOLD + ahead
    assert causes[Kind.EVENTS_WAITING].since == TOLD + ahead - timedelta(seconds=2)
    heard = TOLD + timedelta(days=1)
    assert found(None, golden("health", clock_synchronized=False), heard)[Kind.DEVICE_SILENT].since == heard


absurd = st.one_of(
    st.none(),
    st.floats(),
    st.integers(),
    st.sampled_from([1e400, "nan", "inf", "-1e308", "1e-320", "12", "0001-01-01T00:00:00+14:00", 0]),
    st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat()),
)
health = st.fixed_dictionaries(
    {"status": st.sampled_from(["online", "offline", "stopped"])},
    optional=dict.fromkeys(
        ("time", "clock_offset_s", "outbox_age_s", "safe_mode", "update", "clock_synchronized"), absurd
    ),
)
product = st.fixed_dictionaries({"state": st.sampled_from(["ok", "low", "out"]), "since": absurd})


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    """A rule for each kind, which has to count opening hours for as long as may be."""
    lines = [f"  - {{name: {kind}, kind: {kind}, after: 30d, hours: shop, to: till}}\n" for kind in Kind]
    return rules_of(tmp_path_factory.mktemp("rules"), "".join(lines))


@settings(max_examples=60)
@given(health, st.lists(product, max_size=2), absurd)
def test_no_device_can_end_it(
    every_kind: Rules, told: dict[str, Any], products: list[dict[str, Any]], at: object
) -> None:
    """Also where it says more than the recorder lets pass."""
    state = golden("state")
    state |= {
        "products": [PRODUCT | each for each in products],
        "slots": {"A3": {"state": "unknown", "since": at}},
    }
    shelf, device = (json.loads(json.dumps(value)) for value in (state, told))
    causes = causes_of("0417", "cam-12-01", shelf, device, None)
    decide(Situation(every_kind, {}, [], TOLD), causes, [], lambda: "1")
