"""The empty shelf: back wall, boards, price rails, uprights, light from above."""

from functools import cache

import cv2
import numpy as np

from edge_agent.camera.shelf import layout
from edge_agent.camera.shelf.brush import Canvas, Pixels, shrink
from edge_agent.camera.shelf.products import goods

_SURFACE = 22
"""How much of a board's upper side the camera sees in front of where things stand, px."""
_RAIL = 34
"""Height of a price rail, px."""


@cache
def empty_room() -> Pixels:
    """Return the shelf with nothing on it: uint8, (720, 1280, 3), BGR; not to be written to."""
    sheet = Canvas.blank(layout.WIDTH, layout.HEIGHT, "#d9d6cf")
    for board in layout.BOARDS:
        _wall(sheet, board)
    for board in layout.BOARDS:
        _board(sheet, board)
    _foot(sheet)
    _uprights(sheet)
    picture = _lit(shrink(sheet.pixels)[..., :3])
    picture.setflags(write=False)
    return picture


def _wall(sheet: Canvas, board: layout.Board) -> None:
    start, end = board.top - 36, board.floor
    sheet.fade(max(start, 0), end, "#d8d4cb", "#bdb8ae")
    for y in range(max(start, 0) + 16, end - 14, 22):
        for x in range(layout.LEFT + 14, layout.RIGHT, 22):
            sheet.disc(x, y, 2.6, "#9a958b")
            sheet.disc(x, y + 0.8, 2.0, "#857f75")


def _board(sheet: Canvas, board: layout.Board) -> None:
    back, front = board.floor - 16, board.floor + _SURFACE
    sheet.fade(back, front, "#cfcbc4", "#f3f1ec")
    sheet.fade(front, front + 3, "#ffffff", "#fbfaf7")
    sheet.fade(front + 3, front + _RAIL, "#e9eaec", "#c9cbcf")
    sheet.box(0, front + 6, layout.WIDTH, 1.4, "#b9bcc1")
    sheet.box(0, front + _RAIL - 4, layout.WIDTH, 1.4, "#aeb1b6")
    sheet.fade(front + _RAIL, front + _RAIL + 4, "#8b8d90", "#6f7174")
    for place in layout.places().values():
        if place.floor == board.floor:
            _price(sheet, place, front + 7)


def _price(sheet: Canvas, place: layout.Place, top: float) -> None:
    product, left = goods(place.product), place.middle - 39
    sheet.box(left, top + 0.6, 80, 23, "#9b9da1")
    sheet.box(left, top, 78, 22, "#fffdf5")
    sheet.box(left, top, 5, 22, product.colour)
    sheet.text(product.price, (left + 27, top + 11), 9.5, "#1d1d1f", thick=1.7)
    sheet.barcode(left + 48, top + 3, 27, 10)
    sheet.text(place.id, (left + 61, top + 17.2), 4.5, "#55565a", thick=0.8)


def _foot(sheet: Canvas) -> None:
    top = layout.BOARDS[-1].floor + _SURFACE + _RAIL + 4
    sheet.fade(top, layout.HEIGHT, "#4a4c50", "#393b3e")


def _uprights(sheet: Canvas) -> None:
    for left in (0, layout.RIGHT):
        sheet.box(left, 0, layout.LEFT, layout.HEIGHT, "#c3c6cb")
        edge = left + layout.LEFT - 5 if left == 0 else left
        sheet.box(edge, 0, 5, layout.HEIGHT, "#8f9399" if left == 0 else "#e4e6e9")
        for y in range(12, layout.HEIGHT, 26):
            sheet.box(left + layout.LEFT / 2 - 3, y, 6, 14, "#5c6066")


def _lit(picture: Pixels) -> Pixels:
    """Let the boards throw their shadow on what lies below, and the ceiling light fall off."""
    light = np.ones(picture.shape[:2], dtype=np.float32)
    for board in layout.BOARDS:
        reach = np.exp(-np.arange(120) / 34.0).astype(np.float32)
        start = board.floor + _SURFACE + _RAIL + 3
        if start + 120 < layout.HEIGHT:
            light[start : start + 120] -= 0.42 * reach[:, None]
        light[board.floor - 34 : board.floor - 16] -= np.linspace(0, 0.22, 18, dtype=np.float32)[:, None]
    light = np.asarray(cv2.GaussianBlur(light, (0, 0), 1.2), dtype=np.float32)
    across = 1.04 - 0.10 * np.abs(np.linspace(-0.9, 1.1, layout.WIDTH, dtype=np.float32)) ** 2
    lit = picture * (light * across)[..., None]
    return np.clip(lit, 0, 255).astype(np.uint8)
