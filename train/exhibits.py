"""What the report shows of single photos: mistakes, confused pairs, near copies; few and small."""

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.photos import Pictures
from edge_agent.contracts.pictures import jpeg
from edge_agent.contracts.preprocess import fit
from edge_agent.contracts.scoring import Floats

Picture = NDArray[np.uint8]
Table = NDArray[np.int64]
NearCopy = tuple[Picture, str, str, Picture, str, str]
"""Picture, name and part of one photo, and of its near copy; pictures are uint8, RGB."""

MISTAKES = 24
PAIRS = 12
COPIES = 12
_SIDE_PX = 128
_QUALITY = 80
_TOLD_PAIRS = 300


def data_uri(picture: Picture) -> str:
    """Return a JPEG of at most 128 px a side, inline."""
    height, width = picture.shape[:2]
    scale = _SIDE_PX / max(height, width)
    turned = picture[..., ::-1]
    if scale < 1:
        turned = fit(picture, max(round(height * scale), 1), max(round(width * scale), 1))
    data = jpeg(np.asarray(turned, np.uint8), _QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def mistakes(holdout: Pictures, probabilities: Floats, labels: list[str]) -> list[dict[str, Any]]:
    """Return the wrong answers that were surest of themselves."""
    found, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(found != holdout.labels)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    return [
        {
            "picture": data_uri(holdout.images[row]),
            "name": holdout.photos[row].name,
            "truth": labels[holdout.labels[row]],
            "found": labels[found[row]],
            "sure": float(sure[row]),
        }
        for row in worst
    ]


def confused(table: Table) -> list[tuple[int, int, int]]:
    """Return true class, class it was taken for, how often; the most frequent first, without bound."""
    wrong = table - np.diag(np.diag(table))
    places = np.argwhere(wrong)
    counts = wrong[tuple(places.T)]
    order = np.argsort(-counts, kind="stable")
    return [(int(places[row, 0]), int(places[row, 1]), int(counts[row])) for row in order]


def pairs(
    holdout: Pictures, probabilities: Floats, table: Table, labels: list[str], others: Pictures | None
) -> list[dict[str, Any]]:
    """Return photos that were mistaken, each beside a typical one of what they were taken for.

    Args:
        holdout: What was judged.
        probabilities: float32, (n, classes).
        table: Counts, (true class, predicted class).
        labels: Of the classes.
        others: Shows a class of which the holdout has no photo.
    """
    found, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    shown = []
    for true, taken, count in confused(table)[:PAIRS]:
        rows = np.flatnonzero((holdout.labels == true) & (found == taken))
        row = rows[sure[rows].argmax()]
        typical = _typical(holdout, probabilities, taken)
        if typical is None and others is not None:
            typical = _first(others, taken)
        shown.append({
            "truth": labels[true],
            "found": labels[taken],
            "count": count,
            "held": int(table[true].sum()),
            "picture": data_uri(holdout.images[row]),
            "name": holdout.photos[row].name,
            "typical": None if typical is None else data_uri(typical),
        })  # fmt: skip
    return shown


def _typical(holdout: Pictures, probabilities: Floats, label: int) -> Picture | None:
    """Return the photo of a class that the model finds most like it."""
    rows = np.flatnonzero(holdout.labels == label)
    if not len(rows):
        return None
    return np.asarray(holdout.images[rows[probabilities[rows, label].argmax()]])


def _first(pictures: Pictures, label: int) -> Picture | None:
    rows = np.flatnonzero(pictures.labels == label)
    return np.asarray(pictures.images[rows[0]]) if len(rows) else None


def copies(near: list[NearCopy]) -> list[dict[str, str]]:
    """Return near copies with both pictures."""
    return [
        {
            "picture": data_uri(one),
            "name": name,
            "part": part,
            "other": data_uri(other),
            "other_name": other_name,
            "other_part": other_part,
        }
        for one, name, part, other, other_name, other_part in near[:COPIES]
    ]


def heat_map(table: Table) -> dict[str, Any]:
    """Return a confusion table as a picture, one px for a cell, and its most frequent mistakes.

    Right answers are blue, mistakes orange, told apart by brightness too: the more, the more opaque.
    """
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    pixels = np.zeros((*table.shape, 4), np.uint8)
    pixels[..., :3] = (32, 112, 224)  # BGR
    pixels[np.diag_indices(len(table))] = (208, 138, 31, 0)
    # One photo of a hundred must be seen, too.
    pixels[..., 3] = np.where(table > 0, 110 + 145 * share, 0).astype(np.uint8)
    _, data = cv2.imencode(".png", pixels)
    return {
        "picture": "data:image/png;base64," + base64.b64encode(data.tobytes()).decode(),
        "classes": len(table),
        "cells": confused(table)[:_TOLD_PAIRS],
    }
