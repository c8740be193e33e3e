"""When does an answer count? A fixed hold against a sequential probability ratio test, on the same answers.

Usage: python benchmarks/decision.py BUNDLE OUT [--seeds 24] [--minutes 5] [--jobs 1] [--result FILE]

Records what the model of BUNDLE answers about every slot of every frame that stands still (rendered shelves,
2 frames a second: in `good` light; in `bad` light, as a cheap camera sees them at dusk; and with hands that
`rest` in the slots for up to four seconds), and then lets both rules decide on these answers, each with a
range of settings. OUT keeps a file for each seed: a run that was stopped goes on.
The seeds are others than those of `right.py`. Prints JSON, for each kind of picture:

    rules      of each rule and setting: changes that never were, in all and for each slot and hour, share
               of the script's changes that were never told, and the delay from the hand being gone
    at_equal   for each setting of the fixed hold the fastest test that makes no more mistakes, false or
               missed, than it does; null where there is none

and `everywhere`: for each setting of the fixed hold the tests that do so in all kinds of picture at once, as
one setting must, with the delays of both.

The test (Wald 1945; repeated as by Page 1954, since a change may come at any time) adds up for each label
what a frame says for it and against the one that counts: the logarithm of the ratio of their probabilities,
limited to +-clip, for one frame is never as independent of the last as the test assumes. A sum below 0
starts anew at 0; one that reaches `bound` counts. Unknown is a label with the probability `unknown_below`.
What hides a slot starts both rules anew.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Protocol

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import measured
from benchmarks.right_watch import Job, record
from edge_agent import rules
from edge_agent.contracts.command import new_app, run_command, shown
from edge_agent.contracts.scoring import Floats

_SCRIPT = "decision.py"
_FIRST_SEED = 100
_UNKNOWN = "unknown"
_EARLY_S = 1.0
_LEAST = 1e-3
"""A probability under which the model's own calibration means nothing."""
app = new_app(help="A fixed hold against a sequential probability ratio test.")


@dataclass(frozen=True, slots=True)
class Tape:
    """What the model said of one shelf, and what was there.

    Attributes:
        at: float64, (frames,): seconds of the script.
        chances: float32, (frames, slots, labels): NaN where a slot was not read; the last label is unknown.
        labels: Of the model, and unknown.
        slots: Their ids.
        script: The truth.
    """

    at: NDArray[np.float64]
    chances: Floats
    labels: list[str]
    slots: list[str]
    script: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, way: str) -> "Tape":
        """Read what was recorded of a seed, in one kind of picture."""
        with np.load(path) as file:
            known, unknown_below = file[way].astype(np.float32), float(file["unknown_below"])
            labels = [*map(str, file["labels"]), _UNKNOWN]
            slots, script = [str(slot) for slot in file["slots"]], json.loads(str(file[f"script_{way}"]))
            at = file[f"at_{way}"]
        unknown = np.where(np.isnan(known[..., :1]), np.nan, np.float32(unknown_below))
        return cls(at, np.concatenate([known, unknown], axis=2), labels, slots, script)


Fact = tuple[float, str, str]
"""When it counts, the slot, and the label."""


class Rule(Protocol):
    """Decides from which frame on an answer counts."""

    @property
    def setting(self) -> dict[str, float]:
        """What it can be set to."""

    def facts(self, tape: Tape) -> Iterator[Fact]:
        """Yield what counts, each only when it is another than before."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The agent's own rule: the same answer without a break for some seconds, and at least twice."""

    confirm_s: float

    @property
    def setting(self) -> dict[str, float]:
        """See `Rule.setting`."""
        return {"confirm_s": self.confirm_s}

    def facts(self, tape: Tape) -> Iterator[Fact]:
        """See `Rule.facts`."""
        tops, read = _tops(tape)
        for row, slot in enumerate(tape.slots):
            track, known = rules.Track(), ""
            for number, at in enumerate(tape.at):
                label = tape.labels[tops[number, row]]
                answer = None if label == _UNKNOWN else label
                seen = rules.Reading(answer, 1.0, float(at)) if read[number, row] else None
                track, fact = rules.step(track, seen, self.confirm_s)
                if fact is not None and (fact.label or _UNKNOWN) != known:
                    known = fact.label or _UNKNOWN
                    yield float(at), slot, known


