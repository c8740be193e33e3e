"""The event contract: round trips, golden bytes, what a reader must refuse and what it must keep."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contracts import events, messages
from edge_agent.contracts.errors import DataError
from tests import strategies

GOLDEN = Path(__file__).parent.parent / "golden"
SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"
MESSAGES: dict[str, type[events.Message]] = {
    "state": messages.State,
    "health": messages.Health,
    "ack": messages.Ack,
    "reply": messages.Reply,
}


@given(strategies.events())
def test_round_trip(event: events.Event) -> None:
    assert events.decode(events.encode(event)) == event


@given(strategies.events())
def test_every_event_matches_the_published_schema(event: events.Event) -> None:
    schema = json.loads((SCHEMAS / "event.schema.json").read_text())
    value = event.model_dump(mode="json", exclude_none=True)
    jsonschema.validate(value, schema)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("event-*.v1.json")), ids=lambda path: path.stem)
def test_golden_events_keep_their_bytes(path: Path) -> None:
    payload = path.read_bytes().strip()
    assert events.encode(events.decode(payload)) == payload


def test_there_is_a_golden_event_of_every_kind() -> None:
    kinds = {events.decode(path.read_bytes()).kind for path in GOLDEN.glob("event-*.v1.json")}
    assert kinds == set(events.Kind)


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_messages_keep_their_bytes(name: str) -> None:
    payload = (GOLDEN / f"{name}.v1.json").read_bytes().strip()
    assert messages.encode(messages.decode(MESSAGES[name], payload)) == payload


def test_a_newer_minor_version_survives_us() -> None:
    value = json.loads((GOLDEN / "event-out-of-stock.v1.json").read_bytes())
    newer = value | {"aisle": 3, "data": value["data"] | {"depth": {"cm": 40}}}
    assert json.loads(events.encode(events.decode(json.dumps(newer).encode()))) == newer


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"type": "shelfkit.product.out-of-stock.v2"}, "version 1"),
        ({"type": None}, "type"),
        ({"sequence": "0"}, "sequence"),
        ({"sequence": "-1"}, "sequence"),
        ({"streamid": "x"}, "streamid"),
        ({"time": "2026-11-23T09:14:05"}, "time"),
        ({"source": "cam-1"}, "source"),
        ({"data": []}, "data"),
        ({"data": {"store": "1"}}, "shelf"),
    ],
)
def test_a_foreign_event_is_refused(change: dict[str, object], said: str) -> None:
    value = json.loads((GOLDEN / "event-out-of-stock.v1.json").read_bytes())
    with pytest.raises(DataError, match=said):
        events.decode(json.dumps(value | change).encode())


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_whatever_comes_is_an_event_or_a_data_error(payload: bytes) -> None:
    with pytest.raises(DataError):
        events.decode(payload)
    with pytest.raises(DataError):
        messages.decode(messages.State, payload)


def test_hostile_nesting_is_a_data_error() -> None:
    with pytest.raises(DataError):
        events.decode(b"[" * 100_000)
