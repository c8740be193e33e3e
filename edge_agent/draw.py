"""From rows of a shelf to slots, and a picture of them to check by eye. Pure.

A row is a quad with a number of columns. Equal widths on the shelf are not equal widths in a
picture that was taken from the side, so a row is divided on the shelf, by the homography that makes
it upright.
"""

import colorsys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.planogram import Planogram, Point, Slot
from edge_agent.contracts.preprocess import Image

Quad = tuple[Point, Point, Point, Point]

_HINT = 'for example: --row "A: 410,80 1500,60 1510,300 405,310 / 8", corners clockwise from the top left'
_CORNERS = 4
_MAX_COLUMNS = 200
_MAX_NAME = 60
_MIN_SIDE_PX = 8.0
_UNIT = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
_GOLDEN = 0.618034


@dataclass(frozen=True, slots=True)
class Row:
    """One row of slots.

    Attributes:
        name: What the ids of its slots begin with.
        quad: Corners in px, clockwise from the top left.
        widths: Of its slots on the shelf, from left to right; only their proportions matter.
    """

    name: str
    quad: Quad
    widths: tuple[float, ...]

    @property
    def columns(self) -> int:
        """How many slots it has."""
        return len(self.widths)

    @property
    def ids(self) -> list[str]:
        """The ids of its slots, from left to right."""
        return [f"{self.name}{number}" for number in range(1, self.columns + 1)]

    def slots(self, gap_px: float = 0.0) -> list[tuple[str, Quad]]:
        """Divide the row as it is divided on the shelf.

        Args:
            gap_px: What is left out between two neighbours, px of the picture.

        Returns:
            Id and corners (clockwise from the top left, px, to a tenth) of each slot.

        Raises:
            UsageError: A slot would be too narrow to show anything.
        """
        upright = np.asarray(cv2.getPerspectiveTransform(_UNIT, np.array(self.quad, np.float32)), np.float64)
        share = np.concatenate([[0.0], np.cumsum(self.widths) / sum(self.widths)])
        edges = [self._edge(upright, share, height, gap_px) for height in (0.0, 1.0)]
        found: list[tuple[str, Quad]] = []
        for place, name in enumerate(self.ids):
            (left, right), (west, east) = edges[0][place], edges[1][place]
            found.append((name, (left, right, east, west)))
        return found

    def _edge(
        self, upright: NDArray[np.float64], share: NDArray[np.float64], height: float, gap_px: float
    ) -> list[tuple[Point, Point]]:
        """Return where each slot begins and ends along the row's upper (0) or lower (1) edge."""
        on_shelf = np.stack([share, np.full_like(share, height)], axis=1)[None]
        marks = cv2.perspectiveTransform(on_shelf, upright)[0]
        lengths = np.linalg.norm(np.diff(marks, axis=0), axis=1)
        if lengths.min() - gap_px < _MIN_SIDE_PX:
            narrow = int(lengths.argmin())
            raise UsageError(
                f"Expected: slots at least {_MIN_SIDE_PX:g} px wide, after a gap of {gap_px:g} px. "
                f"Received: {self.ids[narrow]} with {lengths[narrow]:.0f} px.",
                hint="use fewer columns, a smaller --gap, or a camera that stands closer",
            )
        half = (marks[-1] - marks[0]) / np.linalg.norm(marks[-1] - marks[0]) * gap_px / 2
        ends = []
        for place, (begin, end) in enumerate(pairwise(marks)):
            # The row's own ends stay where they were drawn.
            first, last = begin + half * (place > 0), end - half * (place < self.columns - 1)
            ends.append((_point(first), _point(last)))
        return ends


def _point(xy: NDArray[np.float64]) -> Point:
    return round(float(xy[0]), 1), round(float(xy[1]), 1)


def parse_row(text: str) -> Row:
    """Read a row: name, four corners, columns or the width of each.

    Args:
        text: `A: 410,80 1500,60 1510,300 405,310 / 8`, or at the end `/ 2,2,3*4`.

    Raises:
        UsageError: It says something else, or its corners make no upright row.
    """
    name, colon, rest = text.partition(":")
    corners, slash, columns = rest.rpartition("/")
    name = name.strip()
    if not (colon and slash and name):
        raise UsageError(f"Expected: --row as NAME: four corners / columns. Received: {text!r}.", hint=_HINT)
    if len(name) > _MAX_NAME or not all(
        letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name
    ):
        raise UsageError(
            f"Expected: a row's name of letters, digits, `.`, `_` and `-`. Received: {name!r}.", hint=_HINT
        )
    return Row(name, _upright(name, _corners(name, corners)), _widths(name, columns))


