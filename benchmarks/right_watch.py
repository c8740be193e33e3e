"""One seed of the rendered shelf through the agent: what it said, what was true, what its model saw."""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.demo.expected import EARLY_S, LATE_S, Expected, expect, read_script
from deploy.demo.score import Arrived, Score, score
from edge_agent import setup
from edge_agent.agent import Agent, News
from edge_agent.camera.base import Frame
from edge_agent.camera.open import open_camera
from edge_agent.camera.shelf import truth
from edge_agent.camera.shelf.files import write_scene
from edge_agent.camera.shelf.film import Film
from edge_agent.camera.shelf.long import write_long
from edge_agent.camera.shelf.script import GRIP_S, Script
from edge_agent.contracts import config
from edge_agent.contracts.events import Event, source
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.scoring import Floats
from edge_agent.memory import Draft, Memory
from edge_agent.outbox import Limits, Outbox

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
SEEING_S = 1.0
"""How long it may take until a change is first read: a frame until it is there, and one until it is still."""
_BAD_GAIN, _BAD_FOCUS_PX, _BLOTCH_LEVELS, _BLOTCHES = 0.5, 10, 6.0, 44
_LONGEST_REST_S, _RESTS = 4.0, 55
_BEFORE_S = 10.0
_LIMITS = Limits(2**40, 365_000)
_CONFIG = """\
device: cam-12-01
store: "0417"
state_dir: state
bundle: {bundle}
camera: {{source: "shelf:seed={seed},minutes={minutes}", fps: {fps}}}
planogram: planogram.yaml
rules: {{confirm_s: {confirm_s}}}
broker: {{host: nobody}}
"""


@dataclass(frozen=True, slots=True)
class Job:
    """What is watched, and how; everything else is as a new `device.yaml` has it."""

    bundle: Path
    minutes: int
    fps: float
    confirm_s: float

    def setup(self, folder: Path, seed: int) -> setup.Setup:
        """Write the scene of a seed, its truth and a `device.yaml`, and read them as the agent does."""
        write_scene(folder, seed=seed, minutes=self.minutes)
        fields = asdict(self) | {"bundle": json.dumps(str(self.bundle.resolve())), "seed": seed}
        (folder / "device.yaml").write_text(_CONFIG.format(**fields), encoding="utf-8")
        return setup.read(folder / "device.yaml")


class Recorder(Agent):
    """An agent whose gate lets everything pass that stands still; it keeps what its model answers.

    Attributes:
        answers: For each frame its moment, the slots that were read, and their probabilities.
    """

    def __init__(self, found: setup.Setup) -> None:
        self._listening = _Listening(found)
        self.answers: list[tuple[float, list[int], Floats]] = []
        rules = config.Rules(**{**found.config.rules.model_dump(), "refresh_s": 1e-9})
        super().__init__(
            store=found.config.store,
            shelf=found.planogram,
            reference=found.reference,
            model=self._listening,
            identity=found.identity,
            policy=rules,
            unknown_below=found.unknown_below,
            journal=Outbox(":memory:", source="/stores/1/devices/recorder", limits=_LIMITS),
            wall=lambda at: START + timedelta(seconds=at),
        )

    def _with_news(self, memory: Memory, news: News, at: float) -> tuple[Memory, list[Draft]]:
        read = [row for row, reading in news.items() if reading is not None]
        chances = self._listening.last if read else np.zeros((0, len(self._listening.labels)), np.float32)
        self.answers.append((at, read, chances))
        return super()._with_news(memory, news, at)

    def table(self) -> tuple[NDArray[np.float64], Floats]:
        """Return moments, (frames,), and probabilities, float32 (frames, slots, classes); NaN: not read."""
        slots, classes = len(self._corners), len(self._listening.labels)
        table = np.full((len(self.answers), slots, classes), np.nan, np.float32)
        for number, (_, read, chances) in enumerate(self.answers):
            table[number, read] = chances
        return np.array([at for at, _, _ in self.answers]), table


class _Listening:
    """A model that remembers its last answer."""

    def __init__(self, found: setup.Setup) -> None:
        self._model = found.classifier()
        self.labels, self.height, self.width = self._model.labels, self._model.height, self._model.width
        self.last: Floats = np.zeros((0, len(self.labels)), np.float32)

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """See `Model.probabilities`."""
        self.last = self._model.probabilities(images)
        return self.last


