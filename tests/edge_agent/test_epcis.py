"""EPCIS 2.0: what GS1's schema asks of a document, what each event becomes, and what people get wrong."""

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from edge_agent.__main__ import app
from edge_agent.contracts import events
from edge_agent.contracts.command import run_command
from edge_agent.contracts.epcis import Naming, Skipped, document, encode, object_event
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.events import Event, Kind
from edge_agent.epcis_command import convert
from tests import strategies

GOLDEN = Path(__file__).parent.parent / "golden"
CREATED = datetime(2026, 11, 24, 6, tzinfo=UTC)
GLN = "9506000134369"
BASE = "https://example.com/epcis"

TIME = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$"
URI = {"type": "string", "pattern": r"^[a-z][a-z0-9+.-]*:[!-~]+$"}
PLACE = {"type": "object", "required": ["id"], "properties": {"id": URI}, "additionalProperties": False}
QUANTITY = {
    "type": "object",
    "required": ["epcClass", "quantity"],
    "properties": {
        "epcClass": URI,
        "quantity": {"type": "number"},
        "uom": {"type": "string", "pattern": "^[A-Z0-9]{2,3}$"},
    },
    "additionalProperties": False,
}
EVENT = {
    "type": "object",
    "required": ["type", "eventTime", "eventTimeZoneOffset", "action", "quantityList"],
    "properties": {
        "type": {"const": "ObjectEvent"},
        "eventID": URI,
        "eventTime": {"type": "string", "pattern": TIME},
        "recordTime": {"type": "string", "pattern": TIME},
        "eventTimeZoneOffset": {
            "type": "string",
            "pattern": r"^[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)$",
        },
        "action": {"enum": ["OBSERVE", "ADD", "DELETE"]},
        "bizStep": {"enum": ["cycle_counting", "stocking", "stock_taking", "inspecting", "storing"]},
        "disposition": {"enum": ["sellable_accessible", "sellable_not_accessible", "unknown"]},
        "readPoint": PLACE,
        "bizLocation": PLACE,
        "quantityList": {"type": "array", "minItems": 1, "items": QUANTITY},
    },
    # A key that is no word of EPCIS must be a URI; the kit adds none.
    "additionalProperties": False,
}
DOCUMENT = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["@context", "type", "schemaVersion", "creationDate", "epcisBody"],
    "properties": {
        "@context": {"type": "array", "uniqueItems": True, "items": URI, "minItems": 1},
        "type": {"const": "EPCISDocument"},
        "schemaVersion": {"type": "string", "pattern": r"^2\.\d+(\.\d+)?$"},
        "creationDate": {"type": "string", "pattern": TIME},
        "epcisBody": {
            "type": "object",
            "required": ["eventList"],
            "properties": {"eventList": {"type": "array", "items": EVENT}},
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
"""The rules of GS1's EPCIS-JSON-Schema 2.0 that touch what the kit writes, in words of our own.

Stricter in places: only the business steps and dispositions that can be meant here.
"""


def golden(kind: Kind, **changes: Any) -> Event:  # noqa: ANN401 - any field of an event
    """Return the golden event of one kind, with fields of its data replaced."""
    value = json.loads((GOLDEN / f"event-{kind.value}.v1.json").read_bytes())
    return events.decode(json.dumps(value | {"data": value["data"] | changes}).encode())


def told(event: Event, **names: str) -> dict[str, Any]:
    """Return the EPCIS event, which there must be."""
    found = object_event(event, Naming(**(names or {"gln": GLN})))
    assert isinstance(found, dict)
    return found


def test_the_schema_itself_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(DOCUMENT)


@given(strategies.events())
def test_every_document_holds_to_the_schema(event: Event) -> None:
    found = object_event(event, Naming(base_uri=BASE, offset="-03:30"))
    objects = [] if isinstance(found, Skipped) else [found]
    assert bool(objects) == (event.kind.about == "product")
    value = json.loads(encode(document(objects, created=CREATED)))
    jsonschema.Draft7Validator(DOCUMENT).validate(value)


@pytest.mark.parametrize(
    ("kind", "step", "quantity"),
    [
        (Kind.OUT_OF_STOCK, {"bizStep": "cycle_counting"}, 0),
        (Kind.LOW_STOCK, {"bizStep": "cycle_counting"}, 1),
        (Kind.RESTOCKED, {"bizStep": "stocking", "disposition": "sellable_accessible"}, 4),
    ],
)
def test_what_a_product_event_becomes(kind: Kind, step: dict[str, str], quantity: int) -> None:
    event = golden(kind)
    shelf = {"id": f"https://id.gs1.org/414/{GLN}/254/12"}
    assert told(event) == step | {
        "type": "ObjectEvent",
        "action": "OBSERVE",
        "eventID": f"urn:uuid:{event.id}",
        "eventTime": "2026-11-23T09:14:05.120Z",
        "eventTimeZoneOffset": "+00:00",
        "readPoint": shelf,
        "bizLocation": shelf,
        "quantityList": [{"epcClass": "https://id.gs1.org/01/09506000134352", "quantity": quantity}],
    }


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.about != "product"])
def test_other_events_are_left_out(kind: Kind) -> None:
    assert object_event(golden(kind), Naming(gln=GLN)) is Skipped.KIND


