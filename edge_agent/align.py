"""Where the shelf is in a frame: the move from the reference picture, or the news that the camera moved.

Pure. Features of the frame (ORB, Rublee et al. 2011) are matched with those of the reference, and a
similarity is fitted robustly (RANSAC), so that arms and changed stock do not matter.

That costs as much as reading a shelf's slots does. So each frame is first compared with the reference at a
few hundred pixels on edges of a small picture, and moved until they fit (Lucas & Kanade 1981; inverse
compositional, Baker & Matthews 2004), which takes a hundredth of the time and is more exact. Where too few
of them fit, features are matched, and from then on frames are compared with the one where that was done.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.preprocess import Image

Matrix = NDArray[np.float64]
"""A transform of points in a plane: float64, (3, 3)."""

_WIDTH = 640
_FEATURES = 800
_MIN_REFERENCE_FEATURES = 80
_MIN_INLIERS = 16
_STILL_PX = 0.8
_MOVED_SHARE = 0.04

_GLANCE_WIDTH = 480
_SOFT = (3, 3)
_CELL = 12
_STEEP_LEVELS = 6.0
_LEAST_POINTS = 40
_LEAST_GAIN = 0.3
_FIRM = 1e-3 * np.eye(6)
"""Keeps the equations solvable where a picture is the same all over."""
_ROUNDS = 8
_STEP_PX = 0.04
"""The last step is made as well; what it leaves is a fraction of it."""
_FAR_LEVELS = 12.0
_NEAR_LEVELS = 8.0
_TOGETHER_SHARE = 0.4
"""Of the reference's edges where it is: 0.47 to 0.9, with changed stock and an arm; elsewhere: 0.25."""
_SAME_PX = 2.5
"""Of a picture 640 px wide: how far two measurements by features may be apart."""
_CHECK_S = 300.0


