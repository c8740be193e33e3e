"""`report.html`: one page for people, readable offline: figures, confusion, the worst mistakes."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from edge_agent.contracts.photos import Dataset, Pictures, Rejected
from edge_agent.contracts.run import RunInfo
from edge_agent.contracts.scoring import Floats, confusion, precisions, recalls

_WORST = 24
_TABLE_UP_TO = 40
_PAIRS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the report shows; probabilities are those of the holdout, float32 (n, classes)."""

    info: RunInfo
    dataset: Dataset
    rejected: list[Rejected]
    holdout: Pictures
    probabilities: Floats


def write_report(path: Path, evidence: Evidence) -> None:
    """Write the page."""
    environment = Environment(
        loader=PackageLoader("train"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    labels = evidence.dataset.labels
    table = confusion(evidence.holdout.labels, evidence.probabilities)
    page = environment.get_template("report.html").render(
        info=evidence.info,
        metrics=evidence.info.metrics,
        rejected=evidence.rejected,
        labels=labels,
        rows=_rows(labels, table, evidence.dataset.counts()),
        table=table.tolist() if len(labels) <= _TABLE_UP_TO else None,
        pairs=_pairs(labels, table),
        mistakes=_mistakes(evidence, labels),
    )
    path.write_text(page, encoding="utf-8")


def _rows(labels: list[str], table: NDArray[np.int64], counts: dict[str, int]) -> list[dict[str, Any]]:
    """Return a line for each class, the weakest first."""
    rows = [
        {"label": label, "photos": counts[label], "held": int(held), "recall": recall, "precision": precision}
        for label, held, recall, precision in zip(
            labels, table.sum(axis=1), recalls(table).tolist(), precisions(table).tolist(), strict=True
        )
    ]
    return sorted(rows, key=lambda row: (row["recall"] if row["held"] else 2, row["label"]))


def _pairs(labels: list[str], table: NDArray[np.int64]) -> list[tuple[str, str, int]]:
    """Return true class, taken for, how often; the most frequent first."""
    wrong = table - np.diag(np.diag(table))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    places = [np.unravel_index(place, wrong.shape) for place in order]
    return [
        (labels[true], labels[taken], int(wrong[true, taken])) for true, taken in places if wrong[true, taken]
    ]


def _mistakes(evidence: Evidence, labels: list[str]) -> list[dict[str, Any]]:
    """Return the wrong answers that were surest of themselves, with their pictures."""
    found = evidence.probabilities.argmax(axis=1)
    sure = evidence.probabilities.max(axis=1)
    wrong = np.flatnonzero(found != evidence.holdout.labels)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:_WORST]
    return [
        {
            "picture": _data_uri(evidence.holdout.images[row]),
            "name": evidence.holdout.photos[row].name,
            "truth": labels[evidence.holdout.labels[row]],
            "found": labels[found[row]],
            "sure": float(sure[row]),
        }
        for row in worst
    ]


def _data_uri(image: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
