"""Events as files: CSV for spreadsheets, JSON lines for programs."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

COLUMNS = (
    "cursor", "received", "time", "store", "device", "type", "subject", "shelf", "slot", "state", "previous",
    "label", "product", "gtin", "name", "filled", "facings", "confidence", "fault", "reason", "since",
    "source", "stream", "sequence", "id",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield a head and a line for each event (RFC 4180)."""
    yield _line(COLUMNS)
    for row in rows:
        values = _flat(row)
        yield _line([harmless(values.get(name)) for name in COLUMNS])


def json_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield a line of JSON for each event."""
    for row in rows:
        yield json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n"


def _line(values: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(values)
    return out.getvalue()


def harmless(value: object) -> str:
    """Return a cell that no spreadsheet takes for a formula; numbers of JSON stay numbers."""
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _flat(row: dict[str, Any]) -> dict[str, object]:
    event = row["event"]
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    product = data.get("product")
    product = product if isinstance(product, dict) else {}
    _, _, store, _, device = event["source"].split("/")
    of_event = {name: event.get(name) for name in ("time", "type", "subject", "source", "sequence", "id")}
    of_product = {"product": product.get("label"), "gtin": product.get("gtin"), "name": product.get("name")}
    place = {"cursor": row["cursor"], "received": row["received"], "store": store, "device": device}
    return {**data, **of_event, **of_product, **place, "stream": event.get("streamid")}