class View(StrEnum):
    """What a frame says about where the camera looks."""

    ALIGNED = "aligned"
    MOVED = "moved"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where the reference is in a frame.

    Attributes:
        view: What that means.
        to_frame: From px of the reference to px of the frame; that of an unmoved camera where no more
            than a fraction of a px is between them, so that upright slots are cut upright.
        exact: The same as it was measured.
    """

    view: View
    to_frame: Matrix
    exact: Matrix


@dataclass(frozen=True, slots=True)
class Glance:
    """A frame made small once, for all who look at it as a whole.

    Attributes:
        grey: uint8, (height, width); at most 480 px wide.
        colour: uint8, (height / 2, width / 2, 3), BGR, blurred: a fraction of a px makes no difference.
        to_frame: From px of `grey` to px of the frame.
        from_frame: The way back.
    """

    grey: NDArray[np.uint8]
    colour: Image
    to_frame: Matrix
    from_frame: Matrix

    @classmethod
    def of(cls, frame: Image) -> "Glance":
        """Make it from a frame: uint8, (height, width, 3), BGR."""
        tall, wide = frame.shape[:2]
        width = min(_GLANCE_WIDTH, wide)
        height = max(round(tall * width / wide), 1)
        # At a quarter of the size this is the mean of the middle four of sixteen pixels: noise and fine
        # print are halved, and half of a large frame need not be fetched from memory.
        small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        half = (max(width // 2, 1), max(height // 2, 1))
        colour = cv2.blur(cv2.resize(small, half, interpolation=cv2.INTER_AREA), _SOFT)
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        ways = _resizing((height, width), (tall, wide)), _resizing((tall, wide), (height, width))
        return cls(np.asarray(grey, np.uint8), np.asarray(colour, np.uint8), *ways)

    @property
    def to_colour(self) -> Matrix:
        """From px of `grey` to px of `colour`."""
        return _resizing(self.grey.shape, self.colour.shape[:2])


class Aligner:
    """Finds the reference picture in frames.

    Args:
        reference: uint8, (height, width, 3), BGR: what the planogram's coordinates belong to.
    """

    def __init__(self, reference: Image) -> None:
        self._shape = reference.shape[:2]
        height, width = self._shape
        self._corners = np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
        self._scale = min(_WIDTH / reference.shape[1], 1.0)
        self._orb = cv2.ORB.create(_FEATURES, fastThreshold=12)
        self._matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
        self._points, self._features = self._detect(reference)

    @property
    def plain(self) -> bool:
        """Whether the reference has too little structure to be found anywhere."""
        return len(self._points) < _MIN_REFERENCE_FEATURES

    def align(self, frame: Image) -> Alignment:
        """Return where the reference is in a frame.

        A frame of another size than the reference is taken as the same view, scaled. `UNSURE` where
        the reference has too little structure or too little of it was found; then the alignment is
        that of an unmoved camera.
        """
        return self.judged(self.search(frame), frame)

    def search(self, frame: Image) -> Matrix | None:
        """Return the move from px of the reference to px of a frame by their features, if it is found."""
        if self.plain:
            return None
        points, features = self._detect(frame)
        if len(points) < _MIN_INLIERS or self._features is None or features is None:
            return None
        found = self._matcher.match(self._features, features)
        before = np.array([self._points[match.queryIdx] for match in found], np.float64)
        after = np.array([points[match.trainIdx] for match in found], np.float64)
        if len(found) < _MIN_INLIERS:
            return None
        move, inliers = cv2.estimateAffinePartial2D(
            before, after, method=cv2.RANSAC, ransacReprojThreshold=2.5 / self._scale, confidence=0.999
        )
        if move is None or int(inliers.sum()) < _MIN_INLIERS:
            return None
        return np.vstack([move, [0, 0, 1]])

    def judged(self, move: Matrix | None, frame: Image) -> Alignment:
        """Tell a shaking shelf from a camera that looks elsewhere by how far the corners went.

        Args:
            move: From px of the reference to px of the frame; None: not found.
            frame: uint8, (height, width, 3), BGR.
        """
        unmoved = _scaling(self._shape, frame.shape[:2])
        if move is None:
            return Alignment(View.UNSURE, unmoved, unmoved)
        far = self.apart(move, unmoved)
        if far < _STILL_PX:
            return Alignment(View.ALIGNED, unmoved, move)
        return Alignment(View.MOVED if far > self.shaken_px else View.ALIGNED, move, move)

    def apart(self, one: Matrix, other: Matrix) -> float:
        """Return how far two moves of the reference take a corner of it apart, px."""
        return float(np.linalg.norm((one - other)[:2] @ self._corners, axis=0).max())

    @property
    def shaken_px(self) -> float:
        """How far a corner of the reference goes at most without the camera having moved, px."""
        return float(_MOVED_SHARE * self._shape[1])

    def alike(self, one: Matrix, other: Matrix) -> bool:
        """Return whether two moves differ by no more than two measurements by features do."""
        return bool(self.apart(one, other) * self._scale < _SAME_PX)

    def _detect(self, picture: Image) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
        """Return feature places in px of the whole picture, and descriptors."""
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        small = cv2.resize(grey, None, fx=self._scale, fy=self._scale, interpolation=cv2.INTER_AREA)
        keypoints, features = self._orb.detectAndCompute(small, None)
        places = np.array([point.pt for point in keypoints], np.float64).reshape(-1, 2) / self._scale
        return places, None if features is None else np.asarray(features, np.uint8)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A picture in which the shelf's place is known, and pixels on its edges to find it by in others.

    Attributes:
        size: Height and width of its glance, px.
        move: From px of the reference to px of the glance.
        points: float32, (2, n): x and y of the pixels.
        levels: float32, (n,): how light they are.
        slopes: float32, (4, n): what growth, a turn, and a px right and down add to that.
    """

    size: tuple[int, ...]
    move: Matrix
    points: NDArray[np.float32]
    levels: NDArray[np.float32]
    slopes: NDArray[np.float32]

    @classmethod
    def of(cls, glance: Glance, to_frame: Matrix) -> "Anchor":
        """Make it from a glance.

        Args:
            glance: Of the frame.
            to_frame: From px of the reference to px of that frame.
        """
        soft = cv2.blur(glance.grey, _SOFT)
        right = np.asarray(cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=1 / 8), np.float32)
        down = np.asarray(cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=1 / 8), np.float32)
        y, x = _steepest(np.hypot(right, down))
        right, down, size = right[y, x], down[y, x], soft.shape
        u, v = (x - size[1] / 2) / size[1], (y - size[0] / 2) / size[1]
        slopes = np.array([right * u + down * v, down * u - right * v, right, down], np.float32)
        move = np.asarray(glance.from_frame @ to_frame, np.float64)
        return cls(size, move, np.array([x, y], np.float32), soft[y, x].astype(np.float32), slopes)

    def follow(self, glance: Glance, guess: Matrix | None = None) -> Matrix | None:
        """Return the move from px of the reference to px of a frame, if enough of the pixels agree on one.

        Args:
            glance: Of the frame.
            guess: That move as far as it is known; None: as here.
        """
        if len(self.levels) < _LEAST_POINTS or self.size != glance.grey.shape:
            return None
        way = np.eye(3)
        if guess is not None:
            way = np.asarray(glance.from_frame @ guess @ np.linalg.inv(self.move), np.float64)
        found = self._found(np.asarray(cv2.blur(glance.grey, _SOFT), np.uint8), way)
        return None if found is None else np.asarray(glance.to_frame @ found @ self.move, np.float64)

    def _found(self, grey: NDArray[np.uint8], way: Matrix) -> Matrix | None:
        """Return the way from here to another picture: Gauss and Newton's method from a first guess on.

        The light is part of it: what is seen there, times a gain and plus a base, must be what is here.
        """
        rows = np.concatenate([-self.slopes, np.ones((2, len(self.levels)), np.float32)])
        rows[4] = _picked(grey, self.points, way)
        off = self.levels - rows[4] * (self.levels.mean() / max(rows[4].mean(), 1.0))
        for _ in range(_ROUNDS):
            # What an arm or other stock has changed is far off, and must not pull (Geman & McClure 1985).
            near = 1 / (1 + (off / _FAR_LEVELS) ** 2)
            weighted = rows * (near * near)
            answer = np.linalg.solve(weighted @ rows.T + _FIRM, weighted @ self.levels)
            way = way @ _undone(answer, self.size)
            off = self.levels - answer.astype(np.float32) @ rows
            if np.abs(answer[:4]).max() < _STEP_PX:
                break
            rows[4] = _picked(grey, self.points, way)
        else:
            return None
        together = np.count_nonzero(np.abs(off) < _NEAR_LEVELS)
        lit = _LEAST_GAIN < answer[4] < 1 / _LEAST_GAIN
        return way if lit and together >= _TOGETHER_SHARE * len(off) else None