def watch(job: Job, seed: int) -> dict[str, Any]:
    """Return what is true of a seed's script, and what the agent said of it, as JSON values."""
    with tempfile.TemporaryDirectory() as name:
        found = job.setup(Path(name), seed)
        script = read_script(Path(name) / "script.json")
        begin = time.monotonic()
        device = found.config
        with (
            open_camera(device.camera, live=False) as camera,
            Outbox(":memory:", source=source(device.store, device.device), limits=_LIMITS) as outbox,
        ):
            agent = found.agent(found.classifier(), outbox, lambda at: START + timedelta(seconds=at))
            events, frames = list[Event](), 0
            while (frame := camera.read()) is not None:
                events += agent.see(frame)
                frames += 1
    due = [
        asdict(item) | {"visible": visible(script, found.planogram, item, job.confirm_s + SEEING_S)}
        for item in expect(script, found.planogram)
    ]
    return {
        "seed": seed,
        "frames": frames,
        "took_s": round(time.monotonic() - begin, 1),
        "due": due,
        "said": [
            {"at": _since_start(event.time), "key": key_of(event), "id": str(event.id)} for event in events
        ],
        "script": script | {"bumps": list(write_long(seed, job.minutes).bumps)},
    }


def _since_start(moment: datetime) -> float:
    return round((moment - START).total_seconds(), 3)


def key_of(event: Event) -> tuple[str, str, str]:
    """Return what an event is about, as `Expected.key` does."""
    data = event.data.model_dump(mode="json")
    about = {"slot": "slot", "camera": "fault"}.get(event.kind.about)
    name = data[about] if about else data["product"]["label"]
    return event.kind.value, name, data["state"] if event.kind.about == "slot" else ""


def visible(script: Mapping[str, Any], shelf: Planogram, item: Expected, open_s: float) -> float:
    """Return from when on what an event tells lies in the open for long enough to be told.

    Args:
        script: The truth.
        shelf: The planogram.
        item: The event.
        open_s: How long that is.

    Returns:
        Seconds of the script. Of a product: when the last of its changes so far does.
    """
    if item.kind.startswith("camera"):
        return item.at
    facings = [slot.id for slot in shelf.slots if item.about in (slot.id, slot.product)]
    return max(
        _open_from(script, change["slot"], change["at"], open_s)
        for change in script["changes"]
        if change["slot"] in facings and change["at"] <= item.at
    )


def _open_from(script: Mapping[str, Any], slot: str, at: float, open_s: float) -> float:
    """Return since when a slot has not been hidden, once that has lasted for long enough."""
    for hand in script["hands"]:
        if slot in hand["slots"] and hand["until"] > at:
            if hand["from"] - at >= open_s:
                break
            at = hand["until"]
    return float(at)


def around(script: Mapping[str, Any], about: str, at: float) -> list[str]:
    """Return what happened in the picture from ten seconds before a moment to eight after it, in words.

    Args:
        script: The truth, with its bumps.
        about: Slot or product; arms elsewhere are left out where it is a slot.
        at: Seconds of the script.
    """
    hands = [
        (hand["from"], f"hidden {hand['from']:g} to {hand['until']:g}")
        for hand in script["hands"]
        if about in hand["slots"] or about not in script["start"]
    ]
    found = [
        *hands,
        *((one["at"], f"{one['slot']} {one['cause']} {one['at']:g}") for one in script["changes"]),
        *((one["from"], f"lens covered {one['from']:g} to {one['until']:g}") for one in script["covers"]),
        *((one["at"], f"light {one['gain']:g} from {one['at']:g}") for one in script["lights"]),
        *((bump, f"bumped {bump:g}") for bump in script["bumps"]),
    ]
    return [words for moment, words in sorted(found) if at - _BEFORE_S <= moment <= at + LATE_S]


def judged(told: Mapping[str, Any]) -> Score:
    """Score a seed as the demo does, with the moments from which on things could be seen.

    An event that comes before that moment, but after what it tells, is taken to come at it.
    """
    due = [Expected(item["visible"], item["kind"], item["about"], item["detail"]) for item in told["due"]]
    said = [Arrived(one["at"], tuple(one["key"]), one["id"]) for one in told["said"]]
    early = [(item["at"] - EARLY_S, one.at, one.key) for item, one in zip(told["due"], due, strict=True)]
    return score(due, [_not_early(one, early) for one in said])


