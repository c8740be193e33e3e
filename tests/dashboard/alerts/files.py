"""Files of rules, and things that can be wrong."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dashboard.alerts.causes import Cause, Kind
from dashboard.alerts.rules import Rules, read

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
KEY = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def written(folder: Path, rules: str, channels: str = "") -> Path:
    """Write a file of rules whose one channel is a webhook that nobody has, unless others are named."""
    (folder / "webhook.key").write_text(f"{KEY}\n")
    channels = channels or "{till: {webhook: {url: http://127.0.0.1:1/, key: {file: webhook.key}}}}"
    path = folder / "alerts.yaml"
    path.write_text(
        'hours: {shop: {mon-fri: "07:00-21:00", sat: ["08:00-12:00", "13:00-20:00"]}}\n'
        f"channels: {channels}\nrules:\n{rules}"
    )
    return path


def rules_of(folder: Path, rules: str, channels: str = "") -> Rules:
    """Return what such a file says."""
    return read(written(folder, rules, channels)).require()


def out(label: str = "milk-1l", **more: Any) -> Cause:  # noqa: ANN401 - of a cause
    """Return a product that is out of stock."""
    told = {"kind": Kind.OUT_OF_STOCK, "store": "0417", "device": "cam-12-01", "shelf": "12"}
    told |= {"subject": f"product/{label}", "label": label, "name": "Milk 1 l", "detail": "0/4"}
    return Cause(**{**told, **more})