def _steepest(slope: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return y and x of the steepest pixel of each cell, where it is steep enough to tell where it is."""
    rows, columns = slope.shape[0] // _CELL, slope.shape[1] // _CELL
    whole = slope[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
    cells = whole.transpose(0, 2, 1, 3).reshape(rows * columns, _CELL * _CELL)
    cell = np.flatnonzero((cells > _STEEP_LEVELS).any(axis=1))
    best = cells[cell].argmax(axis=1)
    return cell // columns * _CELL + best // _CELL, cell % columns * _CELL + best % _CELL


def _picked(grey: NDArray[np.uint8], points: NDArray[np.float32], way: Matrix) -> NDArray[np.float32]:
    """Return how light a picture is at points, (n,), after a move."""
    x, y = way[:2, :2].astype(np.float32) @ points + way[:2, 2:].astype(np.float32)
    seen = cv2.remap(grey, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen[0], np.float32)


def _undone(answer: NDArray[np.floating], size: tuple[int, ...]) -> Matrix:
    """Return the way back from a small growth, turn (both px at the width) and way, around the middle."""
    grow, turn = (float(value) / size[1] for value in answer[:2])
    x, y = size[1] / 2, size[0] / 2
    # So small a move is undone by its opposite; the next round takes away what is left.
    right = x * grow - y * turn - float(answer[2])
    down = y * grow + x * turn - float(answer[3])
    return np.array([[1 - grow, turn, right], [-turn, 1 - grow, down], [0, 0, 1]])


class Follower:
    """Keeps track of the reference picture in the frames of one camera, at little cost.

    Args:
        reference: uint8, (height, width, 3), BGR: what the planogram's coordinates belong to.
    """

    def __init__(self, reference: Image) -> None:
        self._aligner = Aligner(reference)
        # The reference itself is the best anchor: nothing had to be measured to know its place.
        self._reference = self._anchor = Anchor.of(Glance.of(reference), np.eye(3))
        self._last: Matrix | None = None
        self._found: Matrix | None = None
        self._checked: float | None = None

    @property
    def plain(self) -> bool:
        """Whether the reference has too little structure to be found anywhere."""
        return self._aligner.plain

    def align(self, frame: Image, glance: Glance, at: float) -> Alignment:
        """Return where the reference is in a frame, as `Aligner.align` does.

        Args:
            frame: uint8, (height, width, 3), BGR.
            glance: Of the frame.
            at: Of the frame, seconds of the camera.
        """
        if self._aligner.plain:
            return self._aligner.judged(None, frame)
        move = self._followed(glance)
        if move is None or self._checked is None or at - self._checked >= _CHECK_S:
            move = self._searched(move, frame, glance, at)
        else:
            self._found = None
        self._last = self._last if move is None else move
        return self._aligner.judged(move, frame)

    def _followed(self, glance: Glance) -> Matrix | None:
        """Look where the shelf was last; from a later picture only while the reference cannot tell."""
        later = self._anchor is not self._reference
        for guess in (self._last, None) if later else (self._last,):
            move = self._reference.follow(glance, guess)
            if move is not None:
                self._anchor = self._reference
                return move
        return self._anchor.follow(glance, self._last) if later else None

    def _searched(self, followed: Matrix | None, frame: Image, glance: Glance, at: float) -> Matrix | None:
        """Look for the reference by its features; from there it is followed from now on."""
        before, found = self._found, self._aligner.search(frame)
        self._found, self._checked = found, at
        if found is None:
            return followed
        # Features alone are off by up to a px, and every later frame would be as well.
        exact = self._reference.follow(glance, found)
        if exact is not None and self._aligner.alike(exact, found):
            self._anchor = self._reference
            return exact
        sure = self._anchor is self._reference or (
            followed is not None and self._aligner.alike(followed, found)
        )
        if followed is not None and sure:
            return followed
        # Half a hand before the lens matches anything, and where an arm hides much of the shelf the features
        # that are left are px off: what one frame says alone must be true for the next as well.
        if before is not None and self._aligner.alike(before, found):
            self._anchor = Anchor.of(glance, found)
            return found
        self._checked = None
        near = self._last is not None and self._aligner.apart(self._last, found) < self._aligner.shaken_px
        kept = self._last if near else found
        return kept if followed is None else followed


def moved(points: NDArray[np.float64], transform: Matrix) -> NDArray[np.float64]:
    """Return points, (n, 2), after a 3x3 transform."""
    return np.asarray(
        cv2.perspectiveTransform(points[:, None].astype(np.float64), transform)[:, 0], np.float64
    )


@cache
def _resizing(old: tuple[int, ...], new: tuple[int, ...]) -> Matrix:
    """Return the transform from px of a picture to px of a resized one: borders meet, not pixels."""
    x, y = new[1] / old[1], new[0] / old[0]
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


@cache
def _scaling(reference: tuple[int, ...], frame: tuple[int, ...]) -> Matrix:
    return np.diag([frame[1] / reference[1], frame[0] / reference[0], 1.0])
