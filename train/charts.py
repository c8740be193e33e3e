"""What the charts of the report show: lines over axes, in units that people read. A template draws them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from edge_agent.contracts.scoring import Floats, reliability
from train.robustness import CLEAN, CORRUPTIONS, SEVERITIES

Point = tuple[float, float]
History = Sequence[Mapping[str, float]]
_TICKS = 5
_BINS = 20
_ROC_POINTS = 200
_LARGEST_DOT = 9.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        name: For the key; empty: not in it.
        points: x, y in the units of the axes.
        style: `one`, `two` (told apart by colour, dash and dot), or `quiet`.
        dots: Radius of each point's dot, px; empty: no dots.
        filled: Whether the area below is tinted.
    """

    name: str
    points: list[Point]
    style: str = "one"
    dots: list[float] = field(default_factory=list)
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """A stretch of numbers with its ticks."""

    label: str
    low: float
    high: float
    ticks: list[float]

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end, 1 at the high one."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over two axes; `told` says in words what is to be seen, for those who cannot see it."""

    title: str
    x: Axis
    y: Axis
    lines: list[Line]
    told: str


def axis(label: str, values: Iterable[float], *, low: float | None = None) -> Axis:
    """Return an axis around values with round ticks (1, 2 or 5 times a power of ten)."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    least, most = min(known) if low is None else low, max(known)
    span = (most - least) or abs(most) or 1.0
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    last = max(last, first + 1)
    ticks = [float(f"{number * step:.6g}") for number in range(first, last + 1)]
    return Axis(label, first * step, last * step, ticks)


def percent_axis(label: str) -> Axis:
    """Return 0 to 100 %."""
    return Axis(f"{label}, %", 0, 100, [0, 20, 40, 60, 80, 100])


def curves(history: History) -> list[Chart]:
    """Return loss, accuracy and learning rate over the epochs, as far as they were recorded."""
    kinds = (
        ("Loss", "nats", "loss", "val_loss", 1),
        ("Accuracy", "right, %", "accuracy", "val_accuracy", 100),
        ("Learning rate", "a step", "learning_rate", "", 1),
    )
    found = (_curve(history, *kind) for kind in kinds)
    return [chart for chart in found if chart is not None]


def _curve(history: History, title: str, unit: str, key: str, second: str, scale: float) -> Chart | None:
    lines = [
        Line(name, points, style, [2.5] * len(points))
        for name, style, wanted in (("training", "one", key), ("photos for choices", "two", second))
        if (points := _recorded(history, wanted, scale))
    ]
    if not lines:
        return None
    values = [y for line in lines for _, y in line.points]
    epochs = [x for line in lines for x, _ in line.points]
    ends = ", ".join(f"{line.name} {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines)
    across = axis("epoch", epochs, low=0)
    return Chart(
        title, across, axis(unit, values, low=0), lines, f"{title} over {len(history)} epochs: {ends}"
    )


def _recorded(history: History, key: str, scale: float) -> list[Point]:
    rows = [(entry.get("epoch", row + 1), entry.get(key, math.nan)) for row, entry in enumerate(history)]
    return [(float(epoch), value * scale) for epoch, value in rows if math.isfinite(value)]


def reliability_chart(labels: NDArray[np.int64], before: Floats | None, after: Floats) -> Chart | None:
    """Return how often answers are right at each confidence; a dot's area is the number of answers."""
    if not len(labels):
        return None
    lines = [Line("as sure as right", [(0, 0), (100, 100)], "quiet")]
    for name, style, probabilities in (("before temperature", "two", before), ("after", "one", after)):
        if probabilities is None:
            continue
        found = reliability(labels, probabilities)
        filled = np.flatnonzero(found.counts)
        points = [(100 * float(found.confidence[row]), 100 * float(found.right[row])) for row in filled]
        radii = 2 + (_LARGEST_DOT - 2) * np.sqrt(found.counts[filled] / found.counts.max())
        lines.append(Line(name, points, style, radii.tolist()))
    told = "; ".join(
        f"{line.name}: " + ", ".join(f"{y:.0f} % right at {x:.0f} %" for x, y in line.points)
        for line in lines[1:]
    )
    return Chart("Confidence and truth", percent_axis("confidence"), percent_axis("right"), lines, told)


def robustness_charts(found: Mapping[str, Sequence[float]]) -> list[Chart]:
    """Return one small chart for each kind of worse photo; severity 0 is the photo as it is."""
    charts = []
    for name in (name for name in CORRUPTIONS if name in found):
        shares = [100 * value for value in (*found[CLEAN], *found[name])]
        points = list(zip(map(float, (0, *SEVERITIES)), shares, strict=True))
        across = Axis("severity", 0, len(SEVERITIES), [0, *map(float, SEVERITIES)])
        level = Line("", [(0, shares[0]), (float(len(SEVERITIES)), shares[0])], "quiet")
        told = f"accuracy under {name}, severity 0 to 5: " + ", ".join(f"{share:.0f} %" for share in shares)
        lines = [level, Line("", points, "one", [3.0] * len(points))]
        charts.append(Chart(name, across, percent_axis("right"), lines, told))
    return charts


def open_set_charts(
    known: Floats, outside: Floats, figures: Mapping[str, Any], threshold: float
) -> list[Chart]:
    """Return how sure answers are, inside the catalogue and outside, and the trade between errors."""
    inner, foreign = (100 * part.max(axis=1).astype(np.float64) for part in (known, outside))
    edges = np.linspace(0, 100, _BINS + 1)
    lines = [
        Line(name, _steps(values, edges), style, filled=True)
        for name, values, style in (("catalogue", inner, "one"), ("outside it", foreign, "two"))
    ]
    most = max(y for line in lines for _, y in line.points)
    lines.append(Line("threshold", [(100 * threshold, 0), (100 * threshold, most)], "quiet"))
    taken, kept, _ = roc_curve(
        np.repeat([1, 0], [len(inner), len(foreign)]), np.concatenate([inner, foreign])
    )
    some = np.unique(np.linspace(0, len(taken) - 1, _ROC_POINTS).astype(int))
    at = (100 * float((foreign >= 100 * threshold).mean()), 100 * float((inner >= 100 * threshold).mean()))
    curve = [(100 * float(taken[row]), 100 * float(kept[row])) for row in some]
    area = f"area under the curve {figures['auroc']:.3f}"
    return [
        Chart(
            "How sure answers are",
            percent_axis("confidence"),
            axis("of photos, %", [0, most]),
            lines,
            f"median {np.median(inner):.0f} % in the catalogue, {np.median(foreign):.0f} % outside",
        ),
        Chart(
            "Every possible threshold",
            percent_axis("outside photos taken for products"),
            percent_axis("catalogue photos answered"),
            [
                Line("guessing", [(0, 0), (100, 100)], "quiet"),
                Line(area, curve, "one"),
                Line("the threshold", [at], "two", [5.0]),
            ],
            f"{area}; at the threshold {at[0]:.0f} % of outside photos are taken for products, "
            f"and {at[1]:.0f} % of the catalogue's get an answer",
        ),
    ]


def _steps(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[Point]:
    counts = 100 * np.histogram(values, edges)[0] / len(values)
    heights = np.concatenate([[0.0], np.repeat(counts, 2), [0.0]])
    return list(zip(np.repeat(edges, 2).tolist(), heights.tolist(), strict=True))