def repeated(text: str) -> list[str]:
    """Read a list in which `word*3` stands for that word three times.

    Args:
        text: `milk-1l*2,tea-mint`.

    Raises:
        UsageError: Behind a `*` stands no count.
    """
    words: list[str] = []
    for part in text.split(","):
        word, star, count = (piece.strip() for piece in part.rpartition("*"))
        if star and not (count.isascii() and count.isdigit() and 1 <= int(count) <= _MAX_COLUMNS):
            raise UsageError(
                f"Expected: a count of 1 to {_MAX_COLUMNS} behind the *. Received: {part.strip()!r}."
            )
        words += [word] * int(count) if star else [count]
    return words


def _widths(name: str, text: str) -> tuple[float, ...]:
    """Read a number of columns, or the width of each."""
    try:
        values = tuple(float(word) for word in repeated(text))
    except ValueError:
        values = ()
    if len(values) == 1 and "*" not in text:
        count = values[0]
        values = (1.0,) * int(count) if count.is_integer() and count <= _MAX_COLUMNS else ()
    if not 1 <= len(values) <= _MAX_COLUMNS or not np.isfinite(values).all() or min(values) <= 0:
        raise UsageError(
            f"Expected: 1 to {_MAX_COLUMNS} columns behind the / of row {name}, "
            f"or the width of each like 2,2,3. Received: {text.strip()!r}.",
            hint=_HINT,
        )
    return values


def _corners(name: str, text: str) -> Quad:
    words = text.replace(", ", ",").split()
    try:
        points = [(float(x), float(y)) for x, y in (word.split(",") for word in words)]
    except ValueError:
        points = []
    if len(points) != _CORNERS or not np.isfinite(points).all():
        raise UsageError(
            f"Expected: four corners x,y in row {name}, separated by spaces. Received: {text.strip()!r}.",
            hint=_HINT,
        )
    return points[0], points[1], points[2], points[3]


def _upright(name: str, quad: Quad) -> Quad:
    """Return the corners as they are, or say what is wrong with their order."""
    corners = np.array(quad)
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    right, down = edges[0]
    if (turns < 0).all():
        wrong = "the other way round"
    elif not (turns > 0).all():
        wrong = "corners that make no row: two sides cross, or three corners lie on one line"
    elif right <= abs(down):
        wrong = "a first side that does not lead from the top left to the top right"
    else:
        return quad
    told = " ".join(f"{x:g},{y:g}" for x, y in quad)
    raise UsageError(
        f"Expected: the corners of row {name} clockwise from the top left. Received: {wrong}, {told}.",
        hint=_HINT,
    )


def overlaps(rows: Sequence[Row]) -> list[tuple[str, str, float]]:
    """Return which rows lie over each other, and by how much of the smaller one, 0 to 1."""
    found = []
    for one, other in combinations(rows, 2):
        first, second = np.array(one.quad, np.float32), np.array(other.quad, np.float32)
        common, _ = cv2.intersectConvexConvex(first, second)
        share = common / min(cv2.contourArea(first), cv2.contourArea(second))
        if common > 0:
            found.append((one.name, other.name, share))
    return found


def drawn(picture: Image, shelf: Planogram) -> Image:
    """Return a picture with its slots, their ids and products; a dot marks each top left corner.

    Args:
        picture: uint8, (height, width, 3), BGR; stays as it is.
        shelf: Whose reference picture it is.
    """
    canvas = picture.copy()
    line = max(round(picture.shape[1] / 800), 1)
    labels = [product.label for product in shelf.products]
    for slot in shelf.slots:
        number = labels.index(slot.product)
        colour = _colour(number)
        corners = np.array(slot.quad).round().astype(np.int32)
        cv2.polylines(canvas, [corners], isClosed=True, color=(0, 0, 0), thickness=3 * line)
        cv2.polylines(canvas, [corners], isClosed=True, color=colour, thickness=line)
        cv2.circle(canvas, corners[0].tolist(), 4 * line, colour, cv2.FILLED)
        _write(canvas, slot, number, colour, line)
    return canvas


def _write(canvas: Image, slot: Slot, number: int, colour: tuple[int, int, int], line: int) -> None:
    """Write id and product into the upper part of a slot, as large as fits."""
    (left, top), (right, north), _, _ = slot.quad
    room = right - left - 8 * line
    baseline = max(top, north)
    for text, size in ((slot.id, 0.8 * line), (_ascii(slot.product) or f"#{number + 1}", 0.5 * line)):
        (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
        scale = min(1.0, max(room / wide, 0.3))
        baseline += tall * scale + 7 * line
        place = (round(left) + 5 * line, round(baseline))
        for ink, width in (((0, 0, 0), 3 * line), (colour, line)):
            cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size * scale, ink, width, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """Return a text with what OpenCV's letters can write."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _colour(number: int) -> tuple[int, int, int]:
    """Return a light colour, BGR, that is not that of the numbers around it."""
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.55, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)
