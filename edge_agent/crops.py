"""Crops for people and for training: each slot at its own size, and the JPEG that it is kept as."""

import numpy as np

from edge_agent import slots
from edge_agent.align import Matrix
from edge_agent.contracts import pictures
from edge_agent.contracts.preprocess import Image
from edge_agent.slots import Corners

_QUALITY = 95


def cut(frame: Image, place: Corners, to_frame: Matrix) -> Image:
    """Return a slot as large as its quad is in the reference: uint8, (height, width, 3), RGB.

    Args:
        frame: uint8, (H, W, 3), BGR.
        place: float64, (4, 2): the slot's corners, px of the reference.
        to_frame: From px of the reference to px of the frame, (3, 3).
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = place.tolist()
    tall, wide = max(abs(y3 - y0), abs(y2 - y1)), max(abs(x1 - x0), abs(x2 - x3))
    made = slots.crops(frame, place[None], to_frame, max(round(tall), 1), max(round(wide), 1))
    return np.asarray(made[0], np.uint8)


def jpeg(picture: Image) -> bytes:
    """Return a picture, uint8, (height, width, 3), RGB, as JPEG: so good that training sees no difference."""
    return pictures.jpeg(np.asarray(picture[..., ::-1], np.uint8), _QUALITY)