@dataclass(frozen=True, slots=True)
class Ratio:
    """The sequential test. A slot's first answer counts at the second frame that gives it."""

    bound: float
    clip: float

    @property
    def setting(self) -> dict[str, float]:
        """See `Rule.setting`."""
        return {"bound": self.bound, "clip": self.clip}

    def facts(self, tape: Tape) -> Iterator[Fact]:
        """See `Rule.facts`."""
        tops, read = _tops(tape)
        weights = np.log(np.clip(tape.chances, _LEAST, 1.0))
        every = np.arange(len(tape.slots))
        known = np.full(len(every), -1)
        sums = np.zeros((len(every), len(tape.labels)))
        before = np.full(len(every), -1)
        for number, at in enumerate(tape.at):
            top, seen = tops[number], read[number]
            first = seen & (known < 0) & (top == before)
            known[first] = top[first]
            before = np.where(seen, top, -1)
            judged = seen & (known >= 0)
            ratio = weights[number] - weights[number, every, known][:, None]
            gain = np.clip(ratio, -self.clip, self.clip)
            sums = np.where(judged[:, None], np.maximum(sums + np.nan_to_num(gain), 0.0), 0.0)
            changed = judged & (sums.max(axis=1) >= self.bound)
            known[changed] = sums.argmax(axis=1)[changed]
            sums[changed] = 0.0
            for row in np.flatnonzero(first | changed):
                yield float(at), tape.slots[row], tape.labels[known[row]]


def _tops(tape: Tape) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the most probable label of each slot in each frame, and where there is one."""
    read = ~np.isnan(tape.chances[..., 0])
    # A model's own label wins a tie, as in the agent.
    return np.where(read, np.nan_to_num(tape.chances, nan=0.0).argmax(axis=2), -1), read


@dataclass(slots=True)
class Outcome:
    """What a rule made of tapes."""

    false: int = 0
    delays: list[float] | None = None

    def add(self, tape: Tape, rule: Rule) -> None:
        """Let it decide on one more."""
        told: dict[str, list[tuple[float, str]]] = {slot: [] for slot in tape.slots}
        for at, slot, label in rule.facts(tape):
            told[slot].append((at, label))
        self.delays = self.delays or []
        for slot, facts in told.items():
            changes = [(0.0, str(tape.script["start"][slot]))]
            changes += [(one["at"], one["label"]) for one in tape.script["changes"] if one["slot"] == slot]
            self.false += sum(label not in _there(changes, at) for at, label in facts)
            self.delays += list(_delays(changes, facts))


def _there(changes: list[tuple[float, str]], at: float) -> set[str]:
    """Return what is in a slot at a moment; while a hand changes that, both."""
    return {[label for begin, label in changes if begin <= moment][-1] for moment in (at, at + _EARLY_S)}


def _delays(changes: list[tuple[float, str]], facts: list[tuple[float, str]]) -> Iterator[float]:
    """Yield how long each change took until it was told; infinity: never, until the next one."""
    ends = [at for at, _ in changes[2:]] + [np.inf]
    for (begin, label), end in zip(changes[1:], ends, strict=False):
        known = [fact for at, fact in facts if at < begin - _EARLY_S][-1:]
        yield next(
            (at - begin for at, fact in facts if fact == label and begin - _EARLY_S <= at < end),
            0.0 if known == [label] else np.inf,
        )


def figures(tapes: list[Tape], rule: Rule) -> dict[str, Any]:
    """Return the mistakes and delays of a rule."""
    outcome = Outcome()
    for tape in tapes:
        outcome.add(tape, rule)
    delays = np.array(outcome.delays)
    hours = sum(len(tape.slots) * float(tape.at[-1]) / 3600 for tape in tapes)
    return {
        "setting": rule.setting,
        "false": outcome.false,
        "false_per_slot_hour": round(outcome.false / hours, 3),
        "missed_share": round(float(np.isinf(delays).mean()), 5),
        "median_s": _quantile(delays, 0.5),
        "p95_s": _quantile(delays, 0.95),
    }


def _quantile(delays: NDArray[np.float64], share: float) -> float | None:
    """Return a quantile, None where it is a change that was never told."""
    value = float(np.quantile(delays, share, method="higher"))
    return round(value, 2) if np.isfinite(value) else None


HOLDS = [Hold(seconds) for seconds in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)]
_BOUNDS = (1.5, 3.0, 4.5, 6.0, 9.0, 12.0, 18.0, 30.0, 36.0, 42.0, 48.0, 60.0)
RATIOS = [Ratio(bound, clip) for clip in (1.5, 3.0, 6.0) for bound in _BOUNDS]


def compared(tapes: list[Tape]) -> dict[str, Any]:
    """Return both rules' figures, and the comparison at equal mistakes."""
    holds, ratios = ([figures(tapes, rule) for rule in some] for some in (HOLDS, RATIOS))
    return {
        "slot_hours": round(sum(len(tape.slots) * float(tape.at[-1]) / 3600 for tape in tapes), 2),
        "changes": sum(len(tape.script["changes"]) for tape in tapes),
        "rules": {"hold": holds, "ratio": ratios},
        "at_equal": [{"hold": hold, "ratio": _fastest(ratios, hold)} for hold in holds],
    }


