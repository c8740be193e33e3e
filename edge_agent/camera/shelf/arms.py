"""Shoppers' arms: how they move in front of the shelf, and how they look."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from edge_agent.camera.shelf import layout
from edge_agent.camera.shelf.brush import FINE, Canvas, Pixels, Point, shrink
from edge_agent.camera.shelf.products import goods
from edge_agent.camera.shelf.script import GRIP_S, REACH_S, Change, Pass, Script
from edge_agent.contracts.preprocess import Image

_WIDTH, _LENGTH = 170, 900
_TIP = (_WIDTH / 2, 6.0)
_HALF_WIDTH = 62.0
_HOLD_S = 0.2
_LOOKS = (
    ("#e8b998", "#2d4a7a"),
    ("#c98d65", "#8c2f39"),
    ("#8a5a3c", "#3d6b52"),
    ("#f0c9ae", "#4b4d55"),
    ("#6b4430", "#c9a13b"),
)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where an arm is: its fingertips, px, and the direction in which it goes on to the elbow."""

    tip: Point
    along: Point


def reach(change: Change, label: str, moment: float) -> Pose | None:
    """Return the pose of the arm that makes a change, or None while it is out of sight.

    Args:
        change: What it does.
        label: Of the product that it holds: its height says where it is gripped.
        moment: Seconds of the script.
    """
    since = moment - (change.at - REACH_S)
    if not 0 <= since < REACH_S:
        return None
    goal = np.array(grip(change, label))
    aside = 0.25 * (layout.WIDTH / 2 - goal[0])
    along = np.array([aside, 700.0]) / np.hypot(aside, 700.0)
    way = (layout.HEIGHT + 130 - goal[1]) / along[1]
    travel = REACH_S - GRIP_S - _HOLD_S / 2
    away = np.clip((abs(since - GRIP_S) - _HOLD_S / 2) / travel, 0, 1)
    tip = goal + along * way * (away * away * (3 - 2 * away))
    return Pose((float(tip[0]), float(tip[1])), (float(along[0]), float(along[1])))


def grip(change: Change, label: str) -> Point:
    """Return where the fingertips are when they hold a product in its slot, px."""
    place = layout.places()[change.slot]
    return place.middle, place.floor - 0.72 * goods(label).height


def passing(arm: Pass, moment: float) -> Pose | None:
    """Return the pose of an arm that only goes by, or None while it is out of sight."""
    if not arm.start <= moment < arm.end:
        return None
    share = (moment - arm.start) / (arm.end - arm.start)
    (x0, y0), (x1, y1) = arm.path
    lift = 40 * np.sin(np.pi * share)
    along = np.array([arm.lean, 1.0]) / np.hypot(arm.lean, 1.0)
    return Pose(
        (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share - float(lift)), (float(along[0]), float(along[1]))
    )


def crossed(poses: list[Pose]) -> list[str]:
    """Return the slots that an arm hides in any of its poses, at least in part."""
    hidden = set()
    for pose in poses:
        steps = np.arange(0, _LENGTH, 15.0)[:, None]
        spine = np.array(pose.tip) + steps * np.array(pose.along)
        hidden |= {slot for slot, place in layout.places().items() if _near(spine, place.box)}
    return sorted(hidden)


def _near(spine: np.ndarray[tuple[int, int], np.dtype[np.float64]], box: tuple[int, int, int, int]) -> bool:
    x, y = spine.T
    inside = (x > box[0] - _HALF_WIDTH) & (x < box[2] + _HALF_WIDTH) & (y > box[1]) & (y < box[3])
    return bool(inside.any())


def hands(script: Script) -> Iterator[tuple[float, float, list[str]]]:
    """Yield each arm of a script in order of time: from, until, and the slots that it hides."""
    arms = []
    for change, label in held(script):
        moments = change.at - REACH_S + np.linspace(0, REACH_S, 25)[:-1]
        poses = [reach(change, label, float(moment)) for moment in moments]
        arms.append((change.at - REACH_S, change.at, poses))
    for arm in script.passes:
        moments = np.linspace(arm.start, arm.end, 60)[:-1]
        arms.append((arm.start, arm.end, [passing(arm, float(moment)) for moment in moments]))
    for begin, end, some in sorted(arms, key=lambda arm: arm[0]):
        yield round(begin, 2), round(end, 2), crossed([pose for pose in some if pose])


def held(script: Script) -> Iterator[tuple[Change, str]]:
    """Yield each change with the product that is in the hand."""
    now = dict(script.start)
    for change in script.changes:
        yield change, now[change.slot] if change.cause in {"taken", "removed"} else change.label
        now[change.slot] = change.label


