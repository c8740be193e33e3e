"""Training photos: crops of slots, cut from rendered shelves that no stream ever shows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from edge_agent.camera.shelf import layout
from edge_agent.camera.shelf.optics import Grain, lit, shaken
from edge_agent.camera.shelf.products import CATALOGUE
from edge_agent.camera.shelf.scene import Copy, shelf
from edge_agent.camera.shelf.script import PHOTOS
from edge_agent.contracts.identifiers import EMPTY
from edge_agent.contracts.preprocess import Image

_COPIES = 16
"""How many different copies of each product there are; what surrounds them differs each time."""
_MARGIN = 0.06
_STANDS_ASIDE_PX = 7
_SHAKE = (3.0, 3.0, 0.8)
"""How far a picture is moved, px and px, and turned, degrees."""

LABELS = (*(product.label for product in CATALOGUE), EMPTY)


def shots(seed: int, count: int) -> Iterator[tuple[str, Image]]:
    """Yield labelled photos of single slots, the same ones for the same seed.

    Args:
        seed: At least 0; a stream of the same seed draws from another sequence.
        count: Photos of each class.

    Yields:
        Label, and a crop: uint8, (height, width, 3), BGR.
    """
    rng = np.random.default_rng([seed, PHOTOS])
    grain = Grain.made(rng)
    stock = {
        product.label: [Copy.picked(product.label, rng) for _ in range(_COPIES)] for product in CATALOGUE
    }
    missing = Counter(dict.fromkeys(LABELS, count))
    while missing.total():
        contents = _mixed(rng, stock, missing)
        aside, up, turn = rng.uniform(-1, 1, 3) * _SHAKE
        picture = shaken(shelf(contents), aside, up, turn)
        for slot, copy in contents.items():
            label = EMPTY if copy is None else copy.label
            if missing[label]:
                missing[label] -= 1
                yield label, _shot(picture, layout.places()[slot], grain, rng)


def _mixed(
    rng: np.random.Generator, stock: dict[str, list[Copy]], missing: Counter[str]
) -> dict[str, Copy | None]:
    """Fill a shelf with anything that fits anywhere, mostly with what is still missing."""
    contents: dict[str, Copy | None] = {}
    for slot, place in layout.places().items():
        labels = [label for label in LABELS if label == EMPTY or layout.fits(label, place)]
        weight = np.array([missing[label] + 0.5 for label in labels])
        label = labels[int(rng.choice(len(labels), p=weight / weight.sum()))]
        shift = float(rng.uniform(-_STANDS_ASIDE_PX, _STANDS_ASIDE_PX))
        some = stock.get(label)
        contents[slot] = replace(some[int(rng.integers(_COPIES))], shift=shift) if some else None
    return contents


def _shot(picture: Image, place: layout.Place, grain: Grain, rng: np.random.Generator) -> Image:
    """Cut one slot out, framed by an unsteady hand, in some light, a little out of focus, with noise."""
    left, top, right, bottom = place.box
    sway = rng.uniform(-_MARGIN, _MARGIN, 4) * ([right - left, bottom - top] * 2)
    x0, y0 = max(round(left + sway[0]), 0), max(round(top + sway[1]), 0)
    x1, y1 = min(round(right + sway[2]), layout.WIDTH), min(round(bottom + sway[3]), layout.HEIGHT)
    crop = lit(picture[y0:y1, x0:x1], float(rng.uniform(0.66, 1.22)), float(rng.uniform(0.9, 1.12)))
    blur = float(rng.uniform(0, 1.0))
    if blur > 0.3:  # noqa: PLR2004 - below it a Gaussian of this width changes nothing
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), blur), dtype=np.uint8)
    return grain.over(crop, rng)
