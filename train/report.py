"""`report.html`: one page for people, readable offline: how good the model is, where it fails, and why.

Everything is inside: no address, no font, no picture from elsewhere; without JavaScript only sorting is
missing. Names of classes and files come from strangers, so the page escapes them, and a content security
policy forbids whatever is not in the page itself.
"""

import base64
import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from edge_agent.contracts.photos import Dataset, Pictures, Rejected
from edge_agent.contracts.run import RunInfo
from edge_agent.contracts.scoring import Floats, confusion, precisions, recalls
from train import charts, exhibits
from train.exhibits import NearCopy, Table
from train.robustness import CORRUPTIONS
from train.split import Split

_TABLE_UP_TO = 40
_TOLD_PAIRS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the report shows.

    Attributes:
        info: What `run.json` says.
        dataset: Classes and photos.
        rejected: Photos that were left out.
        holdout: Photos that nothing has seen.
        probabilities: float32, (n, classes), of the holdout, after temperature.
        history: Of each epoch: epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds;
            any may be missing.
        command: Repeats the run.
        notes: Warnings about the photos.
        near_duplicates: Pictures with names and parts, nearest first.
        raw_probabilities: float32, (n, classes), of the holdout, before temperature.
        outside_probabilities: float32, (m, classes), after temperature, of outside photos that chose
            nothing.
        pictures: All photos: `parts` are rows of them, and they show classes that the holdout lacks.
        parts: Who saw which photo.
    """

    info: RunInfo
    dataset: Dataset
    rejected: list[Rejected]
    holdout: Pictures
    probabilities: Floats
    history: list[dict[str, float]] = field(default_factory=list)
    command: str = ""
    notes: list[str] = field(default_factory=list)
    near_duplicates: list[NearCopy] = field(default_factory=list)
    raw_probabilities: Floats | None = None
    outside_probabilities: Floats | None = None
    pictures: Pictures | None = None
    parts: Split | None = None


def write_report(path: Path, evidence: Evidence) -> None:
    """Write the page.

    Raises:
        OSError: It cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("train"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "figure": _figure}
    script = environment.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("report.html").render(
        script=script, script_sha256=digest, **_judged(evidence), **_told(evidence)
    )
    path.write_text(page, encoding="utf-8")


def _judged(evidence: Evidence) -> dict[str, Any]:
    """Return what shows how good the model is."""
    info, labels, holdout = evidence.info, evidence.dataset.labels, evidence.holdout
    probabilities, metrics = evidence.probabilities, evidence.info.metrics
    table = confusion(holdout.labels, probabilities)
    robust = metrics.get("robustness") or {}
    few = len(labels) <= _TABLE_UP_TO
    return {
        "info": info,
        "metrics": metrics,
        "labels": labels,
        "rows": _rows(evidence, table),
        "table": table.tolist() if few else None,
        "heat": None if few or not len(holdout) else exhibits.heat_map(table),
        "told_pairs": exhibits.confused(table)[:_TOLD_PAIRS],
        "pairs": exhibits.pairs(holdout, probabilities, table, labels, evidence.pictures),
        "mistakes": exhibits.mistakes(holdout, probabilities, labels),
        "curves": charts.curves(evidence.history),
        "reliability": charts.reliability_chart(holdout.labels, evidence.raw_probabilities, probabilities),
        "robustness": robust,
        "robustness_charts": charts.robustness_charts(robust),
        "corruptions": CORRUPTIONS,
        "open_set": metrics.get("open_set"),
        "open_set_charts": _open_set(evidence),
    }


def _open_set(evidence: Evidence) -> list[charts.Chart]:
    figures, outside = evidence.info.metrics.get("open_set"), evidence.outside_probabilities
    if not figures or outside is None or not len(outside):
        return []
    return charts.open_set_charts(evidence.probabilities, outside, figures, evidence.info.unknown_below)


def _told(evidence: Evidence) -> dict[str, Any]:
    """Return what the run was made of."""
    return {
        "rejected": evidence.rejected,
        "notes": evidence.notes,
        "copies": exhibits.copies(evidence.near_duplicates),
        "more_copies": max(len(evidence.near_duplicates) - exhibits.COPIES, 0),
        "command": evidence.command,
        "sizes": {part: len(ids) for part, ids in evidence.info.split.items()},
        "seconds": sum(entry.get("seconds", 0.0) for entry in evidence.history),
    }


def _rows(evidence: Evidence, table: Table) -> list[dict[str, Any]]:
    """Return a line for each class, the weakest first, those without held-out photos last."""
    labels, coarse, parts = evidence.dataset.labels, evidence.dataset.coarse, evidence.parts
    counts, pictures = evidence.dataset.counts(), evidence.pictures
    seen = {}
    if parts is not None and pictures is not None:
        for part in ("train", "validation"):
            seen[part] = np.bincount(pictures.labels[getattr(parts, part)], minlength=len(labels)).tolist()
    rows = [
        {
            "label": label,
            "coarse": coarse[row] if coarse else None,
            "photos": counts[label],
            "train": seen["train"][row] if seen else None,
            "validation": seen["validation"][row] if seen else None,
            "held": int(table[row].sum()),
            "recall": recall,
            "precision": precision,
        }
        for row, (label, recall, precision) in enumerate(
            zip(labels, recalls(table).tolist(), precisions(table).tolist(), strict=True)
        )
    ]
    return sorted(rows, key=lambda row: (row["recall"] if row["held"] else 2, row["label"]))


def _percent(value: float | None, digits: int = 0) -> str:
    return "\u2013" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def _figure(value: float | None, digits: int = 3) -> str:
    return "\u2013" if value is None or math.isnan(value) else f"{value:.{digits}f}"
