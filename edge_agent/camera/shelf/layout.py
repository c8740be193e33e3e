"""Where everything stands on the rendered shelf, in pixels of its picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from edge_agent.camera.shelf.products import goods

WIDTH, HEIGHT = 1280, 720
LEFT, RIGHT = 48, 1232
"""Inner edges of the uprights."""


@dataclass(frozen=True, slots=True)
class Board:
    """One board: its letter, the free height above it, and what belongs there, left to right."""

    row: str
    top: int
    floor: int
    facings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One slot, as px of the picture: sides, upper edge, and the line that things stand on."""

    id: str
    product: str
    left: int
    right: int
    top: int
    floor: int

    @property
    def middle(self) -> float:
        """Of the slot, across."""
        return (self.left + self.right) / 2

    @property
    def box(self) -> tuple[int, int, int, int]:
        """What the planogram calls this slot: left, top, right, bottom."""
        return self.left + 3, self.top, self.right - 3, self.floor + 10


BOARDS = (
    Board(
        "A", 30, 346, ("milk-carton",) * 2 + ("cereal-box",) * 2 + ("water-bottle",) * 3 + ("ketchup-bottle",)
    ),
    Board("B", 432, 656, ("cola-can",) * 3 + ("tomato-tin",) * 2 + ("tea-box",) + ("jam-jar",) * 2),
)


@cache
def places() -> dict[str, Place]:
    """Return the slots by id, from the top left."""
    return {place.id: place for board in BOARDS for place in _along(board)}


def _along(board: Board) -> Iterator[Place]:
    widths = [goods(label).width for label in board.facings]
    gap = (RIGHT - LEFT - sum(widths)) / len(widths)
    left = float(LEFT)
    for number, (label, width) in enumerate(zip(board.facings, widths, strict=True), start=1):
        right = left + width + gap
        yield Place(f"{board.row}{number}", label, round(left), round(right), board.top, board.floor)
        left = right


def facings(label: str) -> list[str]:
    """Return the slots of one product."""
    return [place.id for place in places().values() if place.product == label]


def fits(label: str, place: Place) -> bool:
    """Return whether a product could be put into a slot without touching its neighbours."""
    return (
        goods(label).width <= place.right - place.left - 8
        and goods(label).height <= place.floor - place.top - 8
    )
