"""Alerts on the wire: the same bytes for ever, as the schema says, and read back as they were."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dashboard.accounts.records import StoreSetting
from dashboard.alerts.causes import Kind
from dashboard.alerts.deciding import Alert, Told
from dashboard.alerts.telling import item_of
from dashboard.alerts.wire import AlertMessage, Notice, decode, encode
from edge_agent.contracts.errors import DataError
from tests.dashboard.alerts.files import NOW, out

GOLDEN = Path(__file__).parents[2] / "golden" / "alert-out-of-stock.v1.json"


def item(notice: Notice = Notice.OPENED, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - of a cause
    cause = out(since=NOW, **more)
    alert = Alert(id="a-1", rule="empty shelf", cause=cause, since=NOW, opened=NOW, closed=NOW)
    return item_of(Told(notice, alert), StoreSetting("Shop", "Europe/Zurich"), NOW)


def test_golden_bytes() -> None:
    assert (
        encode(item(name="Milk 1 l", gtin="09506000134352", detail="0 of 4")) == GOLDEN.read_bytes().rstrip()
    )


@pytest.mark.parametrize("notice", Notice)
@pytest.mark.parametrize("kind", Kind)
def test_whatever_is_told_is_what_the_schema_says(notice: Notice, kind: Kind) -> None:
    payload = encode(item(notice) | {"kind": kind.value, "shelf": "", "subject": ""})
    jsonschema.Draft202012Validator(AlertMessage.model_json_schema()).validate(json.loads(payload))
    read = decode(payload)
    assert (read.notice, read.data.kind, read.data.shelf) == (notice, kind, None)


def test_fields_of_a_newer_version_are_kept_and_what_is_none_is_refused() -> None:
    value = json.loads(GOLDEN.read_bytes())
    newer = value | {"data": value["data"] | {"aisle": 3}}
    assert decode(json.dumps(newer).encode()).data.model_dump()["aisle"] == 3
    for wrong in (
        b"",
        b"[]",
        b'{"specversion":"1.0"}',
        json.dumps(value | {"type": "shelfkit.alert.opened.v2"}).encode(),
    ):
        with pytest.raises(DataError, match="an alert of version 1"):
            decode(wrong)
