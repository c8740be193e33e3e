"""What a frame costs the agent once it is decoded: CPU time of one thread, everything in turns.

Usage: python benchmarks/agent_speed.py [--bundle DIR] [--seed 7] [--rounds 60] [--onnx FILE] [--result FILE]

Frames are the rendered shelf at 1920x1080, standing still but for light, shake and noise; slots are a grid of
150x230 px where so many fit. All ways look at the same frame before the next one comes. Prints JSON:

    every_slot   every slot of every frame classified: time of the bare interpreter on the same crops, ready
                 made, over that of the whole agent (the gate decides but lets everything pass), and over
                 that of the loop that a tutorial shows
    static       the agent as it is against one that classifies every slot of every frame, at 2 frames/s over
                 whole refresh periods, so that refreshing is part of it; and whether both tell all that
                 happens in a rendered script, and nothing else
    slots        both, by the number of slots, and the anonymous memory that they take
    others       what could be written instead on the same model, for the same slots

The answers in the script come from the most similar of some rendered photos, for the bundle that is measured
need not know these products. ONNX Runtime takes a file that `python -m tf2onnx.convert --tflite` has made of
the bundle's model; what is not installed or cannot read the model is named with its reason.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from benchmarks import agent_others, measured
from benchmarks.agent_rig import FPS, NEVER_FRESH, REFRESH_S, SIZE, Scene, Watch, told
from benchmarks.memory import status
from edge_agent import slots
from edge_agent.agent import Model
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle
from edge_agent.contracts.command import new_app, run_command
from edge_agent.contracts.preprocess import Image

_SCRIPT = "agent_speed.py"
_SKEW = 6
_WARM_FRAMES = 12
_EVERY = 8
"""Of how many frames one is also looked at without a gate."""
_SLOTS = (1, 10, 24, 100, 400)
app = new_app(help="What a frame costs the agent, in turns with the alternatives.")


def _spent(way: Callable[[Image], object], image: Image) -> float:
    """Return the CPU seconds of one frame, which lies where decoding leaves it: in the cache, new."""
    fresh = image.copy()
    before = time.process_time()
    way(fresh)
    return time.process_time() - before


def _in_turns(
    ways: Mapping[str, Callable[[Image], object]], frames: list[Image], rounds: int
) -> dict[str, Any]:
    """Return the median CPU time of each way, ms a frame; all see a frame before the next one comes."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(_WARM_FRAMES + rounds):
        for name, way in ways.items():
            spent[name].append(_spent(way, frames[number % len(frames)]))
    return {name: 1000 * statistics.median(times[_WARM_FRAMES:]) for name, times in spent.items()}


def every_slot(scene: Scene, kit: bundle.Bundle, count: int, rounds: int) -> dict[str, Any]:
    """Measure a frame whose slots are all classified, upright and skewed."""
    model, figures = Classifier(kit), dict[str, Any]()
    for name, skew in (("upright", 0), ("quads", _SKEW)):
        shelf = scene.shelf(count, model.labels, skew=skew)
        crops = slots.crops(scene.frames[0], slots.corners(shelf), np.eye(3), model.height, model.width)
        agent = Watch(shelf, scene.reference, model, refresh_s=NEVER_FRESH)
        ways = {"bare": agent_others.bare(kit.model, crops), "agent": agent.see}
        if not skew:
            ways["tutorial"] = agent_others.tutorial(kit.model, shelf)
        spent = _in_turns(ways, scene.frames, rounds)
        ratios = {f"bare/{way}": spent["bare"] / spent[way] for way in ways if way != "bare"}
        figures[name] = {
            "ms": spent,
            **ratios,
            "asked_a_frame": agent.model.asked / (rounds + _WARM_FRAMES - 1),
        }
    return figures


def static(scene: Scene, model: Model, count: int, periods: int) -> dict[str, Any]:
    """Measure a shelf that stands still, over whole refresh periods."""
    shelf = scene.shelf(count, model.labels)
    gated = Watch(shelf, scene.reference, model, refresh_s=REFRESH_S)
    every = Watch(shelf, scene.reference, model, refresh_s=NEVER_FRESH)
    _in_turns({"gated": gated.see, "every": every.see}, scene.frames, 1)
    frames, asked = round(periods * REFRESH_S * FPS), gated.model.asked
    spent, turns = list[float](), list[float]()
    for number in range(frames):
        image = scene.frames[number % len(scene.frames)]
        spent.append(_spent(gated.see, image))
        if number % _EVERY == 0:
            turns.append(_spent(every.see, image))
    mean, usual, whole = statistics.mean(spent), statistics.median(spent), statistics.median(turns)
    return {
        "gated_ms": 1000 * mean,
        "gated_median_ms": 1000 * usual,
        "every_slot_ms": 1000 * whole,
        "asked_a_frame": (gated.model.asked - asked) / frames,
        "times_less": whole / mean,
    }