def test_a_product_without_a_gtin_needs_a_web_address() -> None:
    event = golden(Kind.LOW_STOCK, product={"label": "Käse 100% rot", "name": "Käse"})
    assert object_event(event, Naming(gln=GLN)) is Skipped.NO_GTIN
    found = told(event, gln=GLN, base_uri=f"{BASE}/")
    assert found["quantityList"][0]["epcClass"] == f"{BASE}/class/K%C3%A4se%20100%25%20rot"
    assert found["readPoint"]["id"].startswith("https://id.gs1.org/414/")


def test_a_shelf_without_a_gln_is_named_below_the_web_address() -> None:
    found = told(golden(Kind.LOW_STOCK), base_uri=BASE)
    assert found["readPoint"] == found["bizLocation"] == {"id": f"{BASE}/loc/0417/12"}
    assert found["quantityList"][0]["epcClass"] == "https://id.gs1.org/01/09506000134352"


def test_a_long_shelf_does_not_fit_behind_a_gln() -> None:
    event = golden(Kind.LOW_STOCK, shelf="a" * 21)
    with pytest.raises(DataError, match="at most 20 characters"):
        told(event)
    assert told(event, base_uri=BASE)["readPoint"]["id"].endswith("a" * 21)
    assert told(golden(Kind.LOW_STOCK, shelf="a" * 20))


def test_an_id_that_is_no_uuid_is_refused() -> None:
    event = golden(Kind.LOW_STOCK).model_copy(update={"id": "42"})
    with pytest.raises(DataError, match="UUID"):
        told(event)


def test_an_event_that_comes_twice_is_in_the_document_once() -> None:
    low, restocked = told(golden(Kind.LOW_STOCK)), told(golden(Kind.RESTOCKED))
    body: Any = document([low, restocked, low], created=CREATED)["epcisBody"]
    assert body["eventList"] == [low, restocked]


def golden_lines() -> bytes:
    """Every golden event, one on each line."""
    return b"".join(path.read_bytes().strip() + b"\n" for path in sorted(GOLDEN.glob("event-*.v1.json")))


