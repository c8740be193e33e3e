"""Is the agent right? Rendered shelves as long as wanted, replayed faster than real, against their scripts.

Usage: python benchmarks/right.py BUNDLE OUT [--seeds 50] [--minutes 10] [--jobs 2] [--result FILE]

BUNDLE knows the rendered goods: `shelfkit demo` makes one. Shoppers take, restock and misplace things, arms
go by, the light drifts and steps, the shelf shakes and is bumped, the sensor has noise, the lens is covered
now and then. The agent sees 2 frames a second and has the rules of a new `device.yaml`. What must be told
comes from script and planogram alone, as in `shelfkit demo`. OUT keeps a file for each seed: a run that was
stopped goes on with the same words, and refuses others. Prints JSON:

    precision, recall    of events, with Wilson's interval (95 %); `by_kind` the same in counts
    camera_alarms_wrong  camera faults, raised or cleared, that the script does not have
    delay_s              from the moment since which a change lies in the open to the event: how many come
                         after confirm_s + 1 s, and each of them
    wrong                each event that is missing, too much or told twice, and what happened around it
"""

import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from benchmarks import measured
from benchmarks.right_watch import SEEING_S, Job, around, judged, watch
from deploy.demo.score import Score
from edge_agent.contracts import bundle
from edge_agent.contracts.command import new_app, run_command, shown
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.scoring import wilson

_SCRIPT = "right.py"
_JOB = "job.json"
_EPSILON_S = 1e-6
app = new_app(help="Is the agent right? Rendered shelves against their scripts.")


