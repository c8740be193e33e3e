"""How accuracy falls where photos get worse: eight kinds of worse, five severities each.

After Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations": fixed kinds, five fixed severities, one figure for each, on photos that training has
not seen. The kinds are those of a shelf camera, and lengths are shares of the picture's side, so that
a severity means the same at 32 px and at 224 px.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.photos import Pictures, Progress
from edge_agent.contracts.scoring import Floats

Picture = NDArray[np.uint8]
Predict = Callable[[NDArray[np.uint8]], Floats]
"""Pictures, uint8 (n, height, width, 3), RGB, to logits, float32 (n, classes)."""

CLEAN = "clean"
SEVERITIES = (1, 2, 3, 4, 5)
_AT_ONCE = 128
_GLARE_RADIUS = 0.3


@dataclass(frozen=True, slots=True)
class Corruption:
    """One way in which a photo gets worse.

    Attributes:
        unit: What the levels are.
        levels: One for each severity from 1 to 5.
        change: Pure: picture, level, generator to a picture of the same shape.
    """

    unit: str
    levels: tuple[float, float, float, float, float]
    change: Callable[[Picture, float, np.random.Generator], Picture]

    def __call__(self, picture: Picture, severity: int, rng: np.random.Generator) -> Picture:
        """Return a worse copy.

        Args:
            picture: uint8, (height, width, 3), RGB; is left as it is.
            severity: 1 to 5.
            rng: Decides place and direction.

        Returns:
            uint8 of the same shape.
        """
        return self.change(picture, self.levels[severity - 1], rng)


def robustness(
    predict: Predict,
    holdout: Pictures,
    *,
    seed: int,
    progress: Progress[tuple[str, int]] = lambda items, _total: items,
    at_most: int = 1000,
) -> dict[str, list[float]]:
    """Return the accuracy, 0 to 1, at severity 1 to 5 of each kind, and under "clean" without any.

    A photo gets the same place, direction and noise at each severity, which its content and the seed
    decide: figures differ because of the severity alone.

    Args:
        predict: The model.
        holdout: Photos that nothing has seen.
        seed: Draws photos, places, directions.
        progress: Shows how far it is, given pairs of kind and severity.
        at_most: Photos used; more are drawn by seed, the classes by turns.

    Returns:
        Empty where there is no photo.
    """
    rows = _drawn(holdout.labels, seed, at_most)
    if not len(rows):
        return {}
    steps = [(CLEAN, 0)] + [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    found: dict[str, list[float]] = {}
    for name, severity in progress(steps, len(steps)):
        found.setdefault(name, []).append(_accuracy(predict, holdout, rows, (name, severity), seed))
    return found


def _drawn(labels: NDArray[np.int64], seed: int, at_most: int) -> NDArray[np.int64]:
    """Return rows in their order, drawn class by class in turns so that small classes count, too."""
    if len(labels) <= at_most:
        return np.arange(len(labels))
    shuffled = np.random.default_rng([seed, 5]).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    turn = np.arange(len(by_class)) - np.repeat(starts, counts)
    return np.sort(by_class[np.argsort(turn, kind="stable")[:at_most]])


def _accuracy(
    predict: Predict, holdout: Pictures, rows: NDArray[np.int64], step: tuple[str, int], seed: int
) -> float:
    hits = 0
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        pictures = np.stack([_changed(holdout, int(row), step, seed) for row in some])
        hits += int((predict(pictures).argmax(axis=1) == holdout.labels[some]).sum())
    return hits / len(rows)


def _changed(holdout: Pictures, row: int, step: tuple[str, int], seed: int) -> Picture:
    name, severity = step
    picture = np.asarray(holdout.images[row])
    if name == CLEAN:
        return picture
    # Not the severity: see above. Not the row: the order in which photos were read must not matter.
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(holdout.ids[row].encode())])
    return CORRUPTIONS[name](picture, severity, rng)


def _darker(picture: Picture, gain: float, _rng: np.random.Generator) -> Picture:
    return np.asarray(cv2.convertScaleAbs(picture, alpha=gain), np.uint8)


def _glaring(picture: Picture, peak: float, rng: np.random.Generator) -> Picture:
    """Let a lamp reflect somewhere: towards white, most at the centre of a soft spot."""
    height, width = picture.shape[:2]
    y, x = rng.uniform(0.2, 0.8, 2) * (height, width)
    far = ((np.arange(height)[:, None] - y) / height) ** 2 + ((np.arange(width) - x) / width) ** 2
    share = peak * np.exp(-far / (2 * _GLARE_RADIUS**2))[..., None]
    return np.asarray(np.rint(picture + (255 - picture.astype(np.float64)) * share), np.uint8)


def _blurred(picture: Picture, share: float, _rng: np.random.Generator) -> Picture:
    sigma = share / 100 * min(picture.shape[:2])
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def _noisy(picture: Picture, sigma: float, rng: np.random.Generator) -> Picture:
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(sigma)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def _turned(picture: Picture, degrees: float, rng: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    change = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees * rng.choice([-1, 1]), 1)
    seen = cv2.warpAffine(picture, change, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(seen, np.uint8)


def _aslant(picture: Picture, share: float, rng: np.random.Generator) -> Picture:
    """Look from one of four sides: the far edge gets shorter at both ends."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    first = int(rng.integers(4))
    second = (first + 1) % 4
    target = corners.copy()
    edge = corners[second] - corners[first]
    target[first] += edge * share / 100
    target[second] -= edge * share / 100
    change = cv2.getPerspectiveTransform(corners, target)
    seen = cv2.warpPerspective(picture, change, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, np.uint8)


def _covered(picture: Picture, share: float, rng: np.random.Generator) -> Picture:
    """Cover a part with one colour: a hand, a price tag, a neighbour."""
    height, width = picture.shape[:2]
    # Never wider or taller than the picture.
    tall = np.sqrt(share / 100) * rng.uniform(0.8, 1.25)
    rows, columns = round(height * tall), round(width * share / 100 / tall)
    y, x = rng.uniform(0, 1, 2)
    top, left = int(y * (height - rows + 1)), int(x * (width - columns + 1))
    covered = picture.copy()
    covered[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)
    return covered


def _compressed(picture: Picture, quality: float, _rng: np.random.Generator) -> Picture:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    read = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(read[..., ::-1])


CORRUPTIONS: dict[str, Corruption] = {
    "darkness": Corruption("light left, of 1", (0.7, 0.5, 0.35, 0.22, 0.12), _darker),
    "glare": Corruption("white at a spot's centre, of 1", (0.35, 0.5, 0.65, 0.8, 1.0), _glaring),
    "blur": Corruption("sigma, % of the side", (0.6, 1.2, 1.8, 2.6, 4.0), _blurred),
    "noise": Corruption("sigma, grey levels of 255", (8, 14, 22, 34, 50), _noisy),
    "rotation": Corruption("degrees", (5, 10, 15, 25, 40), _turned),
    "perspective": Corruption("far edge shorter at each end, %", (4, 8, 12, 17, 22), _aslant),
    "occlusion": Corruption("area covered, %", (5, 10, 20, 30, 45), _covered),
    "JPEG": Corruption("quality of 100", (50, 30, 20, 12, 7), _compressed),
}
"""By the name that people read."""
