"""The agent on rendered shelves and on a real clip: exactly what happened, and nothing else."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import cv2
import pytest

from deploy.demo.expected import expect, read_script
from edge_agent.contracts import dataset, events, planogram
from edge_agent.contracts.events import Event, SlotData
from tests.conftest import Kit, write_device

START = datetime(2026, 11, 23, 8, tzinfo=UTC)


def told(kit: Kit, config: Path, *more: str) -> list[Event]:
    done = kit("agent", "replay", "--config", config, *more)
    return [events.decode(line.encode()) for line in done.stdout.splitlines()]


def about(event: Event) -> tuple[str, str, str]:
    value = json.loads(events.encode(event))["data"]
    names = {"camera": value.get("fault"), "slot": value.get("slot")}
    name = names.get(event.kind.about, value.get("product", {}).get("label"))
    return event.kind.value, str(name), value["state"] if event.kind.about == "slot" else ""


@pytest.mark.parametrize("seed", [7, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (21, 34))])
def test_a_shelf_is_told_exactly_as_its_script_says(
    tmp_path: Path, bundle_folder: Path, kit: Kit, seed: int
) -> None:
    kit("agent", "render", "--scene", tmp_path, "--seed", seed)
    config = write_device(tmp_path, bundle_folder, source=f"shelf:seed={seed}")
    found = told(kit, config, "--start", "2026-11-23T08:00:00Z")
    shelf = planogram.read(tmp_path / "planogram.yaml").require()
    expected = expect(read_script(tmp_path / "script.json"), shelf)
    assert len(expected) >= 20
    moments = [((event.time - START).total_seconds(), about(event)) for event in found]
    assert sorted(key for _, key in moments) == sorted(item.key for item in expected)
    for item in expected:
        assert any(key == item.key and -1 <= at - item.at <= 5 for at, key in moments), item
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
    assert len({event.id for event in found}) == len(found)


@pytest.mark.slow
def test_the_same_replay_says_the_same(device: Path, kit: Kit) -> None:
    def without_chance(event: Event) -> dict[str, object]:
        return event.model_dump(exclude={"id", "streamid"})

    config = device / "device.yaml"
    config.write_text(config.read_text().replace("fps: 5", "fps: 1"))
    assert [without_chance(event) for event in told(kit, config)] == [
        without_chance(event) for event in told(kit, config)
    ]


BOTTLES = """\
shelf: bar
reference: reference.jpg
products:
  - {label: bottle, name: Bottle}
slots:
"""


def bottle_shelf(folder: Path, clip: Path, labels: dict[str, object]) -> Path:
    """Write planogram and reference picture of the clip."""
    video = cv2.VideoCapture(str(clip))
    _, first = video.read()
    cv2.imwrite(str(folder / "reference.jpg"), first)
    lines = [BOTTLES]
    for name, slot in labels["slots"].items():  # type: ignore[attr-defined]
        x0, y0, x1, y1 = slot["roi_xyxy"]
        quad = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
        lines.append(f"  - {{id: S{name}, quad: {quad}, product: bottle}}\n")
    (folder / "planogram.yaml").write_text("".join(lines))
    return folder / "planogram.yaml"


@pytest.mark.slow
def test_the_bottles_clip(public_data: Path, tmp_path: Path, kit: Kit) -> None:
    """Crops by `collect`, a model of frames 0 to 330 alone, and the labelled changes of the whole clip."""
    clip = public_data / "bottles" / "bottles.mp4"
    labels = json.loads((public_data / "bottles" / "labels.json").read_text())
    fps, until = labels["fps"], 330 / labels["fps"]
    shelf = bottle_shelf(tmp_path, clip, labels)
    words = {"occupied": "bottle", "empty": "empty"}
    with (tmp_path / "seen.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["slot", "from", "until", "label"])
        for name, slot in labels["slots"].items():
            for what, begin, end in slot["intervals"]:
                if what in words and begin <= 330:
                    writer.writerow([f"S{name}", begin / fps, min(end, 330) / fps, words[what]])
    crops, run, bundle = tmp_path / "crops", tmp_path / "run", tmp_path / "bundle"
    options = ("--source", f"file:{clip}", "--labels", tmp_path / "seen.csv", "--fps", 10, "--until", until)
    kit("agent", "collect", "--planogram", shelf, *options, "--out", crops)
    assert set(dataset.read(crops).labels) == {"bottle", "empty"}
    kit("train", crops, "--out", run, "--image-px", 64, "--epochs", 12)
    kit("convert", "--int8", run, "--out", bundle)

    config = write_device(
        tmp_path, bundle, rules="{confirm_s: 0.5}", camera=f'{{source: "file:{clip}", fps: 10}}'
    )
    changes = [event for event in told(kit, config) if event.kind.value == "slot-changed"]
    states = {"empty": "empty", "restocked": "present"}
    assert [(event.data.slot, event.data.state) for event in changes if isinstance(event.data, SlotData)] == [
        (slot.replace("slot ", "S"), states[what]) for slot, what, _ in labels["events"]
    ]
    for event, (_, _, frame) in zip(changes, labels["events"], strict=True):
        assert abs(event.time.timestamp() - frame / fps) <= 3


def test_collected_crops_wait_for_their_labels(device: Path, kit: Kit) -> None:
    options = ("--source", "shelf:seed=7", "--fps", 2, "--until", 3, "--out", device / "crops")
    done = kit("agent", "collect", "--planogram", device / "planogram.yaml", *options)
    assert "to be labelled" in done.stdout
    with (device / "crops" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert {row["label"] for row in rows} == {""}
    first = cv2.imread(str(device / "crops" / rows[0]["path"]))
    assert first is not None
    quad = planogram.read(device / "planogram.yaml").require().slots[0].quad
    assert first.shape[:2] == (quad[2][1] - quad[0][1], quad[2][0] - quad[0][0])