def everywhere(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each hold the tests that make no more mistakes in any kind of picture, and both delays."""

    def medians(name: str, number: int) -> dict[str, Any]:
        return {way: one["rules"][name][number]["median_s"] for way, one in found.items()}

    def fits(ratio: int, hold: int) -> bool:
        tables = [(one["rules"]["ratio"][ratio], one["rules"]["hold"][hold]) for one in found.values()]
        keys = ("false", "missed_share")
        return all(mine[key] <= other[key] for mine, other in tables for key in keys)

    return [
        {
            "hold": rule.setting | medians("hold", hold),
            "ratio": [
                RATIOS[ratio].setting | medians("ratio", ratio)
                for ratio in range(len(RATIOS))
                if fits(ratio, hold)
            ],
        }
        for hold, rule in enumerate(HOLDS)
    ]


def _fastest(ratios: list[dict[str, Any]], hold: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fastest setting with no more mistakes: by the median, then by the slowest twentieth."""
    fit = [
        one
        for one in ratios
        if one["false"] <= hold["false"]
        and one["missed_share"] <= hold["missed_share"]
        and one["median_s"] is not None
    ]
    return min(fit, key=lambda one: (one["median_s"], one["p95_s"] or np.inf), default=None)


@app.command()
def decision(
    bundle_folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Knows the rendered goods.")],
    out: Annotated[Path, typer.Argument(help="Folder for what each seed gave.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 24,
    minutes: Annotated[int, typer.Option(min=1, help="Of shelf time, for each seed.")] = 5,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    result: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
) -> None:
    """Compare both rules on the same answers."""
    job = Job(bundle_folder, minutes, fps=2.0, confirm_s=3.0)
    files = {seed: out / f"{seed}.npz" for seed in range(_FIRST_SEED, _FIRST_SEED + seeds)}
    missing = {seed: path for seed, path in files.items() if not path.is_file()}
    with ProcessPoolExecutor(jobs, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        going = [pool.submit(record, job, seed, path) for seed, path in missing.items()]
        for done in shown("seeds")(as_completed(going), len(going)):
            done.result()
    found = {
        way: compared([Tape.read(path, way) for path in files.values()]) for way in ("good", "bad", "rest")
    }
    counts = {"seeds": seeds, "minutes": minutes, "everywhere": everywhere(found)}
    measured.tell(counts | found, result, script=_SCRIPT, at=datetime.now(UTC))


if __name__ == "__main__":
    sys.exit(run_command(app))