def test_the_golden_document_keeps_its_bytes() -> None:
    objects, skipped = convert(golden_lines().splitlines(), Naming(gln=GLN, offset="+01:00"), "lines")
    assert encode(document(objects, created=CREATED)) == (GOLDEN / "epcis-document.jsonld").read_bytes()
    assert skipped == {Skipped.KIND: 9}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({}, "a GLN or a base URI"),
        ({"gln": "950600013436"}, "13 digits"),
        ({"gln": "９506000134369"}, "13 digits"),  # noqa: RUF001 - a digit, but not of ASCII
        ({"gln": "9506000134368"}, "check digit 9"),
        ({"base_uri": "example.com"}, "a base URI"),
        ({"base_uri": "https://"}, "a base URI"),
        ({"base_uri": "https://[x"}, "a base URI"),
        ({"base_uri": "https://example.com/a b"}, "a base URI"),
        ({"base_uri": "https://example.com/?q=1"}, "a base URI"),
        ({"base_uri": "ftp://example.com"}, "a base URI"),
        ({"base_uri": BASE, "offset": "01:00"}, "an offset"),
        ({"base_uri": BASE, "offset": "+14:30"}, "an offset"),
    ],
)
def test_what_cannot_name_anything_is_refused(names: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Naming(**names)


Run = Callable[..., int]


@pytest.fixture
def run() -> Run:
    """Run `shelfkit agent epcis` here, and return its exit code."""
    return lambda *arguments: run_command(lambda: app(["epcis", *map(str, arguments)]))


def test_a_file_becomes_a_file(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.jsonl").write_bytes(golden_lines() + b"\n")
    out = tmp_path / "new" / "events.jsonld"
    options = ("--gln", GLN, "--offset", "+01:00", "--created", "2026-11-24T06:00:00Z", "--out", out)
    assert run(tmp_path / "events.jsonl", *options) == 0
    assert out.read_bytes() == (GOLDEN / "epcis-document.jsonld").read_bytes()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "exported: 3; left out: 9 of kinds that are not exported\n"


def test_standard_input_becomes_standard_output(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = events.encode(golden(Kind.LOW_STOCK, product={"label": "x", "name": "X"}))
    lines = io.BytesIO(golden_lines() + nameless)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines))
    assert run("-", "--gln", GLN) == 0
    said = capsys.readouterr()
    value = json.loads(said.out)
    jsonschema.Draft7Validator(DOCUMENT).validate(value)
    assert len(value["epcisBody"]["eventList"]) == 3
    assert "1 of products without a GTIN (--base-uri names those)" in said.err


@pytest.mark.parametrize("line", [b"{", b"[]", b"\xff", b'{"type": "shelfkit.product.low-stock.v2"}'])
def test_a_line_that_is_no_event_is_named(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], line: bytes
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(golden_lines() + b"\n" + line)
    assert run(path, "--gln", GLN, "--out", tmp_path / "out.jsonld") == 4
    said = capsys.readouterr().err
    assert f"{path}, line 14: Expected: a shelfkit event of version 1" in said
    assert "hint: each line is one event" in said
    assert not (tmp_path / "out.jsonld").exists()


def test_one_gln_does_not_name_two_stores(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    other = golden(Kind.LOW_STOCK, store="0418")
    path.write_bytes(golden_lines() + events.encode(other))
    assert run(path, "--gln", GLN) == 4
    assert "line 13: Expected: events of one store with --gln" in capsys.readouterr().err
    assert run(path, "--base-uri", BASE) == 0


def test_what_people_get_wrong(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.jsonl", "--gln", GLN) == 4
    assert "Expected: a file of events" in capsys.readouterr().err
    path = tmp_path / "events.jsonl"
    path.write_bytes(golden_lines())
    assert run(path) == 2
    assert "a GLN or a base URI" in capsys.readouterr().err
    assert run(path, "--gln", GLN, "--created", "yesterday") == 2
    assert "--created as RFC 3339" in capsys.readouterr().err
    assert run(path, "--gln", GLN, "--out", path / "below") == 4
    assert "Expected: to write --out" in capsys.readouterr().err


def test_no_events_are_an_empty_document(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.jsonl").touch()
    assert run(tmp_path / "events.jsonl", "--gln", GLN) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["epcisBody"] == {"eventList": []}
    assert said.err == "exported: 0; left out: none\n"
