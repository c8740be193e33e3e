"""The demo's own judgement, and the demo."""

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.demo.expected import LATE_S, Expected, expect
from deploy.demo.score import Arrived, arrived, score
from edge_agent.contracts import bundle, planogram
from edge_agent.contracts.events import Kind
from edge_agent.contracts.planogram import Planogram, Product, Slot
from tests.conftest import Kit

QUAD = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))
SHELF = Planogram(
    shelf="12",
    reference=Path("x.jpg"),
    products=[Product(label="tea", name="Tea", low_at=1), Product(label="jam", name="Jam")],
    slots=[Slot(id=name, quad=QUAD, product="jam" if name == "B1" else "tea") for name in ("A1", "A2", "B1")],
)
START = {"A1": "tea", "A2": "tea", "B1": "jam"}


def told(*changes: tuple[float, str, str]) -> list[tuple[float, str, str, str]]:
    script = {
        "start": START,
        "changes": [{"at": at, "slot": slot, "label": label} for at, slot, label in changes],
        "covers": [],
    }
    return [(item.at, item.kind, item.about, item.detail) for item in expect(script, SHELF)]


def test_what_must_be_said_follows_from_the_script() -> None:
    assert told(
        (1, "A1", "empty"), (2, "A2", "empty"), (3, "A2", "jam"), (4, "A2", "empty"), (5, "A1", "tea")
    ) == [
        (1, "slot-changed", "A1", "empty"),
        (1, "low-stock", "tea", ""),
        (2, "slot-changed", "A2", "empty"),
        (2, "out-of-stock", "tea", ""),
        (3, "slot-changed", "A2", "misplaced"),
        (3, "misplaced", "A2", "misplaced"),
        (4, "slot-changed", "A2", "empty"),
        (4, "misplaced-cleared", "A2", "empty"),
        (5, "slot-changed", "A1", "present"),
        (5, "low-stock", "tea", ""),
    ]


def test_covers_are_faults() -> None:
    script = {"start": START, "changes": [], "covers": [{"from": 3.0, "until": 9.0}]}
    assert [(item.at, item.kind) for item in expect(script, SHELF)] == [
        (3.0, Kind.CAMERA_FAULT),
        (9.0, Kind.CAMERA_FAULT_CLEARED),
    ]


EXPECTED = [Expected(10.0, "slot-changed", "A1", "empty"), Expected(10.0, "low-stock", "tea")]


def came(item: Expected, delay: float = 1.0, name: str = "") -> Arrived:
    return Arrived(item.at + delay, item.key, name or f"{item.kind}-{delay}")


@pytest.mark.parametrize(
    ("received", "missed", "extra", "duplicated"),
    [
        ([came(item) for item in EXPECTED], 0, 0, 0),
        ([], 2, 0, 0),
        ([came(EXPECTED[0])], 1, 0, 0),
        ([came(EXPECTED[0], LATE_S + 0.1), came(EXPECTED[1])], 1, 1, 0),
        ([came(EXPECTED[0], -2), came(EXPECTED[1])], 1, 1, 0),
        ([*map(came, EXPECTED), came(EXPECTED[0], 2.0)], 0, 0, 1),
        ([*map(came, EXPECTED), came(EXPECTED[0], 100.0)], 0, 1, 0),
        ([*map(came, EXPECTED), came(EXPECTED[1], 100.0, "low-stock-1.0")], 0, 0, 1),
        ([*map(came, EXPECTED), came(replace(EXPECTED[0], detail="present"), name="x")], 0, 1, 0),
        ([*map(came, EXPECTED), came(replace(EXPECTED[0], about="A2"), name="x")], 0, 1, 0),
    ],
)
def test_the_table(received: list[Arrived], missed: int, extra: int, duplicated: int) -> None:
    result = score(EXPECTED, received)
    assert (len(result.missed), len(result.extra), len(result.duplicated)) == (missed, extra, duplicated)
    assert result.good == (missed == extra == duplicated == 0)
    figures = result.as_json()
    assert (figures["expected"], figures["received"]) == (2, len(received))


