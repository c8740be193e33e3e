"""The goods of the rendered shelf: invented brands, real shapes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import cos, pi, sin

import cv2

from edge_agent.camera.shelf.bodies import Body, Box, Round, outline
from edge_agent.camera.shelf.brush import Canvas

SCRIPT = cv2.FONT_HERSHEY_SCRIPT_COMPLEX
SERIF = cv2.FONT_HERSHEY_TRIPLEX


@dataclass(frozen=True, slots=True)
class Goods:
    """A product of the rendered shelf.

    Attributes:
        label: What the model calls it.
        name: What a person calls it.
        gtin: From the range that GS1 keeps for examples.
        price: As printed on its shelf label.
        width: Of its front, px.
        height: Of its front, px.
        colour: Of its shelf label.
        make: Builds its body.
    """

    label: str
    name: str
    gtin: str
    price: str
    width: int
    height: int
    colour: str
    make: Callable[[], Body]


def _milk() -> Body:
    sheet = Canvas.blank(112, 272, "#ffffff", 0)
    sheet.shape([(0, 66), (12, 22), (100, 22), (112, 66)], "#e9f1f8")
    sheet.shape([(0, 66), (12, 22), (30, 22), (14, 66)], "#cfdeea")
    sheet.box(12, 6, 88, 18, "#f8fbff")
    sheet.line([(12, 15), (100, 15)], "#b9cad8", 1)
    sheet.disc(56, 44, 15, "#9fb6c8", flat=0.8)
    sheet.disc(56, 41, 15, "#1c58b8", flat=0.8)
    sheet.disc(56, 38, 11, "#3f83e0", flat=0.7)
    sheet.box(0, 66, 112, 206, "#fbfdff")
    sheet.line([(0, 66), (112, 66)], "#c8d6e2", 1.5)
    sheet.shape([(0, 158), (28, 146), (58, 154), (86, 142), (112, 150), (112, 272), (0, 272)], "#2f7ad6")
    sheet.shape([(0, 196), (34, 182), (70, 194), (112, 178), (112, 272), (0, 272)], "#3fa34d")
    sheet.text("ALMA", (56, 94), 22, "#1c4f9c", thick=4.2)
    sheet.text("fresh milk", (56, 126), 10.5, "#2f7ad6", thick=2, face=SERIF)
    _cow(sheet, 56, 186)
    sheet.text("1 L", (28, 252), 13, "#ffffff", thick=2.6)
    sheet.text("3.5 %", (80, 252), 11, "#ffffff", thick=2.2)
    return Box(sheet, "#dfe7ee", depth=70, shoulder=66)


def _cow(sheet: Canvas, x: float, y: float) -> None:
    sheet.disc(x, y, 27, "#ffffff", flat=0.62)
    sheet.disc(x - 9, y - 4, 10, "#26262a", flat=0.7)
    sheet.disc(x + 13, y + 4, 7, "#26262a", flat=0.9)
    for leg in (-19, -9, 9, 18):
        sheet.box(x + leg - 2.5, y + 10, 5, 18, "#ffffff")
    sheet.disc(x + 30, y - 12, 10, "#ffffff", flat=1.1)
    sheet.disc(x + 31, y - 5, 7, "#f2b8b5", flat=0.7)
    sheet.disc(x + 24, y - 19, 4, "#26262a", flat=0.7)
    sheet.disc(x + 28, y - 14, 1.7, "#26262a")


def _cereal() -> Body:
    sheet = Canvas.blank(178, 284, "#f7a81b")
    sheet.fade(0, 284, "#ffc93c", "#f07f13")
    for ray in range(0, 24, 2):
        first, last = ray * pi / 12, (ray + 1) * pi / 12
        far = [(89 + 300 * cos(turn), 178 + 300 * sin(turn)) for turn in (first, last)]
        sheet.shape([(89, 178), *far], "#ffd966")
    sheet.box(0, 0, 178, 14, "#b3200f")
    sheet.shape([(14, 34), (164, 24), (168, 78), (10, 88)], "#c9230f")
    sheet.text("SUNNY", (89, 56), 34, "#ffffff", thick=6, outline="#7a1206")
    sheet.text("LOOPS", (89, 108), 26, "#7a1206", thick=5, outline="#fff3c4")
    sheet.disc(89, 208, 66, "#b9d9ee", flat=0.34)
    sheet.disc(89, 200, 64, "#fdfdf8", flat=0.34)
    for index in range(26):
        x, y = 89 + 46 * sin(index * 2.4) * (index / 26) ** 0.4, 196 + 12 * cos(index * 2.4)
        sheet.disc(x, y, 9, ("#d98a2b", "#c8442f", "#e0b13a", "#7fa33b")[index % 4], flat=0.8)
        sheet.disc(x, y, 3.4, "#fff4d8", flat=0.8)
    sheet.shape([(25, 203), (153, 203), (132, 246), (112, 254), (66, 254), (46, 246)], "#2b63b8")
    sheet.shape([(25, 203), (60, 203), (66, 254), (46, 246)], "#3d7cd6")
    sheet.text("honey & oat", (89, 142), 11, "#7a1206", thick=2, face=SERIF)
    sheet.text("375 g", (150, 273), 8, "#5a1a05", thick=1.6)
    return Box(sheet, "#e58a14", depth=58)


def _tea() -> Body:
    sheet = Canvas.blank(186, 150, "#1f5a3a")
    sheet.fade(0, 150, "#2c7a4e", "#164a2e")
    sheet.box(7, 7, 172, 2, "#d8bd6a")
    sheet.box(7, 141, 172, 2, "#d8bd6a")
    sheet.shape([(22, 34), (164, 34), (174, 75), (164, 116), (22, 116), (12, 75)], "#d8bd6a")
    sheet.shape([(24, 37), (162, 37), (171, 75), (162, 113), (24, 113), (15, 75)], "#f6efdb")
    sheet.text("Mirabel", (93, 62), 21, "#1f5a3a", thick=3.4, face=SERIF)
    sheet.text("GREEN TEA", (93, 93), 9, "#8a6a1f", thick=1.9)
    sheet.text("25 bags", (93, 129), 8, "#f6efdb", thick=1.5)
    for x, turn in ((36, -38), (150, 38)):
        sheet.disc(x, 94, 13, "#3d9a57", flat=0.45, turn=turn)
        sheet.disc(x + (7 if turn < 0 else -7), 100, 10, "#6cbf5c", flat=0.4, turn=turn - 30)
    sheet.text("*", (93, 22), 9, "#d8bd6a", thick=2)
    return Box(sheet, "#123d26", depth=64)


def _cola() -> Body:
    radius, height = 51, 178
    sheet = Canvas.blank(2 * pi * radius, height, "#c8102e")
    middle = sheet.width / 2
    sheet.fade(0, 178, "#e0182f", "#a90c22")
    for offset in (-middle, 0, middle):
        centre = middle + offset
        wave = [(centre - 84 + step, 112 + 15 * sin(step / 27)) for step in range(0, 169, 6)]
        below = [(x, y + 17 + 5 * sin(x / 19)) for x, y in reversed(wave)]
        sheet.shape([*wave, *below], "#ffffff")
        sheet.text("Kolibri", (centre, 76), 26, "#ffffff", thick=4.2, face=SCRIPT)
        sheet.text("COLA", (centre, 148), 12, "#ffffff", thick=2.6)
    sheet.fade(0, 12, "#f2f4f6", "#aab0b6")
    sheet.fade(166, 178, "#b9bfc5", "#f2f4f6")
    shape = [(0, 42), (5, 43), (16, 51), (162, 51), (172, 46), (178, 43)]
    return Round(sheet, outline(height, shape), gloss=0.9, metal=0.35, lid="#d9dde1")


def _tomatoes() -> Body:
    radius, height = 58, 150
    sheet = Canvas.blank(2 * pi * radius, height, "#f4e9cf")
    middle = sheet.width / 2
    sheet.box(0, 12, sheet.width, 34, "#2e7d32")
    sheet.box(0, 46, sheet.width, 3, "#ffffff")
    sheet.text("BELLA ORTO", (middle, 29), 13, "#ffffff", thick=2.8)
    for x, y, size in ((-30, 92, 25), (30, 94, 24), (0, 86, 30)):
        sheet.disc(middle + x, y, size, "#a81c12", flat=0.92)
        sheet.disc(middle + x - 2, y - 2, size - 3, "#dd2c1c", flat=0.9)
        sheet.disc(middle + x - size / 3, y - size / 3, size / 5, "#ff9a86", flat=0.7)
        for leaf in range(5):
            turn = leaf * 72.0
            place = (middle + x + 7 * cos(turn * pi / 180), y - size * 0.72 + 3.2 * sin(turn * pi / 180))
            sheet.disc(*place, 7, "#3d8b37", flat=0.35, turn=turn)
    sheet.text("chopped tomatoes", (middle, 130), 8, "#7a1c10", thick=1.8, face=SERIF)
    sheet.barcode(12, 66, 40, 46)
    for rib in (0, 4, 8, 141, 145):
        sheet.fade(rib, rib + 4, "#f1f3f4", "#8f979d")
    sheet.fade(149, 150, "#777777", "#666666")
    shape = [(0, 59), (4, 59), (7, 57.5), (143, 57.5), (146, 59), (150, 59)]
    return Round(sheet, outline(height, shape), gloss=0.35, metal=0.12, lid="#cfd4d8")


def _water() -> Body:
    radius, height = 45, 290
    sheet = Canvas.blank(2 * pi * radius, height, "#bfe3f5", 168)
    middle = sheet.width / 2
    sheet.fade(40, 290, "#d6eefa", "#9fd2ee")
    for rib in (200, 214, 228, 242, 256):
        sheet.fade(rib, rib + 4, "#8cc3e2", "#e4f5fd")
    sheet.box(0, 104, sheet.width, 88, "#1565c0")
    sheet.box(0, 104, sheet.width, 4, "#ffffff")
    sheet.box(0, 188, sheet.width, 4, "#ffffff")
    for shift in (-middle, 0, middle):
        peak = middle + shift
        sheet.shape(
            [(peak - 46, 182), (peak - 12, 146), (peak + 4, 160), (peak + 18, 142), (peak + 48, 182)],
            "#4fa3ec",
        )
        sheet.shape([(peak - 21, 155), (peak - 12, 146), (peak - 4, 153), (peak - 12, 157)], "#ffffff")
        sheet.shape([(peak + 10, 150), (peak + 18, 142), (peak + 27, 152), (peak + 18, 155)], "#ffffff")
        sheet.text("FJELL", (peak, 127), 18, "#ffffff", thick=3.6)
        sheet.text("still water", (peak, 174), 7, "#ffffff", thick=1.5)
    sheet.box(0, 0, sheet.width, 24, "#0d47a1")
    for groove in range(0, int(sheet.width), 6):
        sheet.box(groove, 2, 2, 20, "#2a6bd0")
    sheet.box(0, 26, sheet.width, 5, "#0d47a1")
    shape = [(0, 17), (24, 17), (25, 15), (40, 16), (66, 30), (96, 43), (104, 44), (192, 44), (206, 42)]
    shape += [(222, 44), (236, 42), (250, 44), (276, 44), (290, 38)]
    return Round(sheet, outline(height, shape), gloss=0.95, lid="#1b5cc4")


def _ketchup() -> Body:
    radius, height = 47, 254
    sheet = Canvas.blank(2 * pi * radius, height, "#b3170f")
    middle = sheet.width / 2
    sheet.fade(36, 254, "#cc2015", "#98100a")
    sheet.disc(middle, 164, 45, "#f7f3e6", flat=1.28)
    sheet.disc(middle, 164, 41, "#1d6b34", flat=1.28)
    sheet.disc(middle, 164, 38, "#f7f3e6", flat=1.28)
    sheet.text("Rosso", (middle, 147), 15, "#b3170f", thick=3.0, face=SERIF)
    sheet.text("KETCHUP", (middle, 172), 9, "#1d6b34", thick=2.2)
    sheet.disc(middle, 195, 12, "#dd2c1c", flat=0.9)
    sheet.disc(middle, 185, 7, "#3d8b37", flat=0.4)
    sheet.box(0, 0, sheet.width, 36, "#f5f5f2")
    for groove in range(0, int(sheet.width), 7):
        sheet.box(groove, 12, 2, 22, "#d2d2cc")
    shape = [(0, 15), (8, 17), (10, 22), (36, 24), (38, 21), (56, 25), (92, 41), (120, 46), (210, 46)]
    shape += [(240, 44), (254, 38)]
    return Round(sheet, outline(height, shape), gloss=0.85, lid="#ffffff")


def _jam() -> Body:
    radius, height = 52, 136
    sheet = Canvas.blank(2 * pi * radius, height, "#4a1a6b")
    middle = sheet.width / 2
    sheet.fade(34, 136, "#6a2391", "#340f4e")
    for index in range(60):
        sheet.disc(
            (index * 61) % int(sheet.width), 42 + (index * 37) % 90, 4, ("#7d35a6", "#2c0b42")[index % 2]
        )
    sheet.shape([(middle - 46, 58), (middle + 46, 58), (middle + 46, 118), (middle - 46, 118)], "#fbf6ea")
    sheet.line(
        [(middle - 42, 62), (middle + 42, 62), (middle + 42, 114), (middle - 42, 114), (middle - 42, 62)],
        "#b493c9",
        1,
    )
    sheet.text("Nonna's", (middle, 78), 14, "#4a1a6b", thick=2.4, face=SCRIPT)
    sheet.text("BLUEBERRY", (middle, 97), 8, "#6a2391", thick=1.9)
    for x in (-9, 0, 9):
        sheet.disc(middle + x, 108, 4.2, "#3c4fa8")
        sheet.disc(middle + x - 1, 107, 1.4, "#9fb0f0")
    for column in range(0, int(sheet.width), 10):
        for row in range(0, 30, 10):
            sheet.box(column, row, 10, 10, "#ffffff" if (column + row) // 10 % 2 else "#d6336c")
    sheet.fade(26, 30, "#c9ccd0", "#8f949a")
    shape = [(0, 48), (3, 50), (28, 50), (31, 46), (40, 48), (48, 52), (126, 52), (136, 45)]
    return Round(sheet, outline(height, shape), gloss=0.8, lid="#e9527f")


CATALOGUE = (
    Goods("milk-carton", "Alma fresh milk 1 l", "09506000134352", "1.29", 112, 272, "#2f7ad6", _milk),
    Goods("cereal-box", "Sunny Loops cereal 375 g", "09506000134369", "3.49", 178, 284, "#f7a81b", _cereal),
    Goods("water-bottle", "Fjell still water 1 l", "09506000134376", "0.79", 90, 296, "#1565c0", _water),
    Goods("ketchup-bottle", "Rosso ketchup 500 ml", "09506000134383", "2.19", 94, 260, "#b3170f", _ketchup),
    Goods("cola-can", "Kolibri cola 330 ml", "09506000134390", "0.99", 102, 187, "#c8102e", _cola),
    Goods(
        "tomato-tin",
        "Bella Orto chopped tomatoes 400 g",
        "09506000134406",
        "1.09",
        118,
        162,
        "#2e7d32",
        _tomatoes,
    ),
    Goods("tea-box", "Mirabel green tea 25 bags", "09506000134413", "2.79", 186, 150, "#1f5a3a", _tea),
    Goods("jam-jar", "Nonna's blueberry jam 340 g", "09506000134420", "2.59", 104, 146, "#6a2391", _jam),
)


@cache
def goods(label: str) -> Goods:
    """Return a product of the catalogue by its label."""
    return next(product for product in CATALOGUE if product.label == label)


@cache
def body(label: str) -> Body:
    """Return the body of a product; the same object each time, because painting it takes a while."""
    return goods(label).make()
