"""`collect`: crops as the agent sees slots, of a planogram or a device.yaml; hard examples for labelling."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.__main__ import app
from edge_agent.camera.base import Camera, Frame
from edge_agent.collect import collect, frames, live_frames
from edge_agent.contracts import dataset, planogram
from edge_agent.contracts.command import run_command
from edge_agent.contracts.errors import DataError, DeviceError
from edge_agent.contracts.events import CameraFault
from edge_agent.contracts.pictures import read_picture
from edge_agent.contracts.preprocess import Image
from edge_agent.hard_folder import Folder, Why, listed
from tests.conftest import Kit, write_device
from tests.edge_agent.test_agent import COLOURS, SLOTS, Shelf, picture
from tests.edge_agent.test_hard import example, noise


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def device(shelf: Shelf, tmp_path: Path) -> Path:
    """A folder with a device.yaml and a planogram; there is no bundle, and none is needed."""
    planogram.write(shelf.planogram, tmp_path / "planogram.yaml")
    write_device(tmp_path, tmp_path / "bundle")
    return tmp_path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scene(shelf: Shelf, images: list[Image], out: Path, every_s: float = 1000) -> dict[str, list[float]]:
    """Show pictures, half a second each, and return when crops of each slot were cut."""
    seen = [Frame(image, 100 + number / 2) for number, image in enumerate(images)]
    collect(seen, shelf.planogram, out, every_s=every_s, spans=None, name="clip")
    found: dict[str, list[float]] = {name: [] for name in SLOTS}
    for row in rows(out):
        slot, name = row["path"].split("/")
        found[slot].append(float(name.removesuffix(".jpg")))
    return found


def covered(seed: int) -> Image:
    rest = np.random.default_rng(seed).integers(0, 6, (225, 400, 3), np.uint8)
    return np.asarray(cv2.add(np.full((225, 400, 3), (30, 40, 60), np.uint8), rest), np.uint8)


def test_of_a_still_shelf_there_is_one_crop_of_each_slot_every_so_often(shelf: Shelf, tmp_path: Path) -> None:
    still = [picture(number) for number in range(21)]
    assert scene(shelf, still, tmp_path / "once") == {slot: [0.5] for slot in SLOTS}
    assert scene(shelf, still, tmp_path / "some", 4) == {slot: [0.5, 4.5, 8.5] for slot in SLOTS}
    assert scene(shelf, still[:4], tmp_path / "all", 0) == {slot: [0.5, 1, 1.5] for slot in SLOTS}


def test_another_picture_is_cut_at_once_and_what_moves_is_not(shelf: Shelf, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    images = [picture(number) for number in range(4)]
    for number in range(4):
        images.append(picture(number))
        images[-1][60:160, 60:140] = rng.integers(0, 256, (100, 80, 3))
    images += [picture(number, A1="jam") for number in range(4)]
    found = scene(shelf, images, tmp_path / "out")
    assert found == {"A1": [0.5, 4.5], "A2": [0.5], "B1": [0.5]}


def test_frames_with_a_fault_are_left_out_and_told(shelf: Shelf, tmp_path: Path) -> None:
    moved = [np.asarray(np.roll(picture(number), 90, axis=1), np.uint8) for number in range(3)]
    images = [
        *(picture(number) for number in range(3)),
        *map(covered, range(4)),
        *moved,
        picture(8),
        picture(9),
    ]
    seen = [Frame(image, number / 2) for number, image in enumerate(images)]
    out = tmp_path / "out"
    found = collect(seen, shelf.planogram, out, every_s=0, spans=None, name="clip")
    assert found.faults == {CameraFault.BLOCKED: 4, CameraFault.MOVED: 3}
    assert found.frames == 12
    # Two of the first three, one of the last two: the first after a break cannot tell what moves.
    assert found.labels == {"": 3 * len(SLOTS)}
    with pytest.raises(DataError, match=r"4 frames.*blocked in 4"):
        collect(seen[3:7], shelf.planogram, tmp_path / "none", every_s=0, spans=None, name="clip")
    assert not (tmp_path / "none").exists()


class Flaky(Camera):
    """A camera on a clock of its own that gives nothing at times."""

    def __init__(self, gives: str) -> None:
        self.gives, self.now, self.slept = list(gives), 1000.0, 0.0

    def steady(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def read(self) -> Frame | None:
        self.now += 0.01
        what = self.gives.pop(0) if self.gives else "x"
        if what == "x":
            raise DeviceError("Expected: a frame. Received: none.")
        return Frame(picture(), self.now) if what == "." else None

    def look(self, until_s: float) -> list[float]:
        seen = live_frames(self, until_s, 0.5, steady=self.steady, sleep=self.sleep)
        return [round(frame.at - 1000, 1) for frame in seen]


def test_a_camera_is_asked_at_the_wanted_rate_and_waited_for() -> None:
    assert Flaky("." * 100).look(2.2) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert Flaky(".xx" + "." * 100).look(4) == [0.0, 2.5, 3.0, 3.5]
    assert Flaky("..e").look(4) == [0.0, 0.5]
    with pytest.raises(DeviceError):
        Flaky("..").look(3600)


def test_what_was_cut_before_a_camera_was_lost_has_its_index(shelf: Shelf, tmp_path: Path) -> None:
    camera = Flaky("....")
    seen = live_frames(camera, 3600, 0.5, steady=camera.steady, sleep=camera.sleep)
    with pytest.raises(DeviceError):
        collect(seen, shelf.planogram, tmp_path / "out", every_s=0, spans=None, name="clip")
    assert len(rows(tmp_path / "out")) == 3 * len(SLOTS)


def test_a_clip_ends_after_the_wanted_seconds() -> None:
    assert len(list(frames(Flaky("." * 400 + "e"), 2))) == 201


@pytest.fixture
def clip(device: Path) -> Path:
    """Pictures of the shelf in a folder, taken with the camera upside down."""
    (device / "clip").mkdir()
    for number in range(6):
        cv2.imwrite(str(device / "clip" / f"{number}.png"), cv2.rotate(picture(number), cv2.ROTATE_180))
    return device / "clip"


def test_a_device_is_collected_from_with_its_rotation_and_masks(device: Path, clip: Path, kit: Kit) -> None:
    # The left of the raw frame: the right once it is turned, and there is B1.
    masks = "{masks: [[[0, 0], [150, 0], [150, 225], [0, 225]]]}"
    camera = f'{{source: "folder:{clip}", fps: 2, rotate: 180}}'
    config = write_device(device, device / "bundle", camera=camera, privacy=masks)
    done = kit("agent", "collect", "--config", config, "--out", device / "crops", "--json")
    told = json.loads(done.stdout)
    assert told["crops"] == told["labels"][""] == 3
    assert (told["frames"], told["faults"]) == (6, {})
    found = {row["path"].split("/")[0]: row for row in rows(device / "crops")}
    assert found["A1"]["group"] == "cam-12-01/A1/0"
    means = {
        slot: read_picture(device / "crops" / row["path"]).mean(axis=(0, 1)) for slot, row in found.items()
    }
    assert means["B1"].max() < 2
    assert np.abs(means["A1"] - np.array(COLOURS["tea"]) - 2.5).max() < 4


def test_another_source_of_the_same_device(device: Path, clip: Path, kit: Kit) -> None:
    config = write_device(device, device / "bundle", camera='{source: "rtsp://nowhere", rotate: 180}')
    options = ("--config", config, "--source", f"folder:{clip}", "--fps", 1, "--every", 2)
    done = kit("agent", "collect", *options, "--out", device / "crops")
    assert "9 crops (9 to be labelled)" in done.stdout
    moments = {row["path"].split("/")[1] for row in rows(device / "crops")}
    assert moments == {"000001.00.jpg", "000003.00.jpg", "000005.00.jpg"}


@pytest.fixture
def kept(device: Path) -> Folder:
    """Hard examples of the device, as its agent keeps them."""
    folder = Folder(device / "state" / "hard", 10**6, spare_bytes=0)
    for number in range(12):
        why = Why.FLICKER if number % 3 else Why.DOUBT
        folder.keep(example("AB"[number % 2] + "1", why, number * 1000), noise(number))
    return folder


def test_hard_examples_are_exported_for_labelling_and_trained_on(
    device: Path, kept: Folder, kit: Kit
) -> None:
    options = ("--hard", "--config", device / "device.yaml", "--out", device / "hard")
    done = kit("agent", "collect", *options)
    assert "12 crops to be labelled (4 doubt, 8 flicker)" in done.stdout
    found = rows(device / "hard")
    assert len(found) == 12
    assert found[0] == {
        "path": "A1/1795392000000-doubt.jpg",
        "label": "",
        "group": "cam-12-01/A1/2026-11-23",
        "guess": "öl 1/2",
        "confidence": "0.4",
        "second": "",
        "second_confidence": "",
        "confirmed": "",
        "reason": "doubt",
        "slot": "A1",
        "time": "2026-11-23T00:00:00.000Z",
        "model": "m",
        "version": "1",
    }
    # Nothing was removed, and once somebody has filled in the labels it is a data set like any other.
    assert len(listed(kept.path)) == 12
    with (device / "hard" / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(
            row | {"label": "tea" if number % 4 < 2 else "jam"} for number, row in enumerate(found)
        )
    labelled = dataset.read(device / "hard")
    assert labelled.counts() == {"jam": 6, "tea": 6}
    assert [photo.decode().shape for photo in labelled.photos] == [(40, 40, 3)] * 12
    assert len({photo.group for photo in labelled.photos}) == 2


def test_what_was_exported_is_removed_and_nothing_else(device: Path, kept: Folder, kit: Kit) -> None:
    damaged = kept.path / listed(kept.path)[0].name
    damaged.write_bytes(damaged.read_bytes()[:900])
    (kept.path / "notes.txt").write_text("mine")
    options = ("--hard", "--config", device / "device.yaml", "--clear", "--json")
    told = json.loads(kit("agent", "collect", *options, "--out", device / "hard").stdout)
    assert (told["crops"], told["damaged"], told["cleared"]) == (11, 1, True)
    assert sorted(file.name for file in kept.path.iterdir()) == sorted([damaged.name, "notes.txt"])
    done = kit("agent", "collect", *options, "--out", device / "more", code=4)
    assert "1 damaged" in done.stderr
    assert not (device / "more").exists()


def test_nothing_is_removed_where_not_everything_was_written(device: Path, kept: Folder, kit: Kit) -> None:
    full = device / "full"
    full.mkdir()
    (full / "something").touch()
    options = ("--hard", "--config", device / "device.yaml", "--clear")
    assert "not empty" in kit("agent", "collect", *options, "--out", full, code=4).stderr
    # No file may grow beyond 1 KiB: a write ends in the middle, as on a full disk.
    command = (
        f"{sys.executable} -m edge_agent.cli agent collect --hard --clear --config device.yaml --out out"
    )
    script = ["bash", "-c", f"ulimit -f 1; exec {command}"]
    done = subprocess.run(script, cwd=device, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "--out" in done.stderr
    assert not (device / "out").exists()
    assert len(listed(kept.path)) == 12


WRITER = """
import sys
from pathlib import Path
from edge_agent.hard_folder import Folder
from tests.edge_agent.test_hard import example, noise
pictures = [noise(number, 60) for number in range(8)]
folder = Folder(Path(sys.argv[1]), 300_000, spare_bytes=0)
for number in range(10**9):
    folder.keep(example("AB"[number % 2] + "1", ms=100_000 + number), pictures[number % 8])
    if number == 20:
        print("busy", flush=True)
