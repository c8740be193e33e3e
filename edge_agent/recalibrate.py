"""A new reference picture for a planogram: its slots go to where the shelf is now. Pure."""

import cv2
import numpy as np

from edge_agent.align import Aligner, Glance, Matrix, moved
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image
from edge_agent.faults import Look, judge

_MOVES_LEVELS = 20
_MOVES_SHARE = 0.01
_DECIMALS = 1


def recalibrated(shelf: Planogram, reference: Image, frame: Image, earlier: Image) -> Planogram:
    """Return a planogram whose slots lie where a frame shows them.

    Args:
        shelf: As it is now.
        reference: Its picture, uint8, (height, width, 3), BGR.
        frame: The picture that takes its place, uint8, (height, width, 3), BGR.
        earlier: The frame before it: nothing may move between the two.

    Returns:
        The same planogram with other quads; its `reference` is still the old one.

    Raises:
        DeviceError: The frame is no picture to go by, something moves, or the shelf is not found in it.
    """
    faults = judge(Look.of(frame), Look.of(reference))
    if faults:
        raise DeviceError(
            f"Expected: a good picture. Received: one that is {', '.join(sorted(faults))}.",
            hint="clear the camera's view, and ask again",
        )
    if _moves(Glance.of(frame), Glance.of(earlier)):
        raise DeviceError(
            "Expected: a shelf with nobody before it. Received: something that moves.",
            hint="ask again in a moment",
        )
    move = Aligner(reference).search(frame)
    if move is None:
        raise DeviceError(
            "Expected: the shelf of the reference picture. Received: a picture in which it is not found.",
            hint="send a planogram with a picture of its own: cmd/set-planogram",
        )
    slots = [slot.model_copy(update={"quad": _taken(slot.quad, move)}) for slot in shelf.slots]
    return shelf.model_copy(update={"slots": slots})


def _moves(now: Glance, before: Glance) -> bool:
    if now.grey.shape != before.grey.shape:
        return True
    apart = cv2.absdiff(now.grey, before.grey)
    return int(np.count_nonzero(apart > _MOVES_LEVELS)) > _MOVES_SHARE * apart.size


def _taken(quad: tuple[tuple[float, float], ...], move: Matrix) -> tuple[tuple[float, float], ...]:
    corners = moved(np.array(quad, np.float64), move)
    return tuple((round(float(x), _DECIMALS), round(float(y), _DECIMALS)) for x, y in corners)