def test_delays_are_from_the_picture_to_the_recorder() -> None:
    result = score(EXPECTED, [came(EXPECTED[0], 1.5), came(EXPECTED[1], 2.5)])
    figures = result.as_json()
    assert (figures["median_delay_s"], figures["worst_delay_s"]) == (2.0, 2.5)
    assert score(EXPECTED, []).as_json()["median_delay_s"] is None


def test_what_the_recorder_says_is_read_and_the_device_itself_is_not_scored() -> None:
    def row(kind: str, data: dict[str, Any]) -> dict[str, Any]:
        about = Kind(kind).about
        event = {"type": f"shelfkit.{about}.{kind}.v1", "data": data, "id": kind}
        return {"received": "2026-11-23T09:00:11.500Z", "event": event}

    product = {"state": "empty", "slot": "A1", "product": {"label": "tea"}}
    found = arrived(
        [
            row("device-started", {}),
            row("slot-changed", product),
            row("low-stock", product),
            row("camera-fault", {"fault": "blocked"}),
        ],
        datetime(2026, 11, 23, 9, tzinfo=UTC),
    )
    assert [(one.at, *one.key) for one in found] == [
        (11.5, "slot-changed", "A1", "empty"),
        (11.5, "low-stock", "tea", ""),
        (11.5, "camera-fault", "blocked", ""),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--bundle", "nowhere"], "--bundle"), (["--work", "mine"], "earlier demo"), (["--seed", "x"], "seed")],
)
def test_a_demo_that_cannot_be(tmp_path: Path, kit: Kit, arguments: list[str], said: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert said in kit("demo", *arguments, code=2, cwd=tmp_path).stderr
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_demo(tmp_path: Path, kit: Kit) -> None:
    """Photos to page, as `make demo` runs it: nothing missed, nothing extra, nothing twice."""
    kit("demo", "--once", "--json", "demo.json", "--port", 0, cwd=tmp_path)
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert figures["expected"] >= 20
    assert (figures["missed"], figures["extra"], figures["duplicated"]) == (0, 0, 0)
    assert 0 < figures["median_delay_s"] <= figures["worst_delay_s"] <= LATE_S
    assert planogram.read(tmp_path / "demo" / "planogram.yaml").require()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_says_no_to_a_bundle_with_other_labels(
    tmp_path: Path, bundle_folder: Path, kit: Kit
) -> None:
    shutil.copytree(bundle_folder, tmp_path / "shuffled")
    path = tmp_path / "shuffled" / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["labels"] = manifest["labels"][1:] + manifest["labels"][:1]
    path.write_text(json.dumps(manifest))
    options = ("--bundle", tmp_path / "shuffled", "--port", 0, "--json", "demo.json")
    kit("demo", "--once", *options, code=1, cwd=tmp_path)
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert figures["missed"] > 0
    assert figures["extra"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_the_pages_of_the_demo_may_ask_its_device_for_a_picture(
    tmp_path: Path, bundle_folder: Path, ended_by: signal.Signals
) -> None:
    command = [sys.executable, "-m", "edge_agent.cli", "demo", "--bundle", str(bundle_folder), "--port", "0"]
    demo = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        lines = iter(demo.stdout)
        address = next(found[0] for line in lines if (found := re.search(r"http://[0-9.:]+", line)))
        assert any("slot-changed" in line for line in lines), "the agent speaks"
        with httpx.Client(base_url=address, timeout=60) as client:
            here = "/stores/0417/devices/cam-12-01/planogram"
            token = re.search(r'data-csrf="([^"]+)"', client.get(here).text)
            assert token is not None
            headers = {"X-CSRF-Token": token[1]}
            answer = client.post(f"{here}/snapshot", params={"revision": 0}, json={}, headers=headers)
            assert answer.status_code == 200, answer.text
            assert client.get(f"{here}/reference.jpg").headers["content-type"] == "image/jpeg"
    finally:
        demo.send_signal(ended_by)
        demo.communicate(timeout=60)
    # Ended before its script was over: nothing was judged.
    assert demo.returncode == 130
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)