def by_slots(scene: Scene, model: Model, counts: list[int], rounds: int) -> dict[str, Any]:
    """Measure both agents for some numbers of slots, and how straight the lines are."""
    figures: dict[str, Any] = {}
    for count in counts:
        shelf = scene.shelf(count, model.labels)
        gated = Watch(shelf, scene.reference, model, refresh_s=86_400)
        every = Watch(shelf, scene.reference, model, refresh_s=NEVER_FRESH)
        ways = {"gated": gated.see, "every": every.see}
        spent = _in_turns(ways, scene.frames, rounds)
        before, asked = status("RssAnon"), gated.model.asked
        _in_turns(ways, scene.frames, rounds)
        figures[str(count)] = {
            "ms": spent,
            "gated_asked_a_frame": (gated.model.asked - asked) / (rounds + _WARM_FRAMES),
            "anonymous_mb": before,
            "grown_mb": status("RssAnon") - before,
        }
    for way in ("gated", "every"):
        figures[f"{way}_line"] = _line(counts, [figures[str(count)]["ms"][way] for count in counts])
    return figures


def _line(counts: list[int], spent: list[float]) -> dict[str, float]:
    """Return the straight line through times: ms without a slot, ms for each, and the worst miss."""
    # Each time counts by its own size: else the line is that through the largest two.
    slope, base = np.polyfit(counts, spent, 1, w=1 / np.array(spent))
    beside = np.abs((base + slope * np.array(counts)) / np.array(spent) - 1)
    return {"base_ms": float(base), "slot_ms": float(slope), "beside": float(beside.max())}


def others(scene: Scene, kit: bundle.Bundle, onnx: Path | None, count: int, rounds: int) -> dict[str, Any]:
    """Measure what could be written instead; both agents in the same turns."""
    model = Classifier(kit)
    shelf = scene.shelf(count, model.labels)
    ways, missing = agent_others.ready(kit.model, onnx, shelf)
    agents = {
        "agent": Watch(shelf, scene.reference, model, refresh_s=REFRESH_S).see,
        "agent, every slot": Watch(shelf, scene.reference, model, refresh_s=NEVER_FRESH).see,
    }
    spent = _in_turns(agents | ways, scene.frames, rounds)
    ahead = {f"{way}/{agent}": spent[way] / spent[agent] for agent in agents for way in ways}
    return {"ms": spent, "ratios": ahead, "not_measured": missing}


@app.command()
def main(  # noqa: PLR0913, PLR0917 - options of a command line
    bundle_folder: Annotated[Path, typer.Option("--bundle", help="Whose model is measured.")] = Path(
        "benchmarks/models/grocerystore"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of the rendered shelf.")] = 7,
    count: Annotated[int, typer.Option("--slots", min=1, max=400, help="Of a frame.")] = 24,
    rounds: Annotated[int, typer.Option(min=1, help="Frames of each way that count.")] = 60,
    most: Annotated[int, typer.Option(min=10, max=400, help="Slots to go up to.")] = 400,
    until: Annotated[float, typer.Option(min=1, help="Seconds of the script to tell.")] = 90.0,
    onnx: Annotated[Path | None, typer.Option(help="The same model for ONNX Runtime.")] = None,
    note: Annotated[str, typer.Option(help="About the machine; goes into the result.")] = "",
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Measure all of it and print medians and ratios."""
    cv2.setNumThreads(1)
    kit = bundle.read(bundle_folder)
    model = Classifier(kit)
    with tempfile.TemporaryDirectory() as name:
        scene = Scene.rendered(seed, Path(name))
        figures = {
            "note": note,
            "bundle": kit.manifest.name,
            "frame": list(SIZE),
            "slots_a_frame": count,
            "every_slot": every_slot(scene, kit, count, rounds),
            "static": static(scene, model, count, max(rounds // 30, 1))
            | {"script": told(seed, 5.0, until_s=until)},
            "slots": by_slots(scene, model, [n for n in _SLOTS if n <= most], max(rounds // 4, 1)),
            "others": others(scene, kit, onnx, count, rounds),
        }
    measured.tell(_rounded(figures), result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(run_command(app))