def draw(picture: Image, pose: Pose, shopper: int) -> None:
    """Draw an arm over a picture.

    Args:
        picture: uint8, (720, 1280, 3), BGR; drawn upon.
        pose: Where it is.
        shopper: Any number: who it is.
    """
    colour, cover = _arm(shopper % len(_LOOKS))
    along_x, along_y = pose.along
    # Sprites point up: their y axis is the way to the elbow, their x axis stands square to it.
    place = np.array([[along_y, along_x, 0.0], [-along_x, along_y, 0.0]])
    place[:, 2] = np.array(pose.tip) - place[:, :2] @ np.array(_TIP)
    corners = np.array([[0, 0], [_WIDTH, 0], [0, _LENGTH], [_WIDTH, _LENGTH]]) @ place[:, :2].T + place[:, 2]
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(corners.max(axis=0)), picture.shape[1::-1]).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    place[:, 2] -= (x0, y0)
    size = (int(x1 - x0), int(y1 - y0))
    there = picture[y0:y1, x0:x1]
    mask = cv2.warpAffine(cover, place, size, borderValue=(255, 255, 255))
    there[:] = cv2.add(cv2.multiply(there, mask, scale=1 / 255), cv2.warpAffine(colour, place, size))


@cache
def _arm(look: int) -> tuple[Pixels, Pixels]:
    """Return an arm that points up: its colours weighted with its opacity, and what shows through."""
    skin, sleeve = _LOOKS[look]
    sheet = Canvas.blank(_WIDTH, _LENGTH, skin, 0)
    middle = _WIDTH / 2
    for base, tip, height, thick in ((-25, -30, 26, 15), (-9, -10, 8, 16), (8, 10, 12, 16), (24, 28, 30, 14)):
        sheet.line([(middle + tip, height), (middle + base, 92)], skin, thick)
    sheet.line([(middle + 58, 84), (middle + 46, 104), (middle + 26, 136)], skin, 18)
    sheet.disc(middle, 112, 38, skin, flat=1.05)
    sheet.shape([(middle - 36, 116), (middle + 37, 116), (middle + 28, 190), (middle - 28, 190)], skin)
    sheet.shape([(middle - 28, 180), (middle + 28, 180), (middle + 36, 300), (middle - 36, 300)], skin)
    sheet.shape([(middle - 45, 226), (middle + 45, 226), (middle + 66, 900), (middle - 66, 900)], sleeve)
    sheet.shape([(middle - 48, 222), (middle + 48, 222), (middle + 50, 246), (middle - 50, 246)], sleeve)
    rounded = _rounded(sheet.pixels)
    _creases(rounded, middle)
    pixels = shrink(rounded.pixels)
    opacity = pixels[..., 3:].astype(np.float32) / 255
    colour = (pixels[..., :3] * opacity).astype(np.uint8)
    shadow = np.asarray(cv2.GaussianBlur(opacity[..., 0], (0, 0), 9), dtype=np.float32)[..., None]
    through = (1 - opacity) * (1 - 0.45 * shadow)
    return colour, np.repeat((through * 255).astype(np.uint8), 3, axis=2)


def _rounded(pixels: Pixels) -> Canvas:
    """Shade a flat silhouette as if it were round: dark where its edge is near, light from the left."""
    solid = np.asarray(cv2.distanceTransform(pixels[..., 3], cv2.DIST_L2, 3), dtype=np.float32)
    depth = np.asarray(cv2.GaussianBlur(np.sqrt(np.minimum(solid, 90)), (0, 0), 5), dtype=np.float32)
    side = np.asarray(cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=5), dtype=np.float32)
    shade = np.clip(0.70 + 0.045 * depth + 0.012 * side, 0.45, 1.12)
    shaded = pixels.copy()
    shaded[..., :3] = np.clip(pixels[..., :3] * shade[..., None], 0, 255)
    return Canvas(shaded)


def _creases(sheet: Canvas, middle: float) -> None:
    ink = tuple(0.72 * channel for channel in sheet.pixels[112 * FINE, round(middle * FINE), :3])
    colour = "#" + "".join(f"{round(channel):02x}" for channel in reversed(ink))
    for x in (-17, 0, 16):
        sheet.line([(middle + x * 1.1, 58), (middle + x, 90)], colour, 1.4)
    for x, y in ((-28, 62), (-10, 54), (9, 55), (26, 64)):
        sheet.line([(middle + x - 4, y), (middle + x + 4, y)], colour, 1.0)