def watch_all(job: Job, seeds: Iterable[int], out: Path, jobs: int) -> list[dict[str, Any]]:
    """Return what is true and what was said, for each seed; what is in `out` already is not done again.

    Raises:
        DataError: The folder holds another run, or cannot be written.
    """
    seeds = list(seeds)
    _claim(job, out)
    missing = [seed for seed in seeds if not _file(out, seed).is_file()]
    with ProcessPoolExecutor(jobs, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        going = {pool.submit(watch, job, seed): seed for seed in missing}
        for done in shown("seeds")(as_completed(going), len(going)):
            with written_beside(_file(out, going[done])) as staged:
                staged.write_text(json.dumps(done.result()) + "\n", encoding="utf-8")
    return [json.loads(_file(out, seed).read_text(encoding="utf-8")) for seed in seeds]


def _claim(job: Job, out: Path) -> None:
    """Note in a folder what it is for, or make sure that it is for this."""
    note = out / _JOB
    mine = asdict(job) | {"bundle": bundle.read(job.bundle).sha256}
    if not note.is_file():
        with written_beside(note) as staged:
            staged.write_text(json.dumps(mine) + "\n", encoding="utf-8")
    before = json.loads(note.read_text(encoding="utf-8"))
    if before != mine:
        raise DataError(
            f"Expected: {out} of a run with {mine}. Received: {before}.", hint="name another folder"
        )


def _file(out: Path, seed: int) -> Path:
    return out / f"{seed}.json"


def summary(job: Job, told: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of all seeds together."""
    scores = [judged(one) for one in told]
    expected, received = (sum(getattr(one, name) for one in scores) for name in ("expected", "received"))
    right = sum(len(one.delays) for one in scores)
    extra = [item for one in scores for item in (*one.extra, *one.duplicated)]
    delays = [delay for one in scores for delay in one.delays]
    most = job.confirm_s + SEEING_S
    return {
        "seeds": len(told),
        "minutes": job.minutes,
        "frames": sum(one["frames"] for one in told),
        "rules": {"confirm_s": job.confirm_s, "fps": job.fps},
        "times_real": round(sum(60.0 * job.minutes for _ in told) / sum(one["took_s"] for one in told), 1),
        "expected": expected,
        "received": received,
        "right": right,
        "precision": _share(right, received),
        "recall": _share(right, expected),
        "camera_alarms_wrong": sum(item.key[0].startswith("camera") for item in extra),
        "seeds_without_a_mistake": sum(one.good for one in scores),
        "delay_s": _delays(delays, most)
        | {"late": [x for pair in zip(told, scores, strict=True) for x in _late(*pair, most)]},
        "by_kind": _kinds(told, scores),
        "happened": _happened(told),
        "wrong": [item for pair in zip(told, scores, strict=True) for item in _wrong(*pair)],
    }


def _share(hits: int, n: int) -> dict[str, Any]:
    low, high = wilson(hits, n)
    return {"share": round(hits / max(n, 1), 5), "interval_95": [round(low, 5), round(high, 5)]}


def _delays(delays: list[float], most: float) -> dict[str, Any]:
    late = sum(delay > most + _EPSILON_S for delay in delays)
    return {
        "allowed": most,
        "median": round(statistics.median(delays), 3) if delays else None,
        "p95": round(float(np.quantile(delays, 0.95)), 3) if delays else None,
        "worst": round(max(delays), 3) if delays else None,
        "late_share": round(late / max(len(delays), 1), 5),
    }


def _late(told: Mapping[str, Any], scored: Score, most: float) -> list[dict[str, Any]]:
    """Return the events that came later than is allowed, and what happened meanwhile."""
    missed = Counter((item.at, item.key) for item in scored.missed)
    matched = [item for item in told["due"] if not missed[item["visible"], _key(item)]]
    # Delays are in the order in which events are due, as `score` was given them.
    return [
        _item(told, item, item["visible"]) | {"delay_s": round(delay, 2)}
        for item, delay in zip(matched, scored.delays, strict=True)
        if delay > most + _EPSILON_S
    ]


def _wrong(told: Mapping[str, Any], scored: Score) -> list[dict[str, Any]]:
    found = []
    for what, items in (("missed", scored.missed), ("extra", scored.extra), ("twice", scored.duplicated)):
        for item in items:
            kind, about, detail = item.key
            named = {"kind": kind, "about": about, "detail": detail}
            found.append({"what": what} | _item(told, named, item.at))
    return found


def _key(item: Mapping[str, Any]) -> tuple[str, str, str]:
    return item["kind"], item["about"], item["detail"]


def _item(told: Mapping[str, Any], item: Mapping[str, Any], at: float) -> dict[str, Any]:
    named = {"seed": told["seed"], "at": at, "event": " ".join(_key(item)).strip()}
    return named | {"around": around(told["script"], item["about"], at)}


def _kinds(told: list[dict[str, Any]], scores: list[Score]) -> dict[str, dict[str, int]]:
    """Return how many events of each kind were due, and how many of them went wrong."""
    due = Counter(item["kind"] for one in told for item in one["due"])
    missed = Counter(item.kind for one in scores for item in one.missed)
    extra = Counter(item.key[0] for one in scores for item in (*one.extra, *one.duplicated))
    kinds = sorted(due | extra)
    return {str(kind): {"due": due[kind], "missed": missed[kind], "extra": extra[kind]} for kind in kinds}


def _happened(told: list[dict[str, Any]]) -> dict[str, int]:
    """Return what the agent had to bear, all seeds together."""
    scripts = [one["script"] for one in told]
    counts = {
        name: sum(len(script[name]) for script in scripts)
        for name in ("changes", "covers", "lights", "bumps")
    }
    return counts | {"arms": sum(len(script["hands"]) for script in scripts)}


@app.command()
def right(
    bundle_folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Knows the rendered goods.")],
    out: Annotated[Path, typer.Argument(help="Folder for what each seed gave.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    minutes: Annotated[int, typer.Option(min=1, help="Of shelf time, for each seed.")] = 10,
    fps: Annotated[float, typer.Option(min=0.1, help="Frames for each second of shelf time.")] = 2.0,
    confirm_s: Annotated[float, typer.Option(min=0, help="As in `device.yaml`.")] = 3.0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    result: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
) -> None:
    """Compare what the agent says with what happened."""
    job = Job(bundle_folder, minutes, fps, confirm_s)
    told = watch_all(job, range(seeds), out, jobs)
    measured.tell(summary(job, told), result, script=_SCRIPT, at=datetime.now(UTC))


if __name__ == "__main__":
    sys.exit(run_command(app))
