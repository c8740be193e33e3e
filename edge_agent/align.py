"""Where the shelf is in a frame: the move from the reference picture, or the news that the camera moved.

Pure. Features of the frame (ORB, Rublee et al. 2011) are matched with those of the reference, and a
similarity is fitted robustly (RANSAC), so that arms and changed stock do not matter.
"""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.preprocess import Image

_WIDTH = 640
_FEATURES = 800
_MIN_REFERENCE_FEATURES = 80
_MIN_INLIERS = 16
_STILL_PX = 0.8
_MOVED_SHARE = 0.04


class View(StrEnum):
    """What a frame says about where the camera looks."""

    ALIGNED = "aligned"
    MOVED = "moved"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Alignment:
    """`to_frame`: float64, (3, 3), from px of the reference to px of the frame."""

    view: View
    to_frame: NDArray[np.float64]


class Aligner:
    """Finds the reference picture in frames.

    Args:
        reference: uint8, (height, width, 3), BGR: what the planogram's coordinates belong to.
    """

    def __init__(self, reference: Image) -> None:
        self._shape = reference.shape[:2]
        self._scale = min(_WIDTH / reference.shape[1], 1.0)
        self._orb = cv2.ORB.create(_FEATURES, fastThreshold=12)
        self._matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
        self._points, self._features = self._detect(reference)

    def align(self, frame: Image) -> Alignment:
        """Return where the reference is in a frame.

        A frame of another size than the reference is taken as the same view, scaled. `UNSURE` where
        the reference has too little structure or too little of it was found; then the alignment is
        that of an unmoved camera.
        """
        unmoved = _scaling(self._shape, frame.shape[:2])
        points, features = self._detect(frame)
        few = len(self._points) < _MIN_REFERENCE_FEATURES or len(points) < _MIN_INLIERS
        if few or self._features is None or features is None:
            return Alignment(View.UNSURE, unmoved)
        found = self._matcher.match(self._features, features)
        before = np.array([self._points[match.queryIdx] for match in found], np.float64)
        after = np.array([points[match.trainIdx] for match in found], np.float64)
        if len(found) < _MIN_INLIERS:
            return Alignment(View.UNSURE, unmoved)
        move, inliers = cv2.estimateAffinePartial2D(
            before, after, method=cv2.RANSAC, ransacReprojThreshold=2.5 / self._scale, confidence=0.999
        )
        if move is None or int(inliers.sum()) < _MIN_INLIERS:
            return Alignment(View.UNSURE, unmoved)
        return self._judged(np.vstack([move, [0, 0, 1]]), unmoved)

    def _judged(self, move: NDArray[np.float64], unmoved: NDArray[np.float64]) -> Alignment:
        """Tell a shaking shelf from a camera that looks elsewhere by how far the corners went."""
        height, width = self._shape
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
        far = float(np.linalg.norm(moved(corners, move) - moved(corners, unmoved), axis=1).max())
        if far < _STILL_PX:
            return Alignment(View.ALIGNED, unmoved)
        return Alignment(View.MOVED if far > _MOVED_SHARE * width else View.ALIGNED, move)

    def _detect(self, picture: Image) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
        """Return feature places in px of the whole picture, and descriptors."""
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        small = cv2.resize(grey, None, fx=self._scale, fy=self._scale, interpolation=cv2.INTER_AREA)
        keypoints, features = self._orb.detectAndCompute(small, None)
        places = np.array([point.pt for point in keypoints], np.float64).reshape(-1, 2) / self._scale
        return places, None if features is None else np.asarray(features, np.uint8)


def moved(points: NDArray[np.float64], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points, (n, 2), after a 3x3 transform."""
    return np.asarray(
        cv2.perspectiveTransform(points[:, None].astype(np.float64), transform)[:, 0], np.float64
    )


def _scaling(reference: tuple[int, ...], frame: tuple[int, ...]) -> NDArray[np.float64]:
    return np.diag([frame[1] / reference[1], frame[0] / reference[0], 1.0])