def _not_early(one: Arrived, due: list[tuple[float, float, tuple[str, str, str]]]) -> Arrived:
    moment = next((at for begin, at, key in due if key == one.key and begin <= one.at < at), one.at)
    return Arrived(moment, one.key, one.id)


def badly_lit(picture: Image, seed: int, at: float) -> Image:
    """Return a picture as a cheap camera makes it at dusk: dark, out of focus, blotched by compression.

    Args:
        picture: uint8, (height, width, 3), BGR.
        seed: Of the blotches, with `at`.
        at: Of the frame, s.
    """
    height, width = picture.shape[:2]
    rng = np.random.default_rng([seed, _BLOTCHES, round(at * 1000)])
    soft = cv2.resize(
        picture, (width // _BAD_FOCUS_PX, height // _BAD_FOCUS_PX), interpolation=cv2.INTER_AREA
    )
    blotches = rng.normal(0, _BLOTCH_LEVELS, soft.shape)
    dark = np.clip(soft * _BAD_GAIN + blotches, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(dark, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


@dataclass(frozen=True, slots=True)
class Lingering:
    """A script in which hands rest in the slot that they change: time stands still at each grip.

    Attributes:
        rests: For each change the moment of the grip and how long it lasts, s, both of the script's own time.
    """

    rests: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, script: Script, seed: int) -> "Lingering":
        """Let each hand rest for as long as chance has it, up to four seconds."""
        rng = np.random.default_rng([seed, _RESTS])
        return cls(
            tuple((change.at - GRIP_S, float(rng.uniform(0, _LONGEST_REST_S))) for change in script.changes)
        )

    def later(self, at: float) -> float:
        """Return when a moment of the script comes."""
        return at + sum(rest for grip, rest in self.rests if grip < at)

    def shown(self, at: float) -> float:
        """Return which moment of the script is seen at a time; at a grip one of the tenth before it."""
        for grip, rest in self.rests:
            if at < grip:
                return at
            if at < grip + rest:
                # The arm does not move then, while light, shake and noise go on.
                return grip - 0.1 + 0.1 * ((at - grip) / rest)
            at -= rest
        return at


def record(job: Job, seed: int, out: Path) -> None:
    """Write what the model answers about each slot of each frame in three kinds of picture.

    Args:
        job: What is watched.
        seed: Of the shelf.
        out: File, .npz: `labels`, `slots`, `unknown_below`, and of each of `good`, `bad` (light) and
            `rest` (hands rest in the slots) the probabilities, float16, (frames, slots, classes), NaN where
            a slot was not read; `at_` and its name the moments, `script_` and its name the truth.
    """
    film = Film(seed, job.minutes)
    lingering = Lingering.of(film.script, seed)
    truth_told = truth.as_json(film.script)
    ways = {"good": truth_told, "bad": truth_told, "rest": _rested(truth_told, lingering)}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        ready = job.setup(Path(name), seed)
        for way, script in ways.items():
            recorder = Recorder(ready)
            for number in range(int(script["duration_s"] * job.fps)):
                at = number / job.fps
                image = film.frame(lingering.shown(at) if way == "rest" else at)
                recorder.see(Frame(badly_lit(image, seed, at) if way == "bad" else image, at))
            moments, table = recorder.table()
            found |= {way: table.astype(np.float16), f"at_{way}": moments}
            found[f"script_{way}"] = np.array(json.dumps(script))
    found["slots"] = np.array([slot.id for slot in ready.planogram.slots])
    found["labels"] = np.array([item.label for item in ready.bundle.manifest.labels])
    found["unknown_below"] = np.array(ready.unknown_below)
    with written_beside(out) as staged, staged.open("wb") as file:
        np.savez_compressed(file, **found)


def _rested(script: Mapping[str, Any], lingering: Lingering) -> dict[str, Any]:
    """Return a truth whose moments come later, as hands rest."""
    changes = [one | {"at": lingering.later(one["at"])} for one in script["changes"]]
    return {**script, "changes": changes, "duration_s": lingering.later(script["duration_s"])}