"""


@pytest.fixture
def busy(kept: Folder) -> Iterator[None]:
    """Somebody keeps examples, and lets others go for them, all the time."""
    command = [sys.executable, "-c", WRITER, str(kept.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.wait()
    process.stdout.close()


@pytest.mark.usefixtures("busy")
def test_the_agent_may_go_on_while_its_examples_are_exported(device: Path, kit: Kit) -> None:
    options = ("--hard", "--config", device / "device.yaml", "--clear", "--json")
    for number in range(2):
        out = device / f"out{number}"
        told = json.loads(kit("agent", "collect", *options, "--out", out).stdout)
        assert told["damaged"] == 0
        found = rows(out)
        assert len(found) == told["crops"] > 0
        assert {row["path"] for row in found} == {str(file.relative_to(out)) for file in out.rglob("*.jpg")}
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--hard"], 2, "--config"),
        (["--hard", "--config", "device.yaml", "--source", "shelf:"], 2, "--source with --hard"),
        (["--hard", "--config", "device.yaml", "--every", "3"], 2, "--every with --hard"),
        (["--hard", "--config", "device.yaml"], 4, "hard_examples: {enabled: true}"),
        (["--hard", "--config", "nowhere.yaml"], 3, "nowhere.yaml"),
        (["--clear", "--config", "device.yaml"], 2, "--clear with --hard"),
        (["--config", "device.yaml", "--planogram", "planogram.yaml"], 2, "names a planogram"),
        (["--config", "device.yaml"], 2, "--until"),
        (["--planogram", "planogram.yaml"], 2, "one of the first two"),
        (["--planogram", "planogram.yaml", "--source", "webcam"], 2, "webcam"),
        ([], 2, "neither"),
    ],
)
def test_what_does_not_go_together(
    device: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(device)
    assert run_command(lambda: app(["collect", *arguments, "--out", "crops"])) == code
    assert said in capsys.readouterr().err
    assert not (device / "crops").exists()
