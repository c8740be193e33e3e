"""Expected against received: missed, extra, duplicated, and how long each took."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deploy.demo.expected import EARLY_S, LATE_S, Expected
from edge_agent.contracts.events import Kind


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event at the recorder; `at` in seconds of the script."""

    at: float
    key: tuple[str, str, str]
    id: str


@dataclass(slots=True)
class Score:
    """What became of everything."""

    expected: int
    received: int
    missed: list[Expected] = field(default_factory=list)
    extra: list[Arrived] = field(default_factory=list)
    duplicated: list[Arrived] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything came once, and nothing else."""
        return not (self.missed or self.extra or self.duplicated)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers; delays are null where nothing came."""
        return {
            "expected": self.expected,
            "received": self.received,
            "missed": len(self.missed),
            "extra": len(self.extra),
            "duplicated": len(self.duplicated),
            "median_delay_s": round(statistics.median(self.delays), 3) if self.delays else None,
            "worst_delay_s": round(max(self.delays), 3) if self.delays else None,
        }


def arrived(rows: Iterable[Mapping[str, Any]], start: datetime) -> list[Arrived]:
    """Read what the recorder's API gives; events of the device itself are not in any script."""
    found = []
    for row in rows:
        event = row["event"]
        kind, data = event["type"].split(".")[2], event["data"]
        about = Kind(kind).about
        if about == "device":
            continue
        at = (datetime.fromisoformat(row["received"]) - start).total_seconds()
        name = {"camera": data.get("fault"), "product": data.get("product", {}).get("label")}.get(
            about, data.get("slot")
        )
        found.append(Arrived(at, (kind, str(name), data["state"] if about == "slot" else ""), event["id"]))
    return found


def score(expected: list[Expected], received: list[Arrived]) -> Score:
    """Match each expected event with the first that fits in kind, slot or product, state, and time.

    What is left over is duplicated where it repeats a matched event within its window or by its id,
    and extra otherwise.
    """
    result = Score(len(expected), len(received))
    left = sorted(received, key=lambda item: item.at)
    matched: list[Expected] = []
    ids: set[str] = set()
    for item in expected:
        fit = next((one for one in left if one.key == item.key and _in_time(one, item)), None)
        if fit is None:
            result.missed.append(item)
            continue
        left.remove(fit)
        matched.append(item)
        ids.add(fit.id)
        result.delays.append(fit.at - item.at)
    for one in left:
        again = one.id in ids or any(one.key == item.key and _in_time(one, item) for item in matched)
        (result.duplicated if again else result.extra).append(one)
    return result


def _in_time(one: Arrived, item: Expected) -> bool:
    return -EARLY_S <= one.at - item.at <= LATE_S
